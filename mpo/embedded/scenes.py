"""Captioned scenes of deliberately mixed quality: what the embedded model learnt from.

A `Scene` is a typed description (objects, place, position); `caption` puts it into words and `paint` into
pixels. The caption never mentions quality. `Defects` says what is wrong with a picture (blur, gloom, wash,
noise, clutter, a cut-off or tiny subject, blocks), so that a model trained on the captions alone produces
pictures whose quality varies, as a real model's do.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

IMAGE_SIZE = 64
CHUNK = 250  # scenes drawn from one random stream
_SUPERSAMPLE = 3

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 40),
    "orange": (244, 140, 20),
    "yellow": (245, 215, 35),
    "green": (40, 155, 60),
    "blue": (35, 85, 205),
    "purple": (130, 50, 165),
    "white": (246, 246, 246),
    "black": (24, 24, 26),
}
SHAPES = ("circle", "square", "triangle", "star", "ring", "heart")
PLACES = ("meadow", "sea", "desert", "night sky")
POSITIONS = ("left", "right", "top", "bottom")
COUNTS = ("a", "two", "three")

_PLACE_PHRASES = {
    "meadow": "in a meadow",
    "sea": "on the sea",
    "desert": "in the desert",
    "night sky": "in the night sky",
}
_POSITION_PHRASES = {"left": "on the left", "right": "on the right", "top": "at the top", "bottom": "at the bottom"}
# Colours that a person could not tell from the place behind them.
_HIDDEN_ON = {
    "meadow": {"green"},
    "sea": {"blue", "white"},
    "desert": {"yellow", "orange"},
    "night sky": {"black", "blue", "purple"},
}


@dataclass(frozen=True)
class Group:
    """`count` (1 to 3) equal objects of one shape and colour."""

    shape: str
    colour: str
    count: int = 1


@dataclass(frozen=True)
class Scene:
    """What a caption says. `place` is a colour of `COLOURS` (a plain background) or one of `PLACES`."""

    groups: tuple[Group, ...]
    place: str
    position: Literal["left", "right", "top", "bottom"] | None = None  # None = the middle


@dataclass(frozen=True)
class Defects:
    """Amounts of degradation; all zero is a good picture. Lengths are in pixels of the finished picture."""

    blur_sigma: float = 0.0  # pixels
    gloom: float = 0.0  # 0 = none, 1 = black
    wash: float = 0.0  # 0 = none, 1 = uniform grey
    noise_sigma: float = 0.0  # of pixels in [0, 1], in grains of two pixels
    num_fragments: int = 0  # clutter
    cut_off: float = 0.0  # share of the subject pushed beyond the frame
    shrink: float = 1.0  # the subject's size is multiplied by this
    block: int = 1  # pixels merged into blocks of this size
    flat: bool = False  # no shading, shadow or texture

    @property
    def is_none(self) -> bool:
        return self == Defects()


def caption(scene: Scene) -> str:
    """The scene in words, such as "two red circles and a blue star in a meadow"."""
    groups = " and ".join(group_phrase(group) for group in scene.groups)
    position = f" {_POSITION_PHRASES[scene.position]}" if scene.position else ""
    return f"{groups}{position} {place_phrase(scene.place)}"


def place_phrase(place: str) -> str:
    """Such as "in a meadow" or "on a red background"."""
    return _PLACE_PHRASES.get(place, f"on a {place} background")


def group_phrase(group: Group) -> str:
    """Such as "a red circle" or "two red circles"."""
    number = COUNTS[group.count - 1] if group.count > 1 else "an" if group.colour == "orange" else "a"
    return f"{number} {group.colour} {group.shape}{'s' if group.count > 1 else ''}"


def sample_scene(rng: np.random.Generator) -> Scene:
    """A random scene: one group (4 in 5) or two, on a plain background (3 in 5) or in a place."""
    place, colours = sample_place(rng)
    num_groups = 1 if rng.random() < 0.8 else 2
    chosen = rng.choice(colours, size=num_groups, replace=False)
    if num_groups == 2:
        shapes = rng.choice(SHAPES, size=2, replace=False)
        return Scene(tuple(Group(str(s), str(c)) for s, c in zip(shapes, chosen, strict=True)), place)
    count = int(rng.choice([1, 2, 3], p=[0.6, 0.25, 0.15]))
    position = None
    if count == 1 and rng.random() < 0.35:
        position = POSITIONS[rng.integers(len(POSITIONS))]
    return Scene((Group(SHAPES[rng.integers(len(SHAPES))], str(chosen[0]), count),), place, position)


def sample_place(rng: np.random.Generator) -> tuple[str, list[str]]:
    """A place, plain (3 in 5) or not, and the colours that a person can tell from it."""
    plain = rng.random() < 0.6
    place = str(rng.choice(list(COLOURS))) if plain else str(rng.choice(PLACES))
    hidden = {place} if plain else _HIDDEN_ON[place]
    if place == "orange":
        hidden = hidden | {"yellow", "red"}
    if place in ("yellow", "red"):
        hidden = hidden | {"orange"}
    return place, [c for c in COLOURS if c not in hidden]


def sample_defects(rng: np.random.Generator) -> Defects:
    """No defect (2 in 5), one (2 in 5) or two (1 in 5), each of a random amount."""
    num_defects = int(rng.choice([0, 1, 2], p=[0.4, 0.4, 0.2]))
    kinds = ("blur", "gloom", "wash", "noise", "clutter", "cut_off", "shrink", "block", "flat")
    weights = np.array([2.0, 1.5, 1.5, 1.2, 1.2, 1.0, 1.0, 0.8, 1.0])
    defects = Defects()
    for kind in rng.choice(kinds, size=num_defects, replace=False, p=weights / weights.sum()):
        match str(kind):
            case "blur":
                defects = replace(defects, blur_sigma=float(rng.uniform(1.0, 3.0)))
            case "gloom":
                defects = replace(defects, gloom=float(rng.uniform(0.45, 0.8)))
            case "wash":
                defects = replace(defects, wash=float(rng.uniform(0.45, 0.8)))
            case "noise":
                defects = replace(defects, noise_sigma=float(rng.uniform(0.07, 0.2)))
            case "clutter":
                defects = replace(defects, num_fragments=int(rng.integers(8, 26)))
            case "cut_off":
                defects = replace(defects, cut_off=float(rng.uniform(0.35, 0.6)))
            case "shrink":
                defects = replace(defects, shrink=float(rng.uniform(0.4, 0.6)))
            case "block":
                defects = replace(defects, block=int(rng.choice([4, 6, 8])))
            case _:
                defects = replace(defects, flat=True)
    return defects


def paint(scene: Scene, defects: Defects, rng: np.random.Generator) -> Image.Image:
    """The scene as an RGB picture of 64x64 pixels. `rng` varies what the caption leaves open."""
    canvas = paint_place(scene.place, flat=defects.flat, rng=rng)
    if defects.num_fragments:
        _paint_fragments(canvas, defects.num_fragments, rng)
    for placed in _layout(scene, defects, rng):
        canvas = paint_object(canvas, placed, flat=defects.flat)
    return degrade(canvas, defects, rng)


def paint_chunk(seed: int, chunk: int) -> tuple[np.ndarray, list[str]]:
    """Scenes as uint8 (N, H, W, 3) and their captions; the same for the same seed and chunk."""
    rng = np.random.default_rng((seed, chunk))
    pixels = np.empty((CHUNK, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    captions = []
    for i in range(CHUNK):
        scene = sample_scene(rng)
        pixels[i] = np.asarray(paint(scene, sample_defects(rng), rng))
        captions.append(caption(scene))
    return pixels, captions


@dataclass(frozen=True)
class PlacedObject:
    """An object with its place in the picture; lengths are shares of the picture's side."""

    shape: str
    rgb: np.ndarray = field(repr=False)
    x: float
    y: float
    radius: float
    angle: float  # radians


