"""Pictures with known answers on which the measured judge was examined, until they helped to set its thresholds.

The examination is now `second_blind_pictures`.

Other drawing code (scikit-image's), other objects, other photographs and other degradations than in
`calibration_set`.
"""

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageFilter
from scipy import ndimage
from skimage import draw as pen
from skimage.util import random_noise

from benchmarks.calibration_set import (
    BLUR_LEVELS,
    ROUGH_LEVELS,
    Case,
    levelled,
    photograph,
    quarters,
    to_image,
    to_pixels,
)

INK = {
    "red": (0.80, 0.12, 0.15), "orange": (0.95, 0.52, 0.10), "yellow": (0.93, 0.85, 0.20), "green": (0.16, 0.58, 0.22),
    "blue": (0.16, 0.34, 0.78), "purple": (0.50, 0.22, 0.62), "white": (0.97, 0.97, 0.95), "black": (0.08, 0.08, 0.09),
}  # fmt: skip
SHAPES = ("circle", "square", "triangle", "star", "ring", "heart")


def paint(canvas: np.ndarray, shape: str, rgb, x: float, y: float, radius: float, turn: float = 0.0) -> None:
    """Paint a shape into pixels (S, S, 3), in place; x, y and radius in shares of the side."""
    side = canvas.shape[0]
    angles = {
        "square": np.pi / 4 + np.arange(4) * np.pi / 2,
        "triangle": np.pi + np.arange(3) * 2 * np.pi / 3,
        "hexagon": np.arange(6) * np.pi / 3,
        "star": np.pi + np.arange(10) * np.pi / 5,
    }.get(shape, np.linspace(0, 2 * np.pi, 60, endpoint=False))
    reach = np.where(np.arange(len(angles)) % 2, 0.45, 1.08) if shape == "star" else np.ones(len(angles))
    points = np.stack([np.cos(angles + turn), np.sin(angles + turn)], axis=1) * reach[:, None]
    if shape == "heart":
        # Two semicircles on the shoulders of a triangle.
        left = np.stack([-0.35 + 0.52 * -np.sin(a := np.linspace(0, np.pi, 20)), -0.47 - 0.5 * np.cos(a)], axis=1)[::-1]
        right = left * [1, -1]
        points = np.concatenate([left[::-1], [[1.05, 0.0]], right])
        order = np.argsort(np.arctan2(points[:, 1], points[:, 0] + 0.05))
        points = points[order]
    rows, columns = pen.polygon(*((points * radius + [y, x]) * side).T, shape=canvas.shape[:2])
    inside = np.zeros(canvas.shape[:2], bool)
    inside[rows, columns] = True
    if shape == "ring":
        rows, columns = pen.disk((y * side, x * side), radius * side * 0.55, shape=canvas.shape[:2])
        inside[rows, columns] = False
    canvas[inside] = rgb


def ground(place: str, side: int) -> np.ndarray:
    """A plain colour, or a place with bands of its own making."""
    canvas = np.ones((side, side, 3)) * np.array(INK.get(place, (0.5, 0.5, 0.5)))
    y = np.linspace(0, 1, side)[:, None, None]
    rng = np.random.default_rng(len(place))
    lines = rng.random((side, side, 1)) * 0.06
    if place == "meadow":
        canvas = np.where(y < 0.5, np.array([0.62, 0.80, 0.96]), np.array([0.30, 0.62, 0.22]) + lines)
    elif place == "sea":
        canvas = np.where(y < 0.45, np.array([0.78, 0.88, 0.97]), np.array([0.10, 0.38, 0.66]) + lines)
    elif place == "desert":
        canvas = np.where(y < 0.55, np.array([0.74, 0.87, 0.94]), np.array([0.86, 0.70, 0.42]) + lines)
    elif place == "night sky":
        canvas = np.array([0.07, 0.07, 0.22]) + 0.12 * y + np.zeros((side, side, 3))
        for r, c in rng.integers(2, side - 2, size=(10, 2)):
            canvas[r, c] = 0.95
    return canvas


def reduce(canvas: np.ndarray, factor: int = 3) -> Image.Image:
    """Average blocks of pixels, for smooth edges."""
    side = canvas.shape[0] // factor
    return to_image(canvas.reshape(side, factor, side, factor, 3).mean(axis=(1, 3)))


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def still_life(seed: int) -> Image.Image:
    """A hexagon before stripes under a lamp's glow: objects that the calibration never saw."""
    rng = np.random.default_rng(seed)
    side = 288
    y, x = np.mgrid[:side, :side] / side
    hues = list(INK)[:6]
    base = np.array(INK[hues[seed % 6]])
    glow = 0.75 + 0.5 * np.exp(-((x - rng.random()) ** 2 + (y - 0.2) ** 2) / 0.15)
    canvas = np.clip(base * glow[..., None], 0, 1)
    canvas[(x * 9 + y * 2) % 1 < 0.25] *= 0.8
    paint(canvas, "hexagon", INK[hues[(seed + 2) % 6]], 0.36, 0.55, 0.22, rng.random())
    paint(canvas, "ellipse", (0.96, 0.94, 0.86), 0.72, 0.6, 0.16)
    return reduce(canvas)


