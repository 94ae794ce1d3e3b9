"""Pictures with known answers from which the measured judge's thresholds were set.

Scenes drawn by `mpo.embedded.scenes` and photographs shipped with scikit-image and scikit-learn, degraded by
known amounts. Amounts near a level's border, about which people would disagree, are left out.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image, ImageFilter
from sklearn.datasets import load_sample_image

from mpo.embedded.scenes import Defects, Group, Scene, paint, sample_scene
from reward.media import Media

WORKING_SIDE = 64  # amounts in pixels refer to a picture of this short side


@dataclass(frozen=True)
class Case:
    """One question about one picture or clip, with the answer that a person would give."""

    question_id: str
    media: Media
    truth: bool
    series: str  # cases of one series and source differ in `amount` alone
    amount: float  # of degradation, 0 = none
    prompt: str = ""


# question: (yes up to this amount, no from this amount on)
BLUR_LEVELS = {"clarity_1": (0.3, 0.9), "clarity_2": (0.5, 1.3), "clarity_3": (0.7, 1.8), "clarity_4": (1.5, 3.0)}
ROUGH_LEVELS = {"detail_refinement_3": (0.0, 1.0), "detail_refinement_4": (1.0, 2.0), "detail_refinement_5": (2.0, 4.0)}


def levelled(levels: dict[str, tuple[float, float]], image: Image.Image, series: str, amount: float) -> Iterator[Case]:
    """The case of each level whose answer at this amount is beyond dispute."""
    for question_id, (yes_to, no_from) in levels.items():
        if amount <= yes_to or amount >= no_from:
            yield Case(question_id, image, amount <= yes_to, series, amount)


def photograph(name: str, side: int = 192) -> Image.Image:
    """A photograph from scikit-image or scikit-learn, cut to its middle square."""
    if name in ("china.jpg", "flower.jpg"):
        image = Image.fromarray(load_sample_image(name))
    else:
        image = Image.open(Path(skimage.data.__file__).parent / name).convert("RGB")
    short = min(image.size)
    left, top = (image.width - short) // 2, (image.height - short) // 2
    return image.crop((left, top, left + short, top + short)).resize((side, side), Image.Resampling.BOX)


def to_image(pixels: np.ndarray) -> Image.Image:
    """Pixels (H, W, 3) in about [0, 1] -> picture, clipped as a camera would."""
    return Image.fromarray((np.clip(pixels, 0, 1) * 255).round().astype(np.uint8))


def to_pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=np.float64) / 255


def granularity(image: Image.Image, sigma: float, rng: np.random.Generator) -> Image.Image:
    pixels = to_pixels(image)
    pitch = max(1, min(image.size) // WORKING_SIDE)
    side = -(-image.width // pitch)
    noise = rng.normal(0, sigma, size=(side, side, 3)).repeat(pitch, axis=0).repeat(pitch, axis=1)
    return to_image(pixels + noise[: image.height, : image.width])


def blocks(image: Image.Image, pitch: int) -> Image.Image:
    count = round(WORKING_SIDE / pitch)
    return image.resize((count, count), Image.Resampling.BOX).resize(image.size, Image.Resampling.NEAREST)


def cases(num_scenes: int = 14, seed: int = 0) -> Iterator[Case]:
    """All calibration cases; photographs stand beside drawn scenes wherever the answer does not need a known layout."""
    rng = np.random.default_rng(seed)
    photos = [photograph(name) for name in ("astronaut.png", "coffee.png", "chelsea.png", "china.jpg")]
    scenes = [paint(sample_scene(rng), Defects(flat=i % 4 == 3), rng) for i in range(num_scenes)]
    for image in (*scenes, *photos):
        unit = min(image.size) / WORKING_SIDE
        for sigma in (0.0, 0.3, 0.8, 0.9, 1.3, 1.5, 2.0, 2.2, 3.5, 5.0):
            yield from levelled(
                BLUR_LEVELS, image.filter(ImageFilter.GaussianBlur(sigma * unit)), "gaussian blur", sigma
            )
        for level, sigma in ((0.0, 0.0), (1.0, 0.06), (2.0, 0.13), (4.0, 0.35)):
            yield from levelled(ROUGH_LEVELS, granularity(image, sigma, rng), "granularity", level)
        for level, pitch in ((0.0, 1), (1.0, 4), (2.0, 8), (4.0, 16)):
            yield from levelled(ROUGH_LEVELS, blocks(image, pitch), "blocks", level)
        for wash in (0.0, 0.2, 0.8, 0.93):
            washed = to_image(to_pixels(image) * (1 - wash) + 0.68 * wash)
            yield Case("color_aesthetic_2", washed, wash < 0.5, "wash", wash)
            if wash in (0.0, 0.93):
                yield Case("lighting_distinction_3", washed, wash < 0.5, "wash", wash)
    bright = [paint(sample_scene(rng), Defects(), rng) for _ in range(num_scenes)] + photos[:3]
    for image in bright:
        for gloom in (0.0, 0.15, 0.35, 0.6, 0.75):
            dimmed = to_image(to_pixels(image) * (1 - gloom))
            yield from levelled(
                {"color_brightness_1": (0.15, 0.35), "color_brightness_2": (0.35, 0.6)}, dimmed, "gloom", gloom
            )
    yield from _layout_cases(num_scenes, rng)


def _layout_cases(num_scenes: int, rng: np.random.Generator) -> Iterator[Case]:
    plain = ("white", "blue", "green", "purple")
    for i in range(num_scenes):
        place, shape, colour = plain[i % 4], ("circle", "star", "heart")[i % 3], ("red", "orange", "yellow")[i % 3]
        middle, aside = (
            Scene((Group(shape, colour),), place),
            Scene((Group(shape, colour),), place, ("left", "right")[i % 2]),
        )
        centred = to_pixels(paint(middle, Defects(flat=True), rng))
        for shift, level in ((0, 0.0), (6, 1.0), (15, 2.0)):
            moved = to_image(np.roll(centred, shift, axis=1))
            yield from levelled({"symmetry_1": (0.0, 1.0), "symmetry_2": (0.0, 2.0)}, moved, "shift", level)
        for shrink, fade, level in ((1.0, 0.0, 0.0), (0.55, 0.5, 1.0), (0.3, 0.75, 2.0)):
            empty = to_pixels(paint(Scene((), place), Defects(flat=True), np.random.default_rng(i)))
            shown = to_pixels(
                paint(aside if i % 3 == 0 else middle, Defects(shrink=shrink, flat=True), np.random.default_rng(i))
            )
            faded = to_image(empty * fade + shown * (1 - fade))
            yield from levelled(
                {"main_object_1": (0.0, 1.0), "main_object_2": (1.0, 2.0)}, faded, "shrink and fade", level
            )
        for num_objects in (0, 1, 8, 26):
            crowd = _crowd(place, num_objects, rng)
            truths = {"richness_1": num_objects >= 26, "richness_2": num_objects >= 8, "richness_4": num_objects > 0}
            for question_id, truth in truths.items():
                yield Case(question_id, crowd, truth, "fewer objects", -num_objects)
        for scene, truth in (
            (Scene((), place), False),
            (middle, True),
            (Scene((Group(shape, colour, 3),), "meadow"), True),
        ):
            yield Case("richness_3", paint(scene, Defects(), rng), truth, "emptiness", 0.0 if truth else 1.0)
        for contrast, level in ((0.0, 3.0), (0.05, 2.5), (0.25, 2.0), (0.28, 2.0), (0.55, 1.0), (1.0, 0.0)):
            lit = paint(Scene((Group("circle", "black"),), "white"), Defects(), np.random.default_rng(i))
            shade = to_pixels(lit) * contrast + 0.5 * (1 - contrast)
            levels = {
                "lighting_distinction_1": (0.0, 1.0),
                "lighting_distinction_2": (1.0, 2.0),
                "lighting_distinction_3": (2.0, 2.5),
            }
            yield from levelled(levels, to_image(shade), "less contrast", level)
        vivid = paint(Scene((Group(shape, colour),), ("blue", "green", "purple", "meadow")[i % 4]), Defects(), rng)
        for wash in (0.0, 0.15, 0.75, 0.9):
            yield Case(
                "color_aesthetic_1", to_image(to_pixels(vivid) * (1 - wash) + 0.68 * wash), wash < 0.5, "wash", wash
            )
        for scraps, truth in ((0, True), (24, False), (34, False)):
            strewn = paint(middle, Defects(num_fragments=scraps), rng)
            yield Case("detail_refinement_6", strewn, truth, "scraps", scraps)
    for name in ("astronaut.png", "coffee.png", "chelsea.png", "china.jpg"):
        for sharp in quarters(photograph(name, side=384)):
            for sigma in (0.0, 1.3, 2.5, 4.0):
                soft = sharp.filter(ImageFilter.GaussianBlur(sigma * 3))
                yield from levelled(
                    {"detail_refinement_1": (0.0, 1.3), "detail_refinement_2": (1.0, 2.5)}, soft, "lost detail", sigma
                )


def quarters(image: Image.Image) -> list[Image.Image]:
    """The four quarters of a picture."""
    half = image.width // 2
    return [image.crop((x, y, x + half, y + half)) for x in (0, half) for y in (0, half)]


def _crowd(place: str, num_objects: int, rng: np.random.Generator) -> Image.Image:
    """That many objects of all colours on a jittered grid."""
    picture = paint(Scene((), place), Defects(flat=True), rng)
    if num_objects == 0:
        return picture
    across = int(np.ceil(np.sqrt(num_objects)))
    cell = picture.width // across
    for k in range(num_objects):
        shape, colour = rng.choice(["circle", "square", "star"]), rng.choice(["red", "yellow", "black", "orange"])
        tile = paint(Scene((Group(str(shape), str(colour)),), place), Defects(flat=True), rng)
        size = min(cell, 26)
        cut = tile.crop((14, 14, 50, 50)).resize((size, size), Image.Resampling.LANCZOS)
        picture.paste(cut, (k % across * cell, k // across * cell))
    return picture
