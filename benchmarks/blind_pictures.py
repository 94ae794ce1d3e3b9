"""The first blind examination of the measured judge: pictures whose answers are known from how they were made.

Written and committed before the judge that it examines was changed, and not looked at picture by picture while it was. The
drawings (`blind_drawings`), the photographs and the defects' code are others than those that had set thresholds until then; it has
set some since, and the examination is now `second_blind_pictures`. Each defect has five strengths. `cases` asks only what is clear, a picture without a defect and one with a strong one; `series` has all
strengths, for the examination of whether a total ever rises as a picture gets worse.

    python -m benchmarks.measured_judge --blind first
"""

import io
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import skimage.data
from PIL import Image

from benchmarks import blind_drawings as draw
from benchmarks.calibration_set import Case

Pixels = np.ndarray  # (H, W, 3) in [0, 1]
SIDES = (64, 96, 128, 192, 256, 384, 512)
NUM_STRENGTHS = 5
# Photographs: file, and the square that is cut out: left, top and side in pixels.
PHOTOGRAPHS: Mapping[str, tuple[str, int, int, int]] = {
    "officer": ("grace_hopper.jpg", 0, 40, 512), "face": ("grace_hopper.jpg", 150, 70, 256), "flag": ("grace_hopper.jpg", 0, 0, 200),
    "medals": ("grace_hopper.jpg", 256, 340, 256), "uniform": ("grace_hopper.jpg", 60, 250, 350), "cameraman": ("camera.png", 0, 0, 512),
    "tripod": ("camera.png", 190, 60, 256), "lawn": ("camera.png", 256, 256, 256), "coins": ("coins.png", 40, 0, 303),
    "four coins": ("coins.png", 210, 10, 150), "moon": ("moon.png", 0, 0, 512), "brick": ("brick.png", 0, 0, 384), "grass": ("grass.png", 60, 60, 384),
    "gravel": ("gravel.png", 30, 90, 384), "retina": ("retina.jpg", 300, 300, 800), "vessels": ("retina.jpg", 150, 350, 512),
    "galaxies": ("hubble_deep_field.jpg", 60, 60, 512), "far stars": ("hubble_deep_field.jpg", 500, 300, 400), "cell": ("cell.png", 60, 150, 480),
    "page": ("page.png", 0, 0, 190),
}  # fmt: skip


def photograph(name: str, side: int) -> Pixels:
    """A photograph's square, reduced to `side` pixels; never enlarged."""
    file, left, top, cut = PHOTOGRAPHS[name]
    folder = Path(matplotlib.get_data_path(), "sample_data") if "hopper" in file else Path(skimage.data.__file__).parent
    image = Image.open(folder / file).convert("RGB").crop((left, top, left + cut, top + cut))
    side = min(side, cut)
    return np.asarray(image.resize((side, side), Image.Resampling.LANCZOS), dtype=float) / 255


def to_image(pixels: Pixels) -> Image.Image:
    return Image.fromarray((np.clip(pixels, 0, 1) * 255).round().astype(np.uint8))


# Defects: pixels, amount, random numbers -> pixels. Lengths are shares of the side.


def _filtered(pixels: Pixels, kernel: np.ndarray) -> Pixels:
    return cv2.filter2D(pixels, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT)


def defocus(pixels: Pixels, radius: float, _) -> Pixels:
    """Each point becomes a disc, as of a lens out of focus."""
    reach = radius * len(pixels)
    n = int(np.ceil(reach)) + 1
    y, x = np.mgrid[-n : n + 1, -n : n + 1]
    return _filtered(pixels, np.clip(reach + 0.5 - np.hypot(x, y), 0, 1))


