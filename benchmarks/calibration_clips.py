"""Clips with known answers from which the measured judge's thresholds for clips were set.

A shape that moves over a drawn place, with defects of known amounts, and a camera that pans, zooms or shakes over
photographs. Amounts near a level's border, about which people would disagree, are left out. The examination set
(`heldout_clips`) is drawn by other code.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage

from benchmarks.calibration_set import BLUR_LEVELS, ROUGH_LEVELS, Case, blocks, granularity, photograph, to_image
from mpo.embedded.scenes import COLOURS, SHAPES, Defects, Scene, outline, paint
from reward.media import Clip

SIDE, NUM_FRAMES, FPS = 64, 8, 8.0
STEPS = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "up": (0.0, -1.0), "down": (0.0, 1.0)}  # x, y downwards
PLACE_PHRASES = {
    "meadow": "in a meadow",
    "sea": "on the sea",
    "desert": "in the desert",
    "night sky": "in the night sky",
}
# Colours that stand out on every ground below.
GROUNDS = {
    "white": ("red", "blue", "green", "black"),
    "black": ("yellow", "white", "orange", "red"),
    "blue": ("yellow", "white", "red", "orange"),
    "meadow": ("red", "yellow", "purple", "black"),
    "desert": ("red", "blue", "green", "purple"),
    "night sky": ("yellow", "white", "red", "orange"),
}

# question: (yes up to this amount, no from this amount on)
FLICKER_LEVELS = {  # standard deviation of the frames' brightness, as a share of it
    "image_quality_stability_1": (0.0, 0.04),
    "image_quality_stability_2": (0.02, 0.1),
    "image_quality_stability_3": (0.05, 0.2),
    "image_quality_stability_4": (0.12, 0.4),
}
PULSE_LEVELS = {  # sigma, in pixels, of the blur that every other pair of frames has
    "image_quality_stability_1": (0.0, 1.0),
    "image_quality_stability_2": (0.3, 1.8),
    "image_quality_stability_3": (0.6, 2.5),
    "image_quality_stability_4": (1.0, 5.0),
}
JERK_LEVELS = {  # standard deviation of the subject's place around its path, in sides
    "movement_smoothness_1": (0.002, 0.015),
    "movement_smoothness_2": (0.006, 0.04),
}
SHAKE_LEVELS = {  # the same of the camera
    "camera_stability_1": (0.0, 0.012),
    "camera_stability_2": (0.004, 0.03),
    "camera_movement_2": (0.004, 0.03),
}
WOBBLE_LEVELS = {  # standard deviation of the outline's radius, as a share of it, from frame to frame
    "shape_throughout_1": (0.01, 0.12),
    "shape_throughout_2": (0.04, 0.25),
    "shape_throughout_3": (0.1, 0.45),
    "shape_throughout_4": (0.2, 0.8),
}
VANISH_LEVELS = {  # share of the frames in which the subject is missing
    "shape_throughout_1": (0.0, 0.25),
    "shape_throughout_2": (0.0, 0.25),
    "shape_throughout_3": (0.0, 0.5),
    "shape_throughout_4": (0.0, 0.75),
}
# Here more is a yes: (no up to this amount, yes from this amount on), in sides over the whole clip.
TRAVEL_LEVELS = {
    "object_motion_1": (0.25, 0.5),
    "object_motion_2": (0.1, 0.25),
    "object_motion_3": (0.03, 0.1),
    "object_motion_4": (0.0, 0.03),
}
PAN_LEVELS = {question.replace("object", "camera"): levels for question, levels in TRAVEL_LEVELS.items()}
GLOOM_LEVELS = {"lighting_accurate_3": (0.6, 0.93)}
CLEAR_LEVELS = {question.replace("clarity", "clear"): levels for question, levels in BLUR_LEVELS.items()}
CLIP_ROUGH_LEVELS = {question: ROUGH_LEVELS[question] for question in ("detail_refinement_3", "detail_refinement_4")}


@dataclass(frozen=True)
class Film:
    """A shape over a ground. Lengths are in sides of the frame; all defects 0 is a good clip."""

    shape: str
    colour: str
    ground: str  # a colour, for a plain background, or a place
    motion: str | None = None  # left, right, up or down; None = it stands still
    travel: float = 0.4  # over the whole clip; means nothing if it stands still
    radius: float = 0.15
    gentle: bool = False  # it speeds up and slows down instead of moving evenly
    flat: bool = True  # no light from the upper left, and no shadow
    jerk: float = 0.0  # standard deviation around the path
    wobble: float = 0.0  # of the outline, as a share of the radius
    vanish: float = 0.0  # share of the frames without the subject
    flicker: float = 0.0  # standard deviation of the brightness, as a share of it
    blur_sigma: float = 0.0  # pixels
    gloom: float = 0.0  # 0 = none, 1 = black


def describe(film: Film) -> str:
    """The film in the words of the embedded model's captions; it never mentions quality."""
    article = "an" if film.colour == "orange" else "a"
    does = f"moves {film.motion}" if film.motion else "stands still"
    where = PLACE_PHRASES.get(film.ground, f"on a {film.ground} background")
    return f"{article} {film.colour} {film.shape} {does} {where}"