def _layout(scene: Scene, defects: Defects, rng: np.random.Generator) -> list[PlacedObject]:
    """Objects side by side around the middle, or at the side that the caption names."""
    objects = [group for group in scene.groups for _ in range(group.count)]
    n = len(objects)
    if not n:
        return []
    radius = {1: 0.24, 2: 0.175, 3: 0.14}[n] * rng.uniform(0.88, 1.12) * defects.shrink
    spread = {1: 0.0, 2: 0.235, 3: 0.31}[n]
    offset = {None: (0.0, 0.0), "left": (-0.22, 0.0), "right": (0.22, 0.0), "top": (0.0, -0.22), "bottom": (0.0, 0.22)}
    dx, dy = offset[scene.position]
    if scene.position:
        radius *= 0.8
    if defects.cut_off:
        # Push the subject over one side until that share of its width is gone.
        beyond = 0.5 - radius + 2 * radius * defects.cut_off
        side = scene.position or str(rng.choice(POSITIONS if n == 1 else ("top", "bottom")))
        ux, uy = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}[side]
        dx, dy = ux * beyond, uy * beyond
    jitter_x, jitter_y = rng.normal(0, 0.02, size=2)
    tilt = rng.normal(0, 0.12) if n > 1 else 0.0
    placed = []
    for i, group in enumerate(objects):
        along = 0.0 if n == 1 else -spread + 2 * spread * i / (n - 1)
        rgb = np.clip(np.array(COLOURS[group.colour], dtype=np.float32) + rng.normal(0, 5, size=3), 0, 255)
        placed.append(
            PlacedObject(
                shape=group.shape,
                rgb=rgb,
                x=0.5 + dx + jitter_x + along * math.cos(tilt),
                y=0.5 + dy + jitter_y + along * math.sin(tilt),
                radius=radius * rng.uniform(0.95, 1.05),
                angle=rng.normal(0, 0.08),
            )
        )
    return placed