def smear(degrees: float) -> Callable[[Pixels, float, np.random.Generator], Pixels]:
    def smeared(pixels: Pixels, length: float, _) -> Pixels:
        half = length * len(pixels) / 2
        n, turn = int(np.ceil(half)) + 1, np.deg2rad(degrees)
        y, x = np.mgrid[-n : n + 1, -n : n + 1]
        along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
        return _filtered(pixels, np.clip(half + 0.5 - np.abs(along), 0, 1) * np.clip(1 - np.abs(across), 0, 1))

    return smeared


def too_small(pixels: Pixels, num_pixels: float, _) -> Pixels:
    """Reduced to so many pixels a side and enlarged again."""
    side = len(pixels)
    if num_pixels >= side:
        return pixels
    small = cv2.resize(pixels, (int(num_pixels),) * 2, interpolation=cv2.INTER_AREA)
    return np.clip(cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC), 0, 1)


def gamma(pixels: Pixels, power: float, _) -> Pixels:
    return pixels**power


def dimmed(pixels: Pixels, share_left: float, _) -> Pixels:
    return pixels * share_left


def overexposed(pixels: Pixels, stops: float, _) -> Pixels:
    return np.clip(pixels**2.2 * 2**stops, 0, 1) ** (1 / 2.2)


def vignetted(pixels: Pixels, amount: float, _) -> Pixels:
    """Darker towards the corners, where `amount` of the light is gone; more than 1 leaves a disc in the dark."""
    y, x = np.linspace(-1, 1, pixels.shape[0])[:, None], np.linspace(-1, 1, pixels.shape[1])
    return pixels * np.clip(1 - amount * (x**2 + y**2) / 2, 0, 1)[..., None]


def faded(pixels: Pixels, amount: float, _) -> Pixels:
    return pixels * (1 - amount) + amount * (pixels @ [0.299, 0.587, 0.114])[..., None]


def _cast(*tint: float) -> Callable[[Pixels, float, np.random.Generator], Pixels]:
    def tinted(pixels: Pixels, amount: float, _) -> Pixels:
        return pixels * (1 - amount * (1 - np.array(tint)))

    return tinted


def grain(pixels: Pixels, sigma: float, rng: np.random.Generator) -> Pixels:
    return np.clip(pixels + rng.normal(0, sigma, pixels.shape), 0, 1)


def salt_and_pepper(pixels: Pixels, share: float, rng: np.random.Generator) -> Pixels:
    spoilt = pixels.copy()
    where = rng.random(pixels.shape[:2])
    spoilt[where < share / 2], spoilt[where > 1 - share / 2] = 0, 1
    return spoilt


def jpeg(pixels: Pixels, quality: float, _) -> Pixels:
    buffer = io.BytesIO()
    to_image(pixels).save(buffer, "JPEG", quality=int(quality))
    return np.asarray(Image.open(buffer).convert("RGB"), dtype=float) / 255


def mosaic(pixels: Pixels, num_blocks: float, _) -> Pixels:
    side = len(pixels)
    return cv2.resize(cv2.resize(pixels, (int(num_blocks),) * 2, interpolation=cv2.INTER_AREA), (side, side), interpolation=cv2.INTER_NEAREST)  # fmt: skip


def lost_blocks(pixels: Pixels, share: float, rng: np.random.Generator) -> Pixels:
    """Macroblocks, a sixteenth of the side each, that show another place of the picture or one plain colour."""
    spoilt, size = pixels.copy(), len(pixels) // 16
    for row in range(16):
        for column in range(16):
            if rng.random() < share:
                y, x = rng.integers(0, len(pixels) - size, 2)
                other = pixels[y : y + size, x : x + size] if rng.random() < 0.5 else rng.random(3)
                spoilt[row * size : (row + 1) * size, column * size : (column + 1) * size] = other
    return spoilt


def posterised(pixels: Pixels, levels: float, _) -> Pixels:
    return np.round(pixels * (levels - 1)) / (levels - 1)


def hazy(pixels: Pixels, amount: float, _) -> Pixels:
    return pixels * (1 - amount) + 0.82 * amount


def low_contrast(pixels: Pixels, amount: float, _) -> Pixels:
    return pixels * (1 - amount) + 0.5 * amount