def shoot(film: Film, rng: np.random.Generator, num_frames: int = NUM_FRAMES) -> Clip:
    """The film as a clip of 64x64 pixels. `rng` varies what the film leaves open."""
    ground = paint(Scene((), film.ground), Defects(), rng)
    rgb = np.clip(np.array(COLOURS[film.colour]) + rng.normal(0, 5, 3), 0, 255)
    step = np.array(STEPS[film.motion] if film.motion else (0.0, 0.0))
    along = np.linspace(-0.5, 0.5, num_frames)
    along = (np.sin(np.pi * along) / 2 if film.gentle else along)[:, None] * film.travel * step
    centres = 0.5 + rng.normal(0, 0.03, 2) * (step == 0) + along + rng.normal(0, film.jerk, (num_frames, 2))
    brightness = 1 + film.flicker * unit_noise(num_frames, rng)
    missing = rng.permutation(num_frames) < round(film.vanish * num_frames)
    frames = []
    for centre, bright, gone in zip(centres, brightness, missing, strict=True):
        frame = ground if gone else add_shape(ground, film, centre, rgb, rng)
        if film.blur_sigma:
            frame = frame.filter(ImageFilter.GaussianBlur(film.blur_sigma))
        frames.append(np.asarray(frame) * bright * (1 - film.gloom))
    return to_clip(np.stack(frames) / 255)


def unit_noise(num_frames: int, rng: np.random.Generator) -> np.ndarray:
    """(F,) random numbers of mean 0 and standard deviation 1 exactly, so that an amount means the same in every clip."""
    noise = rng.normal(size=num_frames)
    return (noise - noise.mean()) / noise.std()


def add_shape(
    ground: Image.Image, film: Film, centre: np.ndarray, rgb: np.ndarray, rng: np.random.Generator
) -> Image.Image:
    """The ground with the film's shape at a centre (x, y), smooth at its edges."""
    points = outline(film.shape)
    if film.wobble:  # a smooth random change of the radius along the outline
        angle = np.arctan2(points[:, 1], points[:, 0])
        waves = rng.normal(size=(2, 4)) / 2
        bump = sum(waves[0, k] * np.cos((k + 2) * angle) + waves[1, k] * np.sin((k + 2) * angle) for k in range(4))
        points = points * np.clip(1 + film.wobble * bump, 0.1, 2.5)[:, None]
    alpha = covered(film, centre, points)
    pixels = np.asarray(ground, dtype=np.float64)
    if film.flat:
        return Image.fromarray((pixels * (1 - alpha) + rgb * alpha).round().astype(np.uint8))
    shadow = ndimage.gaussian_filter(covered(film, centre + 0.035, points), (1.3, 1.3, 0))
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    light = 1 - 0.14 * (x - centre[0] + y - centre[1]) / film.radius
    lit = rgb * np.clip(light, 0.6, 1.35)[..., None]
    return to_image((pixels * (1 - 0.5 * shadow) * (1 - alpha) + lit * alpha) / 255)