def outline(shape: str) -> np.ndarray:
    """The shape's outline as points (N, 2), within the unit circle, y downwards. A ring's is its outer edge."""
    if shape in ("circle", "ring"):
        t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        return np.stack([np.cos(t), np.sin(t)], axis=1)
    if shape == "square":
        return np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * 0.85
    if shape == "triangle":
        t = np.array([-90, 30, 150]) * np.pi / 180
        return np.stack([np.cos(t), np.sin(t)], axis=1) * 1.1 + np.array([0, 0.2])
    if shape == "star":
        t = (-90 + 36 * np.arange(10)) * np.pi / 180
        r = np.where(np.arange(10) % 2 == 0, 1.12, 0.47)
        return np.stack([np.cos(t), np.sin(t)], axis=1) * r[:, None]
    if shape == "heart":
        t = np.linspace(0, 2 * np.pi, 60, endpoint=False)
        x = 16 * np.sin(t) ** 3
        y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
        return np.stack([x, y + 2.5], axis=1) / 15.5
    raise ValueError(f"shape={shape!r} is unknown; known shapes: {', '.join(SHAPES)}")


def _mask(placed: PlacedObject, size: int) -> Image.Image:
    cos, sin = math.cos(placed.angle), math.sin(placed.angle)
    points = outline(placed.shape) @ np.array([[cos, sin], [-sin, cos]])
    points = (points * placed.radius + np.array([placed.x, placed.y])) * size
    mask = Image.new("L", (size, size), 0)
    pen = ImageDraw.Draw(mask)
    pen.polygon([tuple(p) for p in points], fill=255)
    if placed.shape == "ring":
        centre, hole = np.array([placed.x, placed.y]) * size, placed.radius * 0.52 * size
        pen.ellipse([*(centre - hole), *(centre + hole)], fill=0)
    return mask


def paint_object(canvas: np.ndarray, placed: PlacedObject, *, flat: bool) -> np.ndarray:
    """Paint one object over `canvas` (H, W, 3) in [0, 255]; lit from the upper left unless flat."""
    size = canvas.shape[0]
    mask = _mask(placed, size)
    if not flat:
        moved = replace(placed, x=placed.x + 0.03, y=placed.y + 0.04)
        shadow = _mask(moved, size).filter(ImageFilter.GaussianBlur(size * 0.02))
        canvas = canvas * (1 - 0.55 * np.asarray(shadow, dtype=np.float32)[..., None] / 255)
    colour = np.broadcast_to(placed.rgb, canvas.shape)
    if not flat:
        y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
        toward_light = -((x - placed.x) + (y - placed.y)) / (2 * placed.radius)  # about -1 to 1 over the object
        shade = np.clip(1 + 0.28 * toward_light, 0.6, 1.35)[..., None]
        glint = np.exp(
            -(
                ((x - placed.x + 0.35 * placed.radius) ** 2 + (y - placed.y + 0.35 * placed.radius) ** 2)
                / (2 * (0.28 * placed.radius) ** 2)
            )
        )
        colour = colour * shade + 70 * glint[..., None]
    alpha = np.asarray(mask, dtype=np.float32)[..., None] / 255
    return np.clip(canvas * (1 - alpha) + colour * alpha, 0, 255)