def shuffled(pixels: Pixels, num_tiles: float, rng: np.random.Generator) -> Pixels:
    """Cut into so many tiles a side, which change places."""
    count = int(num_tiles)
    size = len(pixels) // count
    tiles = pixels[: size * count, : size * count].reshape(count, size, count, size, 3).swapaxes(1, 2)
    mixed = tiles.reshape(-1, size, size, 3)[rng.permutation(count**2)].reshape(count, count, size, size, 3)
    return mixed.swapaxes(1, 2).reshape(size * count, size * count, 3)


@dataclass(frozen=True)
class Defect:
    """Five amounts of one defect, weakest first."""

    apply: Callable[[Pixels, float, np.random.Generator], Pixels]
    amounts: tuple[float, float, float, float, float]
    brightens: bool = False  # worse only for a picture that is not dark

    def __call__(self, pixels: Pixels, strength: int, rng: np.random.Generator) -> Pixels:
        """Strength 0 to 5; 0 is the picture itself."""
        return self.apply(pixels, self.amounts[strength - 1], rng) if strength else pixels


DEFECTS: Mapping[str, Defect] = {
    "defocus": Defect(defocus, (0.012, 0.025, 0.05, 0.08, 0.16)),
    "motion, level": Defect(smear(0), (0.02, 0.04, 0.07, 0.12, 0.3)),
    "motion, slant": Defect(smear(37), (0.02, 0.04, 0.07, 0.12, 0.3)),
    "motion, upright": Defect(smear(90), (0.02, 0.04, 0.07, 0.12, 0.3)),
    "too small": Defect(too_small, (64, 40, 24, 16, 8)),
    "gamma, dark": Defect(gamma, (1.4, 2, 2.8, 4, 6)),
    "gamma, pale": Defect(gamma, (0.8, 0.65, 0.5, 0.35, 0.22), brightens=True),
    "gloom": Defect(dimmed, (0.8, 0.6, 0.42, 0.28, 0.12)),
    "overexposure": Defect(overexposed, (0.5, 1, 1.6, 2.4, 3.4), brightens=True),
    "vignetting": Defect(vignetted, (0.3, 0.6, 1, 2, 5)),
    "faded": Defect(faded, (0.2, 0.4, 0.6, 0.8, 1)),
    "green cast": Defect(_cast(0.12, 1, 0.12), (0.1, 0.25, 0.45, 0.7, 1)),
    "blue cast": Defect(_cast(0.12, 0.3, 1), (0.1, 0.25, 0.45, 0.7, 1)),
    "red cast": Defect(_cast(1, 0.2, 0.1), (0.1, 0.25, 0.45, 0.7, 1)),
    "magenta cast": Defect(_cast(1, 0.1, 0.9), (0.1, 0.25, 0.45, 0.7, 1)),
    "grain": Defect(grain, (0.02, 0.05, 0.1, 0.18, 0.35)),
    "salt and pepper": Defect(salt_and_pepper, (0.005, 0.02, 0.05, 0.12, 0.3)),
    "JPEG": Defect(jpeg, (40, 20, 10, 5, 2)),
    "mosaic": Defect(mosaic, (40, 24, 16, 10, 5)),
    "lost blocks": Defect(lost_blocks, (0.02, 0.05, 0.1, 0.2, 0.4)),
    "posterised": Defect(posterised, (16, 8, 5, 3, 2)),
    "haze": Defect(hazy, (0.2, 0.4, 0.6, 0.78, 0.92)),
    "low contrast": Defect(low_contrast, (0.2, 0.4, 0.6, 0.78, 0.92)),
}
MOTION = ("motion, level", "motion, slant", "motion, upright")
CASTS = ("green cast", "blue cast", "red cast", "magenta cast")


@dataclass(frozen=True)
class Base:
    """A picture without a defect."""

    name: str
    pixels: Pixels
    is_photograph: bool