def covered(film: Film, centre: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(64, 64, 1): how much of each pixel the shape covers."""
    scale = 4
    mask = Image.new("L", (SIDE * scale, SIDE * scale), 0)
    pen = ImageDraw.Draw(mask)
    pen.polygon([tuple(point) for point in (centre + points * film.radius) * SIDE * scale], fill=255)
    if film.shape == "ring":
        middle, hole = centre * SIDE * scale, 0.52 * film.radius * SIDE * scale
        pen.ellipse([*(middle - hole), *(middle + hole)], fill=0)
    return np.asarray(mask.reduce(scale), dtype=np.float64)[..., None] / 255


def to_clip(frames: np.ndarray, fps: float = FPS) -> Clip:
    """Frames (F, H, W, 3) in about [0, 1] -> clip, clipped as a camera would."""
    return Clip((np.clip(frames, 0, 1) * 255).round().astype(np.uint8), np.arange(len(frames)) / fps)


def look_around(picture: Image.Image, offsets: np.ndarray, zooms: np.ndarray) -> Clip:
    """A camera that shows 64 pixels of a picture: window centres off the middle (F, 2) in sides, and zooms (F,)."""
    middle, frames = np.array(picture.size) / 2, []
    for offset, zoom in zip(offsets, zooms, strict=True):
        left, top = middle + offset * SIDE - SIDE / zoom / 2
        window = (1 / zoom, 0, left, 0, 1 / zoom, top)
        frames.append(picture.transform((SIDE, SIDE), Image.Transform.AFFINE, window, Image.Resampling.BICUBIC))
    return to_clip(np.stack([np.asarray(frame) for frame in frames]) / 255)


def pan(direction: np.ndarray, travel: float) -> np.ndarray:
    """(F, 2) window offsets of an even pan."""
    return np.linspace(-0.5, 0.5, NUM_FRAMES)[:, None] * travel * direction


def clip_cases(
    levels: dict[str, tuple[float, float]], clip: Clip, series: str, amount: float, *, more_is_yes: bool = False
) -> Iterator[Case]:
    """The case of each level whose answer at this amount is beyond dispute."""
    for question_id, (low, high) in levels.items():
        if amount <= low or amount >= high:
            truth = amount >= high if more_is_yes else amount <= low
            yield Case(question_id, clip, truth, series, -amount if more_is_yes else amount)


def good_films(num_films: int, rng: np.random.Generator) -> list[Film]:
    """Films without a defect, of all grounds, shapes and directions."""
    films = []
    for i in range(num_films):
        ground = list(GROUNDS)[i % len(GROUNDS)]
        motion = (*STEPS, None)[i % 5]
        shape, colour = str(rng.choice(SHAPES)), str(rng.choice(GROUNDS[ground]))
        films.append(Film(shape, colour, ground, motion, gentle=i % 3 == 1, flat=i % 2 == 0))
    return films


def cases(num_films: int = 20, seed: int = 0) -> Iterator[Case]:
    """All calibration cases."""
    rng = np.random.default_rng(seed)
    films = good_films(num_films, rng)
    for film in films:
        for amount in (0.0, 0.02, 0.04, 0.05, 0.1, 0.12, 0.2, 0.4):
            flickering = shoot(replace(film, flicker=amount), rng)
            yield from clip_cases(FLICKER_LEVELS, flickering, "flicker", amount)
        for amount in (0.0, 0.3, 0.6, 1.0, 1.8, 2.5, 5.0):
            yield from clip_cases(PULSE_LEVELS, pulsing(shoot(film, rng), amount), "pulsing blur", amount)
        for amount in (0.0, 0.002, 0.006, 0.015, 0.04, 0.08):
            yield from clip_cases(JERK_LEVELS, shoot(replace(film, jerk=amount), rng), "jerk", amount)
        for amount in (0.0, 0.01, 0.04, 0.1, 0.12, 0.2, 0.25, 0.45, 0.8):
            yield from clip_cases(WOBBLE_LEVELS, shoot(replace(film, wobble=amount), rng), "wobble", amount)
        for amount in (0.0, 0.25, 0.5, 0.75):
            yield from clip_cases(VANISH_LEVELS, shoot(replace(film, vanish=amount), rng), "vanishing", amount)
        for amount in (0.0, 0.03, 0.1, 0.25, 0.5, 0.6):
            moved = replace(film, motion=film.motion or "left", travel=amount)
            yield from clip_cases(TRAVEL_LEVELS, shoot(moved, rng), "travel", amount, more_is_yes=True)
        for amount in (0.0, 0.3, 0.8, 0.9, 1.3, 1.5, 2.0, 2.2, 3.5, 5.0):
            yield from clip_cases(CLEAR_LEVELS, shoot(replace(film, blur_sigma=amount), rng), "blur", amount)
        for amount in (0.0, 0.3, 0.6, 0.93, 0.97):
            yield from clip_cases(GLOOM_LEVELS, shoot(replace(film, gloom=amount), rng), "gloom", amount)
        for level, sigma, pitch in ((0.0, 0.0, 1), (1.0, 0.06, 4), (2.0, 0.13, 8), (4.0, 0.35, 16)):
            clean = shoot(film, rng)
            noisy = by_frame(clean, lambda frame, sigma=sigma: granularity(frame, sigma, rng))
            yield from clip_cases(CLIP_ROUGH_LEVELS, noisy, "granularity", level)
            coarse = by_frame(clean, lambda frame, pitch=pitch: blocks(frame, pitch))
            yield from clip_cases(CLIP_ROUGH_LEVELS, coarse, "blocks", level)
        # The camera stands still, whatever the subject does.
        still = shoot(film, rng)
        yield from clip_cases({**SHAKE_LEVELS, "camera_stability_1": (0.0, 1.0)}, still, "camera stands still", 0.0)
        yield from clip_cases(PAN_LEVELS, still, "camera stands still", 0.0, more_is_yes=True)
    yield from _camera_cases(rng)
    yield from _colour_cases(films, rng)
    yield from _alignment_cases(films, rng)


def pulsing(clip: Clip, sigma: float) -> Clip:
    """The clip with every other pair of frames blurred."""
    soft = by_frame(clip, lambda frame: frame.filter(ImageFilter.GaussianBlur(sigma)))
    blurred = np.arange(len(clip.frames)) // 2 % 2 == 1
    return Clip(np.where(blurred[:, None, None, None], soft.frames, clip.frames), clip.times_s)


def by_frame(clip: Clip, change) -> Clip:
    """The clip with a function of pictures applied to each frame."""
    return Clip(np.stack([np.asarray(change(Image.fromarray(frame))) for frame in clip.frames]), clip.times_s)


def _camera_cases(rng: np.random.Generator) -> Iterator[Case]:
    unzoomed = np.ones(NUM_FRAMES)
    for name in ("astronaut.png", "coffee.png", "chelsea.png", "china.jpg"):
        picture = photograph(name, side=144)
        for turn in np.arange(4) * np.pi / 2 + rng.uniform(0, 1):
            direction = np.array([np.cos(turn), np.sin(turn)])
            for amount in (0.0, 0.03, 0.1, 0.25, 0.5, 0.7):
                clip = look_around(picture, pan(direction, amount), unzoomed)
                yield from clip_cases(PAN_LEVELS, clip, "pan", amount, more_is_yes=True)
                yield Case("camera_stability_2", clip, True, "even pan", 0.0)
                yield Case("camera_movement_2", clip, True, "even pan", 0.0)
            for amount in (0.0, 0.004, 0.012, 0.03, 0.06):
                for travel in (0.0, 0.3):
                    shake = np.stack([unit_noise(NUM_FRAMES, rng) for _ in range(2)], axis=1) * amount / np.sqrt(2)
                    clip = look_around(picture, pan(direction, travel) + shake, unzoomed)
                    yield from clip_cases(SHAKE_LEVELS, clip, f"shake, pan {travel}", amount)
            for amount in (0.0, 0.1, 0.25, 0.5):
                # The mean distance of a frame's points from its middle is 0.38 sides, by which a zoom moves them.
                zooms = np.linspace(1.0, 1 + amount / 0.38, NUM_FRAMES)
                clip = look_around(picture, np.zeros((NUM_FRAMES, 2)), zooms)
                levels = {q: level for q, level in PAN_LEVELS.items() if q in ("camera_motion_3", "camera_motion_4")}
                yield from clip_cases(levels, clip, "zoom", amount, more_is_yes=True)
        for i in range(4):
            # A shape on the photograph: it moves, or only the camera does.
            travel = (0.0, 0.0, 0.3, 0.5)[i]
            film = Film("circle", "red", "white", tuple(STEPS)[i], travel, radius=0.15)
            step = np.array(STEPS[tuple(STEPS)[i]])
            for moving_camera in (False, True):
                path = pan(np.array([0.6, 0.8]), 0.3 * moving_camera)
                frames = []
                for k, offset in enumerate(path):
                    window = Image.fromarray(look_around(picture, offset[None], np.ones(1)).frames[0])
                    centre = 0.5 + np.linspace(-0.5, 0.5, NUM_FRAMES)[k] * travel * step - offset
                    frames.append(np.asarray(add_shape(window, film, centre, np.array([200, 30, 30]), rng)))
                clip = to_clip(np.stack(frames) / 255)
                series = "object, moving camera" if moving_camera else "object on a photograph"
                yield from clip_cases(TRAVEL_LEVELS, clip, series, travel, more_is_yes=True)


def _colour_cases(films: list[Film], rng: np.random.Generator) -> Iterator[Case]:
    for film in films:
        if film.ground in ("white", "black", "night sky"):
            continue
        clip = shoot(film, rng)
        for wash in (0.0, 0.15, 0.8, 0.93):
            washed = to_clip(clip.frames / 255 * (1 - wash) + 0.68 * wash)
            yield Case("color_3", washed, wash < 0.5, "wash", wash)
            yield Case("color_2", washed, wash < 0.5, "wash", wash)
    for name in ("astronaut.png", "coffee.png", "chelsea.png", "china.jpg"):
        for sigma in (0.0, 1.3, 2.5, 4.0):
            sharp = photograph(name, side=144).filter(ImageFilter.GaussianBlur(sigma))
            clip = look_around(sharp, pan(np.array([1.0, 0.0]), 0.1), np.ones(NUM_FRAMES))
            levels = {"detail_refinement_1": (0.0, 1.3), "detail_refinement_2": (0.0, 2.5)}
            yield from clip_cases(levels, clip, "lost detail", sigma)


def _alignment_cases(films: list[Film], rng: np.random.Generator) -> Iterator[Case]:
    """True texts, texts with one claim wrong, and texts with all claims wrong."""
    for i, film in enumerate(films):
        for radius in (0.15, 0.2):
            clip = shoot(replace(film, radius=radius), rng)
            others = [other for other in (*STEPS, None) if other != film.motion]
            false_motions = [replace(film, motion=motion) for motion in others]
            colours = [c for c in GROUNDS[film.ground] if c != film.colour]
            shapes = [s for s in SHAPES if s != film.shape]
            false_things = [replace(film, colour=colours[i % 3]), replace(film, shape=shapes[i % 5])]
            false_ground = replace(film, ground="sea" if film.ground in ("white", "black", "desert") else "white")
            unlike = Film(shapes[i % 5], colours[i % 3], false_ground.ground, others[0])
            for k in (1, 2, 3, 4):
                yield Case(f"alignment_{k}", clip, True, "true text", 0.0, describe(film))
            for wrong in (*false_motions, *false_things, false_ground):
                series = "motion wrong" if wrong in false_motions else "one word wrong"
                yield Case("alignment_1", clip, False, series, 1.0, describe(wrong))
                for k in (2, 3, 4):
                    yield Case(f"alignment_{k}", clip, True, series, 1.0, describe(wrong))
            for k in (2, 3, 4):
                yield Case(f"alignment_{k}", clip, False, "all wrong", 2.0, describe(unlike))