def vignette(image: Image.Image) -> np.ndarray:
    """(H, W, 1): squared distance from the middle, 1 in the corners."""
    y, x = np.mgrid[: image.height, : image.width]
    return (((x / image.width - 0.5) ** 2 + (y / image.height - 0.5) ** 2) * 2)[..., None]


def motion_blur(image: Image.Image, sigma: float) -> Image.Image:
    """A box of equal variance in both directions, as of a shaken lens."""
    width = np.sqrt(12 * (sigma * min(image.size) / 64) ** 2 + 1)
    return image.filter(ImageFilter.BoxBlur(float(width - 1) / 2)) if sigma else image


def cases(num_scenes: int = 12, seed: int = 100) -> Iterator[Case]:
    """All examination cases."""
    rng = np.random.default_rng(seed)
    photos = [photograph(name) for name in ("flower.jpg", "motorcycle_left.png", "rocket.jpg")]
    scenes = [still_life(i) for i in range(num_scenes)]
    for image in (*scenes, *photos):
        for sigma in (0.0, 0.8, 1.0, 1.3, 1.6, 2.0, 2.3, 3.6, 5.0):
            yield from levelled(BLUR_LEVELS, motion_blur(image, sigma), "box blur", sigma)
        small = image.resize((64, 64), Image.Resampling.BOX)
        for level, amount in ((0.0, 0.0), (1.0, 0.008), (2.0, 0.04), (4.0, 0.25)):
            noisy = random_noise(to_pixels(small), mode="speckle", var=amount, rng=seed) if amount else to_pixels(small)
            yield from levelled(
                ROUGH_LEVELS,
                to_image(noisy + (rng.normal(0, amount**0.5 / 2, noisy.shape) if amount else 0)),
                "speckle",
                level,
            )
        for level, count in ((0.0, 64), (1.0, 14), (2.0, 7), (4.0, 4)):
            mosaic = small.resize((count, count), Image.Resampling.BILINEAR).resize((64, 64), Image.Resampling.NEAREST)
            yield from levelled(ROUGH_LEVELS, mosaic, "mosaic", level)
    for image in (*scenes, photos[0], photos[1]):
        for level, stops in ((0.0, 0.0), (1.0, 0.4), (2.0, 2.0), (3.0, 4.0)):
            # Underexposed in linear light, the corners most.
            linear = to_pixels(image) ** 2.2 * 2.0**-stops * (1 - 0.1 * stops * vignette(image))
            dark = to_image(linear ** (1 / 2.2))
            yield from levelled(
                {"color_brightness_2": (1.0, 3.0), "color_brightness_1": (0.0, 2.0)}, dark, "underexposure", level
            )
        for fade in (0.0, 0.2, 0.8, 0.95):
            pixels = to_pixels(image)
            grey = to_image(pixels * (1 - fade) + fade * pixels.mean(axis=-1, keepdims=True))
            yield Case("color_aesthetic_2", grey, fade < 0.5, "less saturation", fade)
            if fade != 0.2:
                yield Case("color_aesthetic_1", grey, fade < 0.5, "less saturation", fade)
        for contrast, level in ((1.0, 0.0), (0.03, 3.0)):
            faint = to_image(to_pixels(image) * contrast + 0.5 * (1 - contrast))
            yield Case("lighting_distinction_3", faint, level < 2, "less contrast", level)
    yield from _layout_cases(num_scenes, rng)
    yield from _alignment_cases(num_scenes, rng)