def drawn(kinds: Sequence[str | Callable], count: int, seed: int) -> list[Base]:
    """So many drawings of these kinds in turn, of all sizes."""
    bases = []
    for i in range(count):
        kind = kinds[i % len(kinds)]
        paint = draw.SCENES[kind] if isinstance(kind, str) else kind
        rng = np.random.default_rng((seed, i))
        bases.append(Base(f"{paint.__name__} {i}", paint(SIDES[(i * 3 + seed) % len(SIDES)], rng), False))
    return bases


def photographs(names: Sequence[str], seed: int) -> list[Base]:
    return [Base(name, photograph(name, SIDES[(i * 2 + seed) % len(SIDES)]), True) for i, name in enumerate(names)]


# Question -> from which strength of which defect on the answer is no beyond dispute, and up to which it is still yes.
_SHARP_STILL = {"faded": 5, "green cast": 3, "gamma, dark": 1}
NO_FROM: Mapping[str, Mapping[str, int]] = {
    "clarity_1": {"defocus": 3, **dict.fromkeys(MOTION, 3), "too small": 3},
    "clarity_2": {"defocus": 3, **dict.fromkeys(MOTION, 3), "too small": 4},
    "clarity_3": {"defocus": 4, **dict.fromkeys(MOTION, 4), "too small": 4},
    "clarity_4": {"defocus": 5, **dict.fromkeys(MOTION, 5), "too small": 5},
    "color_brightness_1": {"gamma, dark": 4, "gloom": 3, "vignetting": 5},
    "color_brightness_2": {"gamma, dark": 4, "gloom": 4, "vignetting": 5},
    "color_aesthetic_1": {"faded": 5, "haze": 4, **dict.fromkeys(CASTS, 4)},
    "color_aesthetic_2": {"haze": 5, **dict.fromkeys(CASTS, 4)},
    "lighting_distinction_1": {"haze": 3, "low contrast": 3},
    "lighting_distinction_2": {"haze": 4, "low contrast": 4},
    "lighting_distinction_3": {"haze": 5, "low contrast": 5},
    "detail_refinement_1": {"defocus": 4, **dict.fromkeys(MOTION, 4), "too small": 4, "JPEG": 4, "mosaic": 4},
    "detail_refinement_2": {"defocus": 4, **dict.fromkeys(MOTION, 4), "too small": 4, "JPEG": 4, "mosaic": 4},
    "detail_refinement_3": {"grain": 3, "salt and pepper": 3, "JPEG": 4, "mosaic": 3, "lost blocks": 3},
    "detail_refinement_4": {"grain": 5, "salt and pepper": 5, "JPEG": 5, "mosaic": 4, "lost blocks": 5},
    "detail_refinement_5": {"mosaic": 5, "too small": 5, "defocus": 5},
    "detail_refinement_6": {"lost blocks": 4},
}  # fmt: skip
YES_UP_TO: Mapping[str, Mapping[str, int]] = {
    "clarity_1": _SHARP_STILL,
    "clarity_2": _SHARP_STILL,
    "clarity_3": _SHARP_STILL,
    "clarity_4": {**_SHARP_STILL, "defocus": 1, **dict.fromkeys(MOTION, 1), "grain": 2},
    "color_brightness_1": {},
    "color_brightness_2": {"defocus": 4, "faded": 3},
    "color_aesthetic_1": {},
    "color_aesthetic_2": {"defocus": 3},
    "lighting_distinction_1": {},
    "lighting_distinction_2": {"defocus": 1},
    "lighting_distinction_3": {"defocus": 3, "low contrast": 1},
    "detail_refinement_1": {},
    "detail_refinement_2": {},
    "detail_refinement_3": {"defocus": 3, "gloom": 1},
    "detail_refinement_4": {"defocus": 3, "grain": 1, "JPEG": 1},
    "detail_refinement_5": {"defocus": 1, "grain": 2, "JPEG": 1, "faded": 5},
    "detail_refinement_6": {"defocus": 2, "grain": 1},
}


