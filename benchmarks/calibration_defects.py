"""Pictures of all sizes with known defects, from which the measured judge's thresholds were set, beside `calibration_set`.

Drawn by `heldout_set`'s pen and by `mpo.embedded.scenes`, and photographs of scikit-image and scikit-learn. No picture and no
defect's code is shared with the blind examination (`blind_pictures`).
"""

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageEnhance, ImageFilter
from skimage import util

from benchmarks.calibration_set import Case, photograph, quarters, to_image, to_pixels
from benchmarks.heldout_set import INK, ground, paint, reduce, still_life
from mpo.embedded import scenes

PHOTOGRAPHS = ("astronaut.png", "coffee.png", "chelsea.png", "china.jpg", "flower.jpg", "motorcycle_left.png", "rocket.jpg", "ihc.png")  # fmt: skip
Change = Callable[[Image.Image, float, np.random.Generator], Image.Image]


def of_pixels(change: Callable[[np.ndarray, float, np.random.Generator], np.ndarray]) -> Change:
    return lambda image, amount, rng: to_image(change(to_pixels(image), amount, rng))


def _shaken(image: Image.Image, share: float, rng: np.random.Generator) -> Image.Image:
    """Averaged over positions along a straight line of that share of the side, in a random direction."""
    pixels, turn = to_pixels(image), rng.uniform(0, np.pi)
    reach = share * min(image.size) / 2
    size, total = image.size, np.zeros_like(pixels)
    steps = np.linspace(-reach, reach, max(2, int(2 * reach) + 1))
    for step in steps:
        move = np.array([[1, 0, step * np.cos(turn)], [0, 1, step * np.sin(turn)]])
        total += cv2.warpAffine(pixels, move, size, borderMode=cv2.BORDER_REPLICATE)
    return to_image(total / len(steps))


def _enlarged(image: Image.Image, num_pixels: float, _) -> Image.Image:
    share = min(1, num_pixels / min(image.size))
    small = image.resize(
        (max(1, round(image.width * share)), max(1, round(image.height * share))), Image.Resampling.BOX
    )
    return image if share == 1 else small.resize(image.size, Image.Resampling.BILINEAR)


def _blocks(image: Image.Image, num_blocks: float, _) -> Image.Image:
    count = max(2, round(num_blocks))
    return image.resize((count, count), Image.Resampling.BOX).resize(image.size, Image.Resampling.NEAREST)


def _jpeg(image: Image.Image, quality: float, _) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=int(quality), subsampling=2)
    return Image.open(buffer).convert("RGB")


def _dropped(image: Image.Image, share: float, rng: np.random.Generator) -> Image.Image:
    """Blocks of 8 or 16 pixels, of one grid, that show one grey or a neighbour's colours."""
    pixels, size = to_pixels(image), int(rng.choice([8, 16])) if min(image.size) >= 128 else 8
    for top in range(0, pixels.shape[0] - size + 1, size):
        for left in range(0, pixels.shape[1] - size + 1, size):
            if rng.random() < share:
                pixels[top : top + size, left : left + size] = (
                    rng.random() if rng.random() < 0.5 else np.roll(pixels, 3 * size, axis=1)[top, left]
                )
    return to_image(pixels)