def paint_place(place: str, *, flat: bool, rng: np.random.Generator) -> np.ndarray:
    """The background (S, S, 3) in [0, 255], supersampled."""
    size = IMAGE_SIZE * _SUPERSAMPLE
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    y, x = y[..., None], x[..., None]
    if place in COLOURS:
        base = np.array(COLOURS[place], dtype=np.float32) + rng.normal(0, 5, size=3)
        light = np.ones_like(y) if flat else 1.06 - 0.2 * y
        return np.clip(base * light, 0, 255)
    horizon = rng.uniform(0.52, 0.6)
    below = y > horizon + (0 if flat else 0.02 * np.sin(2 * np.pi * (x * 1.2 + rng.random())))
    wave = rng.random()
    match place:
        case "meadow":
            upper = _blend((120, 185, 240), (205, 230, 250), y / horizon)
            lower = _blend((120, 190, 80), (60, 135, 45), (y - horizon) / (1 - horizon))
            texture = 16 * np.sin(2 * np.pi * (x * 22 + wave)) * np.sin(2 * np.pi * (y * 13 + x * 3))
        case "sea":
            upper = _blend((150, 205, 245), (225, 240, 250), y / horizon)
            lower = _blend((45, 130, 190), (15, 70, 145), (y - horizon) / (1 - horizon))
            texture = 18 * np.sin(2 * np.pi * (y * 14 + 0.25 * np.sin(2 * np.pi * (x * 3 + wave))))
        case "desert":
            upper = _blend((150, 205, 235), (250, 235, 200), y / horizon)
            lower = _blend((235, 200, 130), (205, 155, 85), (y - horizon) / (1 - horizon))
            texture = 11 * np.sin(2 * np.pi * (y * 11 - x * 2 + 0.3 * np.sin(2 * np.pi * (x * 2 + wave))))
        case "night sky":
            sky = _blend((12, 14, 45), (45, 45, 95), y)
            return _paint_stars(sky, num_stars=0 if flat else int(rng.integers(10, 18)), rng=rng)
        case _:
            raise ValueError(f"place={place!r} is unknown; known: {', '.join((*COLOURS, *PLACES))}")
    if flat:
        texture = np.zeros_like(y)
    return np.clip(np.where(below, lower + texture, upper), 0, 255)


def _blend(upper: tuple[int, int, int], lower: tuple[int, int, int], share: np.ndarray) -> np.ndarray:
    share = np.clip(share, 0, 1)
    return np.array(upper) * (1 - share) + np.array(lower) * share + np.zeros((share.shape[0], share.shape[0], 1))


def _paint_stars(sky: np.ndarray, *, num_stars: int, rng: np.random.Generator) -> np.ndarray:
    size = sky.shape[0]
    picture = Image.fromarray(sky.astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    for x, y in rng.uniform(0.03, 0.97, size=(num_stars, 2)) * size:
        r = rng.uniform(0.006, 0.011) * size
        pen.ellipse([x - r, y - r, x + r, y + r], fill=(250, 250, 225))
    return np.asarray(picture, dtype=np.float32)


def _paint_fragments(canvas: np.ndarray, num_fragments: int, rng: np.random.Generator) -> None:
    """Small scraps of random colours strewn over the background, in place."""
    size = canvas.shape[0]
    picture = Image.fromarray(canvas.astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    palette = list(COLOURS.values())
    for _ in range(num_fragments):
        centre = rng.uniform(0.02, 0.98, size=2)
        corners = centre + rng.normal(0, 0.035, size=(4, 2))
        pen.polygon([tuple(p * size) for p in corners], fill=palette[rng.integers(len(palette))])
    canvas[:] = np.asarray(picture)


def degrade(canvas: np.ndarray, defects: Defects, rng: np.random.Generator) -> Image.Image:
    """Reduce to the final size, then apply the defects that a lens, a sensor or a codec would."""
    picture = Image.fromarray(canvas.astype(np.uint8)).reduce(_SUPERSAMPLE)
    if defects.blur_sigma:
        picture = picture.filter(ImageFilter.GaussianBlur(defects.blur_sigma))
    pixels = np.asarray(picture, dtype=np.float32) / 255
    if defects.wash:
        pixels = pixels * (1 - defects.wash) + 0.68 * defects.wash
    if defects.gloom:
        pixels = pixels * (1 - defects.gloom)
    if defects.noise_sigma:
        granularity = rng.normal(0, defects.noise_sigma, size=(IMAGE_SIZE // 2, IMAGE_SIZE // 2, 3))
        pixels = pixels + granularity.repeat(2, axis=0).repeat(2, axis=1)
    picture = Image.fromarray((np.clip(pixels, 0, 1) * 255).round().astype(np.uint8))
    if defects.block > 1:
        small = max(1, IMAGE_SIZE // defects.block)
        picture = picture.resize((small, small), Image.Resampling.BOX).resize(
            (IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.NEAREST
        )
    return picture