def spoilt(bases: Sequence[Base], question_ids: Sequence[str], seed: int) -> Iterator[Case]:
    """Each picture without a defect, with those that leave the answer yes, and with those strong enough for a no."""
    for i, base in enumerate(bases):
        answers: dict[tuple[str, int], dict[str, bool]] = {("none", 0): dict.fromkeys(question_ids, True)}
        for question_id in question_ids:
            for name, last in YES_UP_TO[question_id].items():
                answers.setdefault((name, last), {})[question_id] = True
            for name, first in NO_FROM[question_id].items():
                for strength in range(first, NUM_STRENGTHS + 1):
                    answers.setdefault((name, strength), {})[question_id] = False
        yield from asked(base, answers, DEFECTS, (seed, i))


def asked(
    base: Base,
    truths: Mapping[tuple[str, int], Mapping[str, bool]],
    defects: Mapping[str, Callable[[Pixels, int, np.random.Generator], Pixels]],
    seed: tuple[int, int],
) -> Iterator[Case]:
    """A picture with each defect and strength, and what is true of it by question; the defect "none" is the picture itself."""
    for (name, strength), answers in truths.items():
        rng = np.random.default_rng((*seed, strength))
        image = to_image(base.pixels if name == "none" else defects[name](base.pixels, strength, rng))
        for question_id, truth in answers.items():
            yield Case(question_id, image, truth, name, strength)


def known(
    bases: Sequence[Base], question_ids: Sequence[str], truth: bool, series: str, prompt: str = ""
) -> Iterator[Case]:
    """The same answer about each picture."""
    for base in bases:
        image = to_image(base.pixels)
        for question_id in question_ids:
            yield Case(question_id, image, truth, series, 0 if truth else 1, prompt)


def changed(bases: Sequence[Base], name: str, change: Callable[[Pixels], Pixels]) -> list[Base]:
    return [Base(f"{base.name}, {name}", change(base.pixels), base.is_photograph) for base in bases]