def _tinted(pixels: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Light of another colour, in linear light: von Kries' gains, of the same brightness."""
    tints = ((0.1, 1, 0.2), (0.15, 0.4, 1), (1, 0.35, 0.1), (1, 0.15, 0.8), (0.9, 0.9, 0.1), (0.1, 0.9, 0.9))
    gains = np.array(tints[rng.integers(len(tints))]) ** amount
    return np.clip(pixels**2.2 * gains, 0, 1) ** (1 / 2.2)


def _dark_corners(pixels: np.ndarray, amount: float, _) -> np.ndarray:
    y, x = np.linspace(-1, 1, pixels.shape[0])[:, None], np.linspace(-1, 1, pixels.shape[1])
    return pixels * np.exp(-amount * (x**2 + y**2))[..., None]


# Name -> change, and five amounts, weakest first.
DEFECTS: Mapping[str, tuple[Change, tuple[float, ...]]] = {
    "gaussian blur": (lambda image, share, _: image.filter(ImageFilter.GaussianBlur(share * min(image.size))), (0.006, 0.014, 0.026, 0.042, 0.09)),
    "shake": (_shaken, (0.02, 0.04, 0.065, 0.12, 0.32)),
    "enlarged": (_enlarged, (60, 36, 22, 15, 8)),
    "gamma, dark": (of_pixels(lambda p, power, _: p**power), (1.5, 2.2, 3, 4, 5.5)),
    "gamma, pale": (of_pixels(lambda p, power, _: p**power), (0.8, 0.6, 0.45, 0.35, 0.25)),
    "underexposure": (of_pixels(lambda p, stops, _: (p**2.2 / 2**stops) ** (1 / 2.2)), (0.7, 1.6, 2.8, 4, 6)),
    "bleached": (lambda image, gain, _: ImageEnhance.Brightness(image).enhance(gain), (1.2, 1.45, 1.8, 2.5, 4)),
    "dark corners": (of_pixels(_dark_corners), (0.3, 0.7, 1.4, 3, 6)),
    "less colour": (lambda image, kept, _: ImageEnhance.Color(image).enhance(kept), (0.8, 0.6, 0.4, 0.2, 0)),
    "coloured light": (of_pixels(_tinted), (0.12, 0.3, 0.6, 1, 1.5)),
    "gaussian noise": (of_pixels(lambda p, sigma, rng: util.random_noise(p, "gaussian", var=sigma**2, rng=rng)), (0.02, 0.05, 0.09, 0.2, 0.4)),
    "grey noise": (of_pixels(lambda p, sigma, rng: p + rng.normal(0, sigma, (*p.shape[:2], 1))), (0.02, 0.05, 0.09, 0.2, 0.4)),
    "specks": (of_pixels(lambda p, share, rng: util.random_noise(p, "s&p", amount=share, rng=rng)), (0.005, 0.015, 0.05, 0.1, 0.3)),
    "JPEG": (_jpeg, (45, 22, 11, 5, 2)),
    "blocks": (_blocks, (42, 26, 15, 9, 5)),
    "dropped blocks": (_dropped, (0.02, 0.05, 0.1, 0.2, 0.4)),
    "few tones": (lambda image, count, _: image.point([round(v / 255 * (count - 1)) * 255 // (int(count) - 1) for v in range(256)] * 3), (16, 8, 6, 4, 2)),
    "fog": (of_pixels(lambda p, amount, _: p * (1 - amount) + 0.75 * amount), (0.2, 0.4, 0.6, 0.78, 0.92)),
}  # fmt: skip
BRIGHTENS = ("gamma, pale", "bleached")


def spoil(image: Image.Image, name: str, strength: int, rng: np.random.Generator) -> Image.Image:
    change, amounts = DEFECTS[name]
    return change(image, amounts[strength - 1], rng) if strength else image


@dataclass(frozen=True)
class Source:
    image: Image.Image
    kind: str  # "scene", "drawn", "photograph"


def crowd(side: int, count: int, rng: np.random.Generator, paper: str | None = None) -> Image.Image:
    """So many polygons on a jittered grid over a ground."""
    paper = paper or str(rng.choice([*INK, "meadow", "sea", "desert"]))
    canvas, across = ground(paper, side * 3), int(np.ceil(np.sqrt(max(count, 1))))
    for k in range(count):
        x, y = (k % across + rng.uniform(0.4, 0.6)) / across, (k // across + rng.uniform(0.4, 0.6)) / across
        ink = rng.choice([name for name in INK if name != paper])
        paint(canvas, str(rng.choice(["hexagon", "star", "ring", "square"])), INK[ink], x, y, min(0.26, 0.42 / across), rng.random())  # fmt: skip
    return reduce(canvas)


def sources(seed: int = 0, num: int = 12) -> list[Source]:
    """Scenes of 64 pixels, drawings of all sizes, photographs and quarters of them."""
    rng = np.random.default_rng(seed)
    found = [Source(scenes.paint(scenes.sample_scene(rng), scenes.Defects(), rng), "scene") for _ in range(num)]
    found += [
        Source(crowd(int(rng.integers(64, 400)), int(rng.choice([1, 3, 9, 20])), rng), "drawn") for _ in range(num)
    ]
    found += [Source(still_life(100 + i + seed), "drawn") for i in range(num // 3)]
    for name in PHOTOGRAPHS:
        found.append(Source(photograph(name, int(rng.integers(64, 400))), "photograph"))
        found.append(Source(quarters(photograph(name, 380))[rng.integers(4)], "photograph"))
    return found


def well_lit(image: Image.Image) -> bool:
    value = to_pixels(image).max(axis=-1)
    return bool(np.median(value) >= 0.4 and np.percentile(value, 90) >= 0.6)


def series(seed: int = 0, num: int = 12) -> Iterator[tuple[str, list[Image.Image]]]:
    """Every defect at strengths 0 to 5 on every source; what brightens only on the well lit."""
    for i, source in enumerate(sources(seed, num)):
        for name in DEFECTS:
            if name not in BRIGHTENS or well_lit(source.image):
                yield name, [spoil(source.image, name, k, np.random.default_rng((seed, i))) for k in range(6)]


# Question -> the strength from which on a defect makes the answer no, and up to which it stays yes.
NO_FROM: Mapping[str, Mapping[str, int]] = {
    "clarity_1": {"gaussian blur": 3, "shake": 3, "enlarged": 3},
    "clarity_2": {"gaussian blur": 3, "shake": 4, "enlarged": 4},
    "clarity_3": {"gaussian blur": 4, "shake": 4, "enlarged": 4},
    "clarity_4": {"gaussian blur": 5, "shake": 5, "enlarged": 5},
    "color_brightness_1": {"gamma, dark": 4, "underexposure": 3, "dark corners": 5},
    "color_brightness_2": {"gamma, dark": 5, "underexposure": 4, "dark corners": 5},
    "color_aesthetic_1": {"less colour": 5, "coloured light": 4, "fog": 4},
    "color_aesthetic_2": {"coloured light": 4, "fog": 5},
    "detail_refinement_3": {"gaussian noise": 3, "grey noise": 3, "specks": 3, "JPEG": 4, "blocks": 3, "dropped blocks": 3},
    "detail_refinement_4": {"gaussian noise": 5, "grey noise": 5, "specks": 5, "JPEG": 5, "blocks": 4, "dropped blocks": 5},
    "detail_refinement_5": {"blocks": 5, "enlarged": 5, "gaussian blur": 5},
    "detail_refinement_6": {"dropped blocks": 4},
}  # fmt: skip
YES_UP_TO: Mapping[str, Mapping[str, int]] = {
    "clarity_4": {"gaussian blur": 1, "shake": 1, "gaussian noise": 1},
    "color_brightness_2": {"gaussian blur": 3, "less colour": 3},
    "color_aesthetic_2": {"gaussian blur": 3},
    "detail_refinement_3": {"gaussian blur": 3, "fog": 1},
    "detail_refinement_4": {"gaussian blur": 3, "gaussian noise": 1, "JPEG": 1},
    "detail_refinement_5": {"gaussian blur": 1, "gaussian noise": 2, "JPEG": 1, "less colour": 5},
    "detail_refinement_6": {"gaussian blur": 2, "gaussian noise": 1},
}


def _asked(source: Source, question_id: str) -> bool:
    """Whether the picture itself is a clear yes."""
    if question_id.startswith("color"):
        lab_spread = to_pixels(source.image).std(axis=2).mean()
        return well_lit(source.image) and lab_spread > 0.08
    if question_id == "detail_refinement_6":
        return source.kind != "photograph"
    return True


def cases(seed: int = 0, num: int = 12) -> Iterator[Case]:
    """Clear cases only."""
    for i, source in enumerate(sources(seed, num)):
        for question_id in NO_FROM:
            if not _asked(source, question_id):
                continue
            yield Case(question_id, source.image, True, f"none, {source.kind}", 0)
            wanted = [(name, k, False) for name, first in NO_FROM[question_id].items() for k in range(first, 6)]
            wanted += [(name, k, True) for name, k in YES_UP_TO.get(question_id, {}).items()]
            for name, strength, truth in wanted:
                image = spoil(source.image, name, strength, np.random.default_rng((seed, i, strength)))
                yield Case(question_id, image, truth, f"{name}, {source.kind}", strength)