def _layout_cases(num_scenes: int, rng: np.random.Generator) -> Iterator[Case]:
    side = 192
    for i in range(num_scenes):
        paper, ink = list(INK)[i % 6], ("white", "black", "yellow", "blue")[(i + i // 6) % 4]
        if paper == ink:
            ink = "red"
        for x, level in ((0.5, 0.0), (0.62, 1.0), (0.8, 2.0)):
            canvas = ground(paper, side)
            paint(canvas, "hexagon", INK[ink], x, 0.5, 0.17)
            levels = {"symmetry_1": (0.0, 1.0), "symmetry_2": (0.0, 2.0)}
            yield from levelled(levels, reduce(canvas), "off the middle", level)
        for radius, mix, level in ((0.26, 0.0, 0.0), (0.12, 0.45, 1.0), (0.05, 0.8, 2.0)):
            canvas = ground(paper, side)
            rgb = np.array(INK[ink]) * (1 - mix) + np.array(INK[paper]) * mix
            paint(canvas, "hexagon", rgb, 0.45, 0.52, radius)
            yield from levelled(
                {"main_object_1": (0.0, 1.0), "main_object_2": (1.0, 2.0)}, reduce(canvas), "smaller and fainter", level
            )
        for num_objects in (0, 1, 9, 30):
            canvas = ground(paper, side)
            for k in range(num_objects):
                across = int(np.ceil(np.sqrt(num_objects)))
                x, y = ((k % across) + 0.5) / across, ((k // across) + 0.5) / across
                paint(
                    canvas,
                    ("hexagon", "triangle", "ring")[k % 3],
                    INK[list(INK)[(k * 3 + i + 1) % 8]],
                    x,
                    y,
                    min(0.2, 0.45 / across),
                    rng.random(),
                )
            truths = {
                "richness_1": num_objects >= 30,
                "richness_2": num_objects >= 9,
                "richness_3": num_objects >= 1,
                "richness_4": num_objects > 0,
            }
            for question_id, truth in truths.items():
                yield Case(question_id, reduce(canvas), truth, "fewer objects", -num_objects)
        ball = np.full((side, side, 3), 0.5)
        y, x = np.mgrid[:side, :side] / side - 0.5
        ball += (0.48 * np.sign(x + 0.1 * (i % 3)) * (np.hypot(x, y) < 0.33))[..., None] + 0.18 * x[..., None]
        for contrast, level in ((1.0, 0.0), (0.42, 1.0), (0.17, 2.0), (0.03, 3.0)):
            levels = {
                "lighting_distinction_1": (0.0, 1.0),
                "lighting_distinction_2": (1.0, 2.0),
                "lighting_distinction_3": (2.0, 3.0),
            }
            yield from levelled(levels, to_image(0.5 + (ball - 0.5) * contrast), "less contrast", level)
        for num_scraps in (0, 40, 60):
            canvas = to_pixels(still_life(i))
            for _ in range(num_scraps):
                r, c = rng.integers(2, 60, size=2)
                rows, columns = pen.ellipse(r, c, rng.uniform(1.4, 2.2), rng.uniform(1.4, 2.6), shape=(64, 64))
                canvas[canvas.shape[0] // 96 * rows, canvas.shape[1] // 96 * columns] = INK[list(INK)[rng.integers(8)]]
            small = to_image(canvas)
            yield Case("detail_refinement_6", small, num_scraps == 0, "shards", num_scraps)
    for name in ("flower.jpg", "motorcycle_left.png", "ihc.png"):
        for sharp in quarters(photograph(name, side=384)):
            for sigma in (0.0, 1.5, 2.8, 4.5):
                soft = motion_blur(sharp, sigma)
                yield from levelled(
                    {"detail_refinement_1": (0.0, 1.3), "detail_refinement_2": (0.0, 2.5)}, soft, "lost detail", sigma
                )


def _alignment_cases(num_scenes: int, rng: np.random.Generator) -> Iterator[Case]:
    """Right and wrong texts for pictures of the vocabulary; each wrong text is wrong in one word."""
    places = (
        "blue background",
        "white background",
        "meadow",
        "sea",
        "desert",
        "night sky",
        "black background",
        "green background",
    )
    clear = {
        "meadow": "red yellow purple black",
        "sea": "red yellow green black",
        "desert": "red blue green purple",
        "night sky": "red yellow white green",
    }
    for i in range(5 * num_scenes):
        place = places[i % len(places)]
        plain = place.removesuffix(" background")
        inks = clear.get(place, "red yellow purple orange").split()
        shape, ink, count = SHAPES[i % 6], inks[(i // 3) % 4], 1 + (i // 7) % 2
        canvas = ground(plain, 192)
        for k in range(count):
            x = 0.5 if count == 1 else (0.28, 0.72)[k]
            paint(
                canvas,
                shape,
                np.array(INK[ink]) * rng.uniform(0.9, 1.0),
                x,
                0.5,
                0.24 if count == 1 else 0.18,
                rng.normal(0, 0.08),
            )
        image = reduce(canvas)
        where = f"on a {place}" if "background" in place else f"{'on' if place == 'sea' else 'in'} the {place}"
        number, plural = (("a", ""), ("two", "s"))[count - 1]
        other_shape, other_ink = SHAPES[(i + 1 + i // 6 % 4) % 6], inks[(i // 3 + 1) % 4]
        right = f"{number} {ink} {shape}{plural} {where}"
        wrong = [
            f"{number} {ink} {other_shape}{plural} {where}",
            f"{number} {other_ink} {shape}{plural} {where}",
            f"{'three'} {ink} {shape}s {where}",
            f"{number} {ink} {shape}{plural} {'in the meadow' if place != 'meadow' else 'on a white background'}",
        ][i % 4]
        yield Case("alignment", image, True, "true text", 0.0, right)
        yield Case("alignment", image, False, "one word wrong", 1.0, wrong)
        soft = to_image(ndimage.gaussian_filter(to_pixels(image), (1, 1, 0)) * 0.85)
        yield Case("alignment", soft, True, "true text, soft and dim", 0.0, right)