def cases(num: int = 10, seed: int = 7, names: Collection[str] = PHOTOGRAPHS) -> Iterator[Case]:
    """All clear cases; `num` drawings of most kinds, and only the named photographs."""
    photos = photographs([*PHOTOGRAPHS], seed)
    by_name = {base.name: base for base in photos}
    of = lambda *wanted: [by_name[name] for name in wanted if name in names]  # noqa: E731
    scenes = drawn([*draw.SCENES], num, seed)
    coloured = drawn(["landscape", "flower", "shoal", "town"], num, seed + 1)
    clarity = [f"clarity_{level}" for level in (1, 2, 3, 4)]
    detail = ["detail_refinement_1", "detail_refinement_2"]
    rng = np.random.default_rng(seed)

    yield from spoilt(
        [*scenes, *of("officer", "cameraman", "coins", "brick", "grass", "gravel", "flag")], clarity, seed
    )
    bright = ["color_brightness_1", "color_brightness_2"]
    yield from spoilt(coloured, bright, seed)
    yield from spoilt(of("officer", "face", "flag", "retina"), bright[1:], seed)
    colours = ["color_aesthetic_1", "color_aesthetic_2"]
    yield from spoilt([*coloured, *of("officer", "flag")], colours, seed)
    contrasts = [f"lighting_distinction_{level}" for level in (1, 2, 3)]
    yield from spoilt([*drawn([draw.engraving, "bottles"], num, seed + 2), *of("officer", "cameraman", "coins")], contrasts, seed)  # fmt: skip
    yield from known(drawn([draw.empty], num, seed), contrasts, False, "a plain ground")

    # Detail: fine, lost, and never there.
    fine = [*drawn([draw.engraving], num // 2, seed + 3), *of("gravel", "grass", "coins", "tripod", "officer")]
    yield from spoilt(fine, detail, seed)
    plain = drawn([draw.single, draw.horizon], num, seed + 4)
    yield from known(plain, detail, False, "flat shapes and grounds")
    for name in ("grain", "salt and pepper", "lost blocks"):
        for strength in (3, 4, 5):
            noisy = changed(plain, name, lambda pixels, n=name, s=strength: DEFECTS[n](pixels, s, rng))
            yield from known(noisy, detail, False, f"{name} for detail")
    rough = [f"detail_refinement_{level}" for level in (3, 4)]
    smooth = [*scenes, *drawn([draw.single, draw.ornament], num, seed + 5), *of("officer", "face", "retina", "cell")]
    yield from spoilt(smooth, rough, seed)
    things = [*drawn(["landscape", "shoal", "town", "bottles"], num, seed + 6), *of("officer", "cameraman", "coins")]
    yield from spoilt(things, ["detail_refinement_5"], seed)
    for name, change in (("black", lambda p: p * 0.02), ("white", lambda p: 0.98 + p * 0.02)):
        yield from known(changed(things, name, change), ["detail_refinement_5"], False, name)
    whole = [*drawn(["landscape", "flower", "bottles", draw.single], num, seed + 8), *of("officer", "face", "cell")]
    yield from spoilt(whole, ["detail_refinement_6"], seed)
    for name, change in (("debris", lambda p: draw.debris(p, rng)), ("shuffled", lambda p: shuffled(p, 8, rng))):
        yield from known(changed(whole, name, change), ["detail_refinement_6"], False, name)

    yield from _layouts(num, seed, of)
    yield from _texts(4 * num, seed)


def _layouts(num: int, seed: int, of: Callable[..., list[Base]]) -> Iterator[Case]:
    rng = np.random.default_rng(seed + 20)
    noise = lambda pixels: DEFECTS["grain"](pixels, 1, rng)  # noqa: E731
    mirrored = changed(
        of("officer", "cameraman", "coins", "moon", "flag"),
        "mirrored",
        lambda p: np.concatenate([p[:, : p.shape[1] // 2], p[:, : p.shape[1] // 2][:, ::-1]], axis=1),
    )
    even = [*drawn([draw.ornament], num, seed + 21), *mirrored]
    lopsided = drawn([draw.one_sided], num, seed + 22)
    both = ["symmetry_1", "symmetry_2"]
    yield from known(even, both, True, "mirrored")
    yield from known(changed(even, "grain", noise), both, True, "mirrored, with grain")
    yield from known(lopsided, both, False, "all on one side")
    yield from known(changed(lopsided, "grain", noise), both, False, "all on one side, with grain")
    aside = changed(mirrored, "moved", lambda p: np.roll(p, p.shape[1] // 4, axis=1))
    yield from known(aside, both[:1], False, "off the middle")

    one = drawn([draw.single, "flower"], num, seed + 23)
    none = [*drawn([draw.empty, draw.horizon], num, seed + 24), *of("brick", "grass", "gravel", "lawn")]
    main = ["main_object_1", "main_object_2"]
    yield from known(one, main, True, "one thing")
    yield from known(changed(one, "soft", lambda p: DEFECTS["defocus"](p, 1, rng)), main, True, "one thing, soft")
    yield from known(none, main, False, "nothing in particular")
    yield from known(changed(none, "grain", lambda p: DEFECTS["grain"](p, 3, rng)), main, False, "nothing, with grain")
    faint = [Base("faint", draw.single(128, np.random.default_rng((seed, i)), radius=0.06, contrast=0.15), False) for i in range(num)]  # fmt: skip
    yield from known(faint, main, False, "small and faint")

    crowds = [*drawn([lambda s, r: draw.shoal(s, r, 49), "town"], num, seed + 25), *of("coins", "gravel")]
    blank = drawn([draw.empty, draw.horizon], num, seed + 26)
    rich = [f"richness_{level}" for level in (1, 2, 3, 4)]
    yield from known(crowds, rich, True, "crowds")
    yield from known(one, rich[2:], True, "one thing")
    yield from known([*drawn([draw.single], num, seed + 27)], rich[:2], False, "one thing")
    yield from known(blank, rich[:3], False, "a plain ground")
    yield from known(drawn([draw.empty], num, seed + 28), rich[3:], False, "a plain ground")
    for strength in (1, 3):
        noisy = changed(drawn([draw.empty], num, seed + 29), "grain", lambda p, s=strength: DEFECTS["grain"](p, s, rng))
        yield from known(noisy, rich, False, "nothing but grain")


def _texts(num: int, seed: int) -> Iterator[Case]:
    """Right and wrong texts, each wrong in one word, about drawings of all sizes, also soft, dim, grainy and faded."""
    shapes, grounds = ("circle", "square", "triangle", "star", "ring", "heart"), ("white", "blue", "black", "green")
    inks = {"white": "red blue green purple", "blue": "red yellow white orange", "black": "yellow white red green", "green": "red white yellow purple"}  # fmt: skip
    for i in range(num):
        rng = np.random.default_rng((seed + 30, i))
        ground, shape, count = grounds[i % 4], shapes[i % 6], 1 + i // 6 % 3
        ink, other_ink = rng.permutation(inks[ground].split())[:2]
        other_shape = shapes[(i + 1 + i % 5) % 6]
        pixels = draw.shown(SIDES[i * 3 % 7], ground, ink, shape, count, rng)
        number, other_number, ending = ("a", "two", "three")[count - 1], ("three", "a", "two")[count - 1], "s" * (count > 1)  # fmt: skip
        place = f"on a {ground} background"
        right = f"{number} {ink} {shape}{ending} {place}"
        wrong = (f"{number} {ink} {other_shape}{ending} {place}", f"{number} {other_ink} {shape}{ending} {place}",
                 f"{other_number} {ink} {shape}s {place}", f"{number} {ink} {shape}{ending} in a meadow")  # fmt: skip
        yield Case("alignment", to_image(pixels), True, "a true text", 0, right)
        yield Case("alignment", to_image(pixels), False, "one word wrong", 1, wrong[(i // 2) % 4])
        for name in ("defocus", "gloom", "grain", "JPEG"):
            worse = to_image(DEFECTS[name](pixels, 1, rng))
            yield Case("alignment", worse, True, f"a true text, {name}", 1, right)


@dataclass(frozen=True)
class Series:
    """One picture with one defect of strength 0 to 5."""

    defect: str
    picture: str
    images: tuple[Image.Image, ...]


def well_lit(pixels: Pixels) -> bool:
    """Whether more light makes it worse: of a dark picture it may make a better one."""
    value = pixels.max(axis=-1)
    return bool(np.median(value) >= 0.4 and np.percentile(value, 90) >= 0.6)


def series(num_drawings: int = 20, num_photographs: int = 20, seed: int = 11) -> Iterator[Series]:
    """Every defect at five strengths on every picture; those that brighten only on the well lit."""
    kinds = [*draw.SCENES, draw.engraving, draw.ornament, draw.single, draw.one_sided, "landscape"]
    bases = [*drawn(kinds, num_drawings, seed), *photographs([*PHOTOGRAPHS][:num_photographs], seed)]
    for i, base in enumerate(bases):
        for name, defect in DEFECTS.items():
            if defect.brightens and not well_lit(base.pixels):
                continue
            yield series_of(base, name, defect, (seed, i))


def series_of(
    base: Base, name: str, defect: Callable[[Pixels, int, np.random.Generator], Pixels], seed: tuple[int, int]
) -> Series:
    """One picture at all strengths, each with the same random numbers."""
    images = tuple(
        to_image(defect(base.pixels, strength, np.random.default_rng(seed))) for strength in range(NUM_STRENGTHS + 1)
    )
    return Series(name, base.name, images)
