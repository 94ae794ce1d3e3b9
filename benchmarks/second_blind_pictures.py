"""The second blind examination of the measured judge, for what was learnt from the first (`blind_pictures`).

Written before it was ever run on the judge, and not for setting thresholds. The drawings (`second_blind_drawings`), the
photographs and the defects' code are others than those of the first examination and of the sets that thresholds come from.
Truths follow from how a picture was made; only clear cases are asked. Of each defect a picture is asked about at one
strength, in rotation, so that no picture weighs more than another; `series` has all five strengths.

The environment has few photographs and most are used elsewhere. Here stand files that no other set reads (`text.png`,
`clock_motion.png`, `microaneurysms.png`, `horse.png`, scipy's and matplotlib's samples) and cut-outs of files that other sets
read, disjoint from theirs: margins beside the middle squares of the calibration set, and corners that the first examination
left. Of `motorcycle_right.png`, the other eye's view of a calibration picture, only the margin that the middle of
`motorcycle_left.png` does not show. Most photographs are therefore small and show a part of a thing.

    python -m benchmarks.measured_judge --blind second
"""

import gzip
import io
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import skimage.data
import sklearn.datasets
from PIL import Image

from benchmarks import second_blind_drawings as draw
from benchmarks.blind_pictures import NUM_STRENGTHS, SIDES, Base, Series, asked, series_of, to_image, well_lit
from benchmarks.calibration_set import Case
from benchmarks.second_blind_drawings import Pixels

Random = np.random.Generator
# Photographs: file, and the square that is cut out: left, top and side in pixels.
PHOTOGRAPHS: Mapping[str, tuple[str, int, int, int]] = {
    "bushes": ("china.jpg", 0, 321, 106), "tree": ("china.jpg", 534, 170, 106), "tree top": ("china.jpg", 534, 64, 106),
    "undergrowth": ("china.jpg", 534, 321, 106), "shelf": ("motorcycle_right.png", 621, 60, 120),
    "carton": ("motorcycle_right.png", 621, 180, 120), "garage floor": ("motorcycle_right.png", 621, 380, 120),
    "bench": ("motorcycle_left.png", 0, 150, 119), "wall": ("motorcycle_left.png", 0, 0, 119), "table": ("coffee.png", 0, 0, 100),
    "table's edge": ("coffee.png", 501, 280, 99), "left mast": ("rocket.jpg", 0, 150, 106), "right mast": ("rocket.jpg", 534, 150, 106),
    "arteries": ("retina.jpg", 560, 10, 285), "veins": ("retina.jpg", 560, 1101, 290), "galaxies": ("hubble_deep_field.jpg", 600, 0, 300),
    "stars": ("hubble_deep_field.jpg", 60, 573, 299), "bricks": ("brick.png", 385, 0, 127), "more bricks": ("brick.png", 385, 300, 127),
    "script": ("text.png", 0, 0, 172), "formula": ("text.png", 220, 0, 172), "print": ("page.png", 200, 0, 184), "horse": ("horse.png", 36, 0, 328),
    "head": ("s1045.ima.gz", 0, 0, 256), "parcel": ("Minduka_Present_Blue_Pack.png", 0, 0, 128), "capillaries": ("microaneurysms.png", 0, 0, 102),
    "turning clock": ("clock_motion.png", 50, 0, 300),
}  # fmt: skip


def _read(file: str) -> Image.Image:
    """A file of scikit-image, scikit-learn or matplotlib, on white where it is transparent."""
    samples = Path(matplotlib.get_data_path(), "sample_data")
    if file.endswith(".gz"):
        with gzip.open(samples / file) as scan:
            grey = np.frombuffer(scan.read(), np.uint16).reshape(256, 256).astype(float)
        return to_image(np.repeat((grey / np.percentile(grey, 99.5))[..., None], 3, axis=2))
    folders = (Path(skimage.data.__file__).parent, Path(sklearn.datasets.__file__).parent / "images", samples)
    image = Image.open(next(folder / file for folder in folders if (folder / file).exists())).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def photograph(name: str, side: int) -> Pixels:
    """A photograph's square, reduced to `side` pixels; never enlarged."""
    file, left, top, cut = PHOTOGRAPHS[name]
    side = min(side, cut)
    image = _read(file).crop((left, top, left + cut, top + cut)).resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(image, dtype=float) / 255


# Defects: pixels, amount, random numbers -> pixels. Lengths are shares of the side.


def _spread(pixels: Pixels, points: np.ndarray) -> Pixels:
    """Averaged over displacements (N, 2) in pixels, each of equal weight."""
    reach = int(np.ceil(np.abs(points).max())) + 1
    kernel = np.zeros((2 * reach + 1,) * 2)
    for dx, dy in points:
        x, y = int(np.floor(dx)), int(np.floor(dy))
        a, b = dx - x, dy - y
        for i, j, weight in ((0, 0, (1 - a) * (1 - b)), (1, 0, a * (1 - b)), (0, 1, (1 - a) * b), (1, 1, a * b)):
            kernel[reach + y + j, reach + x + i] += weight
    return np.clip(
        cv2.filter2D(pixels.astype(np.float32), -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT_101), 0, 1
    )


def hexagon(pixels: Pixels, radius: float, _) -> Pixels:
    """Out of focus behind an aperture of six blades."""
    grid = np.linspace(-1, 1, 2 * int(np.ceil(radius * len(pixels) * 2)) + 1)
    x, y = np.meshgrid(grid, grid)
    inside = np.maximum(np.abs(x), np.abs(x) / 2 + np.abs(y) * 3**0.5 / 2) <= 1
    return _spread(pixels, np.stack([x[inside], y[inside]], axis=1) * radius * len(pixels))


def _arc(degrees: float) -> Callable[[Pixels, float, Random], Pixels]:
    """Moved along a bent line, in that direction in the middle."""

    def moved(pixels: Pixels, length: float, _) -> Pixels:
        reach = length * len(pixels)
        along = np.linspace(-0.5, 0.5, max(9, int(3 * reach))) * reach
        bent, turn = 0.5 * along**2 / reach, np.deg2rad(degrees)
        points = np.stack([along * np.cos(turn) - bent * np.sin(turn), along * np.sin(turn) + bent * np.cos(turn)], 1)
        return _spread(pixels, points - points.mean(axis=0))

    return moved


def shake(pixels: Pixels, length: float, rng: Random) -> Pixels:
    """Held by an unsteady hand: a smooth random path, `length` from end to end."""
    steps = cv2.GaussianBlur(rng.normal(size=(400, 2)), (1, 61), 0, borderType=cv2.BORDER_REFLECT)
    path = np.cumsum(steps, axis=0)
    path -= path.mean(axis=0)
    return _spread(pixels, path * length * len(pixels) / np.ptp(path, axis=0).max())


def enlarged(pixels: Pixels, num_pixels: float, _) -> Pixels:
    """Reduced to so many pixels a side and enlarged again."""
    side = len(pixels)
    if num_pixels >= side:
        return pixels
    small = to_image(pixels).resize((int(num_pixels), int(num_pixels)), Image.Resampling.BICUBIC)
    return np.asarray(small.resize((side, side), Image.Resampling.BICUBIC), dtype=float) / 255


def underexposed(pixels: Pixels, stops: float, _) -> Pixels:
    """Less light on the sensor, and the darkest tones cut off."""
    linear = np.where(pixels <= 0.04045, pixels / 12.92, ((pixels + 0.055) / 1.055) ** 2.4) * 2.0**-stops
    dark = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055)
    return np.clip(dark - 0.004 * stops, 0, 1)


def murk(pixels: Pixels, amount: float, _) -> Pixels:
    """Seen through dark brown glass."""
    return pixels * (1 - amount * np.array([0.88, 0.92, 0.96]))


def pale(pixels: Pixels, amount: float, _) -> Pixels:
    return 1 - (1 - pixels) ** (1 + amount)


def burnt(pixels: Pixels, gain: float, _) -> Pixels:
    return np.clip(pixels * gain + 0.04 * (gain - 1), 0, 1)


def dark_rim(pixels: Pixels, share: float, _) -> Pixels:
    """Darker from the middle outwards, as through a tube; at 1 only a quarter of the side is still lit."""
    x, y = draw.grid(len(pixels))
    away = np.hypot(x - 0.5, y - 0.5) / 0.707
    reach = 1.3 - 1.15 * share
    return pixels * (1 - min(1, 1.6 * share) / (1 + np.exp(-(away - reach) * 9)))[..., None]


def _luma(pixels: Pixels) -> np.ndarray:
    return (pixels @ [0.2126, 0.7152, 0.0722])[..., None]


def less_colour(pixels: Pixels, amount: float, _) -> Pixels:
    """Chroma in CIELAB taken away; 1 leaves grey."""
    lab = cv2.cvtColor(pixels.astype(np.float32), cv2.COLOR_RGB2LAB)
    lab[..., 1:] *= 1 - amount
    return np.clip(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB).astype(float), 0, 1)


def gaudy(pixels: Pixels, gain: float, _) -> Pixels:
    grey = _luma(pixels)
    return np.clip(grey + (pixels - grey) * gain, 0, 1)


def _stained(*tint: float) -> Callable[[Pixels, float, Random], Pixels]:
    """Towards shades of one hue."""

    def stained(pixels: Pixels, amount: float, _) -> Pixels:
        return pixels * (1 - amount) + amount * _luma(pixels) ** 0.8 * np.array(tint)

    return stained


def sensor_noise(pixels: Pixels, amount: float, rng: Random) -> Pixels:
    """Shot noise, more of it where it is bright, and read noise everywhere; each channel by itself."""
    return np.clip(pixels + rng.normal(size=pixels.shape) * np.sqrt(amount**2 * (0.35 + 0.9 * pixels)), 0, 1)


def film_grain(pixels: Pixels, amount: float, rng: Random) -> Pixels:
    """Grey clumps of about a pixel and a half, the same in all channels."""
    clumps = cv2.GaussianBlur(rng.normal(size=pixels.shape[:2]), (0, 0), 0.6)
    return np.clip(pixels + amount * (clumps / clumps.std())[..., None], 0, 1)


def colour_blotches(pixels: Pixels, amount: float, rng: Random) -> Pixels:
    """Red, green and blue patches of a few pixels, at unchanged brightness."""
    side = len(pixels)
    count = max(16, min(side // 3, 80))
    patches = cv2.resize(rng.normal(size=(count, count, 3)), (side, side), interpolation=cv2.INTER_LINEAR)
    return np.clip(pixels + amount * (patches - _luma(patches)), 0, 1)


def specks(pixels: Pixels, share: float, rng: Random) -> Pixels:
    """Dead and hot pixels, of 1 pixel at 64 to 192 a side, larger above."""
    spoilt, size = pixels.copy(), max(1, len(pixels) // 128)
    count = -(-len(pixels) // size)
    where = np.kron(rng.random((count, count)), np.ones((size, size)))[: len(pixels), : len(pixels)]
    colour = np.kron(rng.integers(0, 2, (count, count)), np.ones((size, size)))[: len(pixels), : len(pixels)]
    hit = where < share
    spoilt[hit] = colour[hit][:, None]
    return spoilt


def block_noise(pixels: Pixels, amount: float, rng: Random) -> Pixels:
    """Squares of a thirty-second of the side, each too light or too dark."""
    size = max(2, len(pixels) // 32)
    count = -(-len(pixels) // size)
    noise = np.kron(rng.normal(size=(count, count)), np.ones((size, size)))[: len(pixels), : len(pixels), None]
    return np.clip(pixels + amount * noise, 0, 1)


def jpeg_411(pixels: Pixels, quality: float, _) -> Pixels:
    """JPEG with a quarter of the columns for colour."""
    flags = [cv2.IMWRITE_JPEG_QUALITY, int(quality), cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411]  # fmt: skip
    _, data = cv2.imencode(".jpg", np.asarray(to_image(pixels))[..., ::-1], flags)
    return np.asarray(Image.open(io.BytesIO(data.tobytes())).convert("RGB"), dtype=float) / 255


def webp_again(pixels: Pixels, times: float, _) -> Pixels:
    """Saved as WebP of lowest quality so many times, each time moved by some pixels, then put back."""
    image = to_image(pixels)
    for k in range(int(times)):
        moved = Image.fromarray(np.roll(np.asarray(image), (3 * k + 1, 5 * k + 2), axis=(0, 1)))
        buffer = io.BytesIO()
        moved.save(buffer, "WEBP", quality=0)
        image = Image.fromarray(np.roll(np.asarray(Image.open(buffer).convert("RGB")), (-3 * k - 1, -5 * k - 2), axis=(0, 1)))  # fmt: skip
    return np.asarray(image, dtype=float) / 255


def few_colours(pixels: Pixels, num_colours: float, _) -> Pixels:
    """A palette of so many colours, without dither."""
    reduced = to_image(pixels).quantize(int(num_colours), Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    return np.asarray(reduced.convert("RGB"), dtype=float) / 255


def crystallised(pixels: Pixels, across: float, rng: Random) -> Pixels:
    """Cells around jittered points, so many a side, each of its mean colour."""
    side, n = len(pixels), int(across)
    x, y = draw.grid(side)
    seeds = (np.stack(np.meshgrid(np.arange(n), np.arange(n), indexing="xy"), axis=-1) + rng.uniform(0.1, 0.9, (n, n, 2))) / n  # fmt: skip
    column, row = (x * n).astype(int), (y * n).astype(int)
    best, nearest = np.full((side, side), np.inf), np.zeros((side, side), int)
    for dr in (-1, 0, 1):
        for dc in (-1, 0, 1):
            r, c = np.clip(row + dr, 0, n - 1), np.clip(column + dc, 0, n - 1)
            away = (seeds[r, c, 0] - x) ** 2 + (seeds[r, c, 1] - y) ** 2
            closer = away < best
            best, nearest = np.where(closer, away, best), np.where(closer, r * n + c, nearest)
    size = np.maximum(np.bincount(nearest.ravel(), minlength=n * n), 1)
    means = np.stack([np.bincount(nearest.ravel(), pixels[..., k].ravel(), n * n) / size for k in range(3)], axis=1)
    return means[nearest]


def mist_over(pixels: Pixels, amount: float, _) -> Pixels:
    """Bluish white fog, a little thicker at the top."""
    _, y = draw.grid(len(pixels))
    thick = np.clip(amount * (1.06 - 0.12 * y), 0, 1)[..., None]
    return pixels * (1 - thick) + thick * np.array([0.78, 0.81, 0.85])


def flat(pixels: Pixels, amount: float, _) -> Pixels:
    """All tones towards the picture's mean tone."""
    return pixels * (1 - amount) + amount * pixels.mean()


def bars(pixels: Pixels, amount: float, _) -> Pixels:
    """Dark bands of a broken sensor, a twelfth of the side apart, hard at one edge."""
    y = np.arange(len(pixels)) / len(pixels)
    return pixels * (1 - amount * ((y * 12) % 1))[:, None, None]


def double(pixels: Pixels, share: float, _) -> Pixels:
    """A second exposure of the same thing, a ninth of the side away."""
    away = max(2, len(pixels) // 9)
    return pixels * (1 - share) + share * np.roll(pixels, (away // 2, away), axis=(0, 1))


def torn(pixels: Pixels, share: float, rng: Random) -> Pixels:
    """Cut into fourteen bands of rows, then of columns, that are each moved along by up to that share of the side."""
    spoilt, side = pixels.copy(), len(pixels)
    bands = np.arange(side) * 14 // side
    for band in range(14):
        spoilt[bands == band] = np.roll(spoilt[bands == band], round(rng.uniform(-1, 1) * share * side), axis=1)
    for band in range(14):
        spoilt[:, bands == band] = np.roll(spoilt[:, bands == band], round(rng.uniform(-1, 1) * share * side), axis=0)
    return spoilt


def turned_tiles(pixels: Pixels, count: int, rng: Random) -> Pixels:
    """Cut into count x count tiles that change places and are turned by quarters."""
    size = len(pixels) // count
    tiles = [pixels[r * size : (r + 1) * size, c * size : (c + 1) * size] for r in range(count) for c in range(count)]
    mixed = [np.rot90(tiles[k], int(rng.integers(4))) for k in rng.permutation(count**2)]
    return np.concatenate([np.concatenate(mixed[r * count : (r + 1) * count], axis=1) for r in range(count)])


def colourful(pixels: Pixels) -> bool:
    """Whether more, less or other colour makes it worse: of a dull picture it may make a better one."""
    return bool(np.mean(pixels.max(axis=-1) - pixels.min(axis=-1)) >= 0.22)


def structured(pixels: Pixels) -> bool:
    """Whether bands and shifts show: in a nearly plain picture they are the only thing to see."""
    return bool(pixels.mean(axis=-1).std() >= 0.12)


def anything(pixels: Pixels) -> bool:
    return True


@dataclass(frozen=True)
class Defect:
    """Five amounts of one defect, weakest first."""

    apply: Callable[[Pixels, float, Random], Pixels]
    amounts: tuple[float, float, float, float, float]
    worsens: Callable[[Pixels], bool] = anything  # the pictures that it makes worse without a doubt

    def __call__(self, pixels: Pixels, strength: int, rng: Random) -> Pixels:
        """Strength 0 to 5; 0 is the picture itself."""
        return self.apply(pixels, self.amounts[strength - 1], rng) if strength else pixels


DEFECTS: Mapping[str, Defect] = {
    "hexagonal defocus": Defect(hexagon, (0.01, 0.024, 0.045, 0.08, 0.15)),
    "arc, nearly level": Defect(_arc(12), (0.018, 0.04, 0.075, 0.13, 0.33)),
    "arc, steep": Defect(_arc(106), (0.018, 0.04, 0.075, 0.13, 0.33)),
    "arc, falling": Defect(_arc(-52), (0.018, 0.04, 0.075, 0.13, 0.33)),
    "camera shake": Defect(shake, (0.02, 0.045, 0.085, 0.15, 0.36)),
    "enlarged": Defect(enlarged, (60, 38, 22, 14, 7)),
    "underexposed": Defect(underexposed, (0.8, 1.7, 2.8, 4, 6)),
    "murk": Defect(murk, (0.2, 0.4, 0.6, 0.76, 0.92)),
    "pale": Defect(pale, (0.3, 0.8, 1.7, 3.5, 7), well_lit),
    "burnt": Defect(burnt, (1.25, 1.6, 2.1, 3.2, 6), well_lit),
    "dark rim": Defect(dark_rim, (0.15, 0.35, 0.55, 0.75, 1)),
    "less colour": Defect(less_colour, (0.2, 0.4, 0.6, 0.8, 1), colourful),
    "gaudy": Defect(gaudy, (1.4, 2, 3, 5, 10), colourful),
    "sickly green": Defect(_stained(0.42, 1, 0.05), (0.12, 0.28, 0.48, 0.72, 1), colourful),
    "violet": Defect(_stained(0.7, 0.15, 1), (0.12, 0.28, 0.48, 0.72, 1), colourful),
    "cyan": Defect(_stained(0.05, 0.95, 1), (0.12, 0.28, 0.48, 0.72, 1), colourful),
    "red": Defect(_stained(1, 0.08, 0.14), (0.12, 0.28, 0.48, 0.72, 1), colourful),
    "sensor noise": Defect(sensor_noise, (0.03, 0.06, 0.12, 0.22, 0.4)),
    "film grain": Defect(film_grain, (0.025, 0.055, 0.11, 0.2, 0.36)),
    "colour blotches": Defect(colour_blotches, (0.05, 0.1, 0.2, 0.35, 0.6)),
    "specks": Defect(specks, (0.004, 0.015, 0.05, 0.13, 0.32)),
    "block noise": Defect(block_noise, (0.03, 0.06, 0.12, 0.2, 0.36)),
    "JPEG 4:1:1": Defect(jpeg_411, (35, 18, 9, 4, 1)),
    "WebP again": Defect(webp_again, (1, 2, 4, 8, 16)),
    "few colours": Defect(few_colours, (24, 12, 7, 4, 2)),
    "crystallised": Defect(crystallised, (38, 24, 15, 9, 5)),
    "mist": Defect(mist_over, (0.2, 0.4, 0.6, 0.8, 0.97), well_lit),
    "flat": Defect(flat, (0.2, 0.4, 0.6, 0.8, 0.97)),
    "bars": Defect(bars, (0.12, 0.25, 0.45, 0.65, 0.9), structured),
    "double exposure": Defect(double, (0.1, 0.2, 0.3, 0.4, 0.5), structured),
    "torn": Defect(torn, (0.02, 0.05, 0.1, 0.2, 0.5), structured),
}  # fmt: skip
ARCS = ("arc, nearly level", "arc, steep", "arc, falling")


def drawn(kinds: Sequence[str | Callable], count: int, seed: int, at_least: int = 64) -> list[Base]:
    """So many drawings of these kinds in turn, of all sizes from `at_least` on."""
    sides, bases = [side for side in SIDES if side >= at_least], []
    for i in range(count):
        kind = kinds[i % len(kinds)]
        paint = draw.SCENES[kind] if isinstance(kind, str) else kind
        side = sides[(i + i // len(kinds) + 2 * seed) % len(sides)]
        bases.append(Base(f"{paint.__name__} {i}", paint(side, np.random.default_rng((seed, i, side))), False))
    return bases


def photographs(names: Sequence[str], seed: int) -> list[Base]:
    return [Base(name, photograph(name, SIDES[(i * 3 + seed) % len(SIDES)]), True) for i, name in enumerate(names)]


# Question -> from which strength of which defect on the answer is no beyond dispute, and up to which it is still yes.
_SOFT = {"hexagonal defocus": 3, **dict.fromkeys(ARCS, 3), "camera shake": 3, "enlarged": 3}
# Not motion: it leaves fine lines where it goes along an edge.
_LOST = {"hexagonal defocus": 4, "enlarged": 4, "crystallised": 3}
# Not cyan: a picture in shades of it may please.
_UGLY = {"sickly green": 4, "violet": 5, "red": 5}
_SHARP_STILL = {"less colour": 5, "violet": 2, "murk": 1}
NO_FROM: Mapping[str, Mapping[str, int]] = {
    "clarity_1": _SOFT,
    "clarity_2": _SOFT,
    "clarity_3": {**_SOFT, "enlarged": 4},
    "clarity_4": {"hexagonal defocus": 5, "arc, falling": 5, "enlarged": 5},
    "color_brightness_1": {"underexposed": 3, "murk": 3, "dark rim": 5},
    "color_brightness_2": {"underexposed": 4, "murk": 4, "dark rim": 5},
    "color_aesthetic_1": {"less colour": 5, "mist": 4, **_UGLY},
    "color_aesthetic_2": {"mist": 5, **_UGLY},
    "lighting_distinction_1": {"mist": 3, "flat": 3},
    "lighting_distinction_2": {"mist": 4, "flat": 4},
    "lighting_distinction_3": {"mist": 5, "flat": 5},
    "detail_refinement_1": _LOST,
    "detail_refinement_2": _LOST,
    "detail_refinement_3": {"sensor noise": 3, "film grain": 3, "colour blotches": 4, "specks": 3, "block noise": 3, "JPEG 4:1:1": 5, "crystallised": 3},
    "detail_refinement_4": {"sensor noise": 5, "film grain": 5, "specks": 5, "block noise": 5, "crystallised": 4},
    "detail_refinement_5": {"crystallised": 5, "enlarged": 5, "hexagonal defocus": 5},
    "detail_refinement_6": {"torn": 4},
}  # fmt: skip
YES_UP_TO: Mapping[str, Mapping[str, int]] = {
    "clarity_1": _SHARP_STILL,
    "clarity_2": _SHARP_STILL,
    "clarity_3": _SHARP_STILL,
    "clarity_4": {**_SHARP_STILL, "hexagonal defocus": 1, "arc, falling": 1, "film grain": 1},
    "color_brightness_1": {"hexagonal defocus": 2, "arc, falling": 2},
    "color_brightness_2": {"hexagonal defocus": 3, "JPEG 4:1:1": 1, "murk": 1},
    "color_aesthetic_1": {"hexagonal defocus": 1, "arc, falling": 1},
    "color_aesthetic_2": {"hexagonal defocus": 3, "murk": 1},
    "lighting_distinction_1": {"less colour": 5, "hexagonal defocus": 1},
    "lighting_distinction_2": {"less colour": 5, "hexagonal defocus": 2},
    "lighting_distinction_3": {"less colour": 5, "hexagonal defocus": 2, "flat": 1},
    "detail_refinement_1": {"less colour": 5, "violet": 1},
    "detail_refinement_2": {"less colour": 5, "violet": 1},
    "detail_refinement_3": {"hexagonal defocus": 2, "murk": 1, "less colour": 5},
    "detail_refinement_4": {"hexagonal defocus": 3, "film grain": 1, "JPEG 4:1:1": 1},
    "detail_refinement_5": {"hexagonal defocus": 1, "film grain": 1, "JPEG 4:1:1": 1, "less colour": 5},
    "detail_refinement_6": {"hexagonal defocus": 2, "film grain": 1},
}


def spoilt(
    bases: Sequence[Base],
    question_ids: Sequence[str],
    seed: int,
    no_from: Mapping[str, Mapping[str, int]] = NO_FROM,
    yes_up_to: Mapping[str, Mapping[str, int]] = YES_UP_TO,
    defects: Mapping[str, Defect] = DEFECTS,
) -> Iterator[Case]:
    """Each picture itself, with defects that leave the answer yes, and with each that makes it no, at one strength."""
    for i, base in enumerate(bases):
        truths: dict[tuple[str, int], dict[str, bool]] = {("none", 0): dict.fromkeys(question_ids, True)}
        for question_id in question_ids:
            for name, last in yes_up_to[question_id].items():
                truths.setdefault((name, last), {})[question_id] = True
            for k, (name, first) in enumerate(no_from[question_id].items()):
                strength = first + (i + k) % (NUM_STRENGTHS + 1 - first)
                truths.setdefault((name, strength), {})[question_id] = False
        yield from asked(base, truths, defects, (seed, i))


def known(bases: Sequence[Base], answers: Mapping[str, bool], series: str) -> Iterator[Case]:
    """The same answers about each picture."""
    for base in bases:
        image = to_image(base.pixels)
        for question_id, truth in answers.items():
            yield Case(question_id, image, truth, series, 0 if truth else 1)


def changed(bases: Sequence[Base], change: Callable[[Pixels], Pixels]) -> list[Base]:
    return [replace(base, pixels=change(base.pixels)) for base in bases]


def worse(bases: Sequence[Base], name: str, strength: int, seed: int) -> list[Base]:
    rng = np.random.default_rng((seed, strength))
    return changed(bases, lambda pixels: DEFECTS[name](pixels, strength, rng))


def levels(stem: str, *numbers: int, truth: bool) -> dict[str, bool]:
    return {f"{stem}_{number}": truth for number in numbers}


def cases(num: int = 24, seed: int = 41, names: Collection[str] = PHOTOGRAPHS) -> Iterator[Case]:
    """All clear cases; `num` drawings of most kinds, and only the named photographs."""
    by_name = {base.name: base for base in photographs([*PHOTOGRAPHS], seed)}
    of = lambda *wanted: [by_name[name] for name in wanted if name in names]  # noqa: E731

    yield from _sharpness_and_light(num, seed, of)
    yield from _detail(num, seed + 1, of)
    yield from _layouts(num, seed + 2, of)
    yield from _texts(4 * num, seed + 3)


def _sharpness_and_light(num: int, seed: int, of: Callable[..., list[Base]]) -> Iterator[Case]:
    edged = drawn([*draw.SCENES, draw.butterfly, draw.lace], num, seed)
    sharp = of("shelf", "bench", "carton", "print", "horse", "left mast", "right mast", "parcel")
    yield from spoilt([*edged, *sharp], [f"clarity_{level}" for level in (1, 2, 3, 4)], seed)
    yield from known(of("turning clock"), levels("clarity", 1, 2, 3, truth=False), "motion in the camera")

    vivid = drawn(["coast", draw.butterfly, "quilt", "still_life"], num, seed + 100)
    bright = ["color_brightness_1", "color_brightness_2"]
    yield from spoilt([*vivid, *of("parcel")], bright, seed)
    yield from spoilt([*drawn(["room", "portrait"], num // 3, seed + 101), *of("table's edge")], bright[1:], seed)
    fair = drawn(["coast", draw.butterfly, "still_life"], num, seed + 102)
    yield from spoilt([*fair, *of("parcel")], ["color_aesthetic_1", "color_aesthetic_2"], seed)
    yield from spoilt([*drawn(["portrait", "room"], num // 3, seed + 103), *of("tree", "table's edge")], ["color_aesthetic_2"], seed)  # fmt: skip

    lit = drawn([draw.lamplight], num, seed + 104)
    contrasts = [f"lighting_distinction_{level}" for level in (1, 2, 3)]
    yield from spoilt(lit, contrasts, seed)
    yield from spoilt(drawn(["still_life"], num // 2, seed + 105), contrasts[1:], seed)
    everywhere = drawn([lambda side, rng: draw.lamplight(side, rng, ambient=0.85)], num // 2, seed + 106)
    yield from known(everywhere, levels("lighting_distinction", 1, truth=False), "light from everywhere")
    no_shade = drawn([draw.overcast, draw.expanse], num, seed + 107)
    yield from known(no_shade, levels("lighting_distinction", 1, 2, 3, truth=False), "no shade")


def _detail(num: int, seed: int, of: Callable[..., list[Base]]) -> Iterator[Case]:
    many = [lambda side, rng: draw.bookshelf(side, rng, 8), lambda side, rng: draw.street_map(side, rng, 14)]
    fine = drawn([draw.lace, draw.contours, *many], num, seed, at_least=256)
    yield from spoilt([*fine, *of("bushes", "tree", "left mast")], ["detail_refinement_1", "detail_refinement_2"], seed)  # fmt: skip
    bare = drawn([draw.lone, draw.mist, draw.pennant], num, seed + 100)
    never = levels("detail_refinement", 1, 2, truth=False)
    yield from known(bare, never, "flat things and grounds")
    for name in ("sensor noise", "film grain", "specks", "block noise"):
        yield from known(worse(bare[: num // 2], name, 4, seed), never, f"{name} for detail")

    smooth = drawn(["portrait", "still_life", "room", draw.butterfly, "coast"], num, seed + 101)
    rough = ["detail_refinement_3", "detail_refinement_4"]
    yield from spoilt([*smooth, *of("parcel")], rough, seed)
    yield from known(drawn([draw.lone], num // 2, seed + 104), dict.fromkeys(rough, True), "flat things")
    things = drawn(["room", "skyline", "bookshelf", "street_map"], num, seed + 102)
    yield from spoilt([*things, *of("shelf", "bench")], ["detail_refinement_5"], seed)
    yield from known(drawn(["portrait", "coast"], num, seed + 105), {"detail_refinement_5": True}, "plain to see")
    unseen = {"detail_refinement_5": False}
    yield from known(changed(things[: num // 2], lambda p: 0.015 * p), unseen, "night")
    yield from known(changed(things[num // 2 :], lambda p: 1 - 0.015 * p), unseen, "white-out")

    whole = drawn(["portrait", "still_life", "coast", draw.butterfly, draw.lone, "room"], num, seed + 103)
    whole += of("parcel", "horse", "head")
    yield from spoilt(whole, ["detail_refinement_6"], seed)
    rng, broken = np.random.default_rng(seed), {"detail_refinement_6": False}
    yield from known(changed(whole, lambda p: turned_tiles(p, 7, rng)), broken, "tiles changed and turned")
    yield from known(changed(whole, lambda p: draw.shards(p, rng)), broken, "shards")


def _layouts(num: int, seed: int, of: Callable[..., list[Base]]) -> Iterator[Case]:
    even = drawn([draw.butterfly, draw.lace, draw.portrait], num, seed)
    even += changed(of("shelf", "head", "bench", "script"), draw.mirrored)
    both = levels("symmetry", 1, 2, truth=True)
    yield from known(even, both, "mirrored")
    yield from known(worse(even, "hexagonal defocus", 2, seed), both, "mirrored, soft")
    yield from known(worse(even, "sensor noise", 3, seed), both, "mirrored, with noise")
    lopsided = drawn([draw.beside, lambda s, r: draw.lone(s, r, x=0.2 if r.random() < 0.5 else 0.8, size=0.55)], num, seed + 100)  # fmt: skip
    neither = levels("symmetry", 1, 2, truth=False)
    yield from known(lopsided, neither, "all on one side")
    yield from known(worse(lopsided, "hexagonal defocus", 2, seed), neither, "all on one side, soft")
    yield from known(worse(lopsided, "film grain", 3, seed), neither, "all on one side, with grain")
    aside = drawn([draw.butterfly, "portrait"], num, seed + 109)
    moved = changed(aside, lambda p: np.roll(p, p.shape[1] // 4, axis=1))
    yield from known(moved, {"symmetry_1": False}, "off the middle")

    one = drawn([draw.lone, "portrait", draw.butterfly], num, seed + 101)
    one += of("horse", "parcel", "head")
    stands_out = levels("main_object", 1, 2, truth=True)
    yield from known(one, stands_out, "one thing")
    yield from known(worse(one, "hexagonal defocus", 1, seed), stands_out, "one thing, soft")
    yield from known(worse(one, "less colour", 5, seed), stands_out, "one thing, grey")
    nothing = levels("main_object", 1, 2, truth=False)
    none = [*drawn([draw.expanse, draw.mist, draw.weave], num, seed + 102), *of("bricks", "more bricks")]
    yield from known(none, nothing, "nothing in particular")
    yield from known(worse(none, "film grain", 3, seed), nothing, "nothing, with grain")
    faint = drawn([lambda s, r: draw.lone(s, r, x=r.uniform(0.2, 0.8), size=0.18, strength=0.12)], num, seed + 103)
    yield from known(faint, {"main_object_1": False}, "small and faint")
    yield from known(drawn(["bookshelf", "street_map"], num // 2, seed + 104), {"main_object_1": False}, "all alike")

    crowded = drawn(["bookshelf", "skyline", "street_map"], num, seed + 105)
    yield from known(crowded, levels("richness", 1, 2, 3, 4, truth=True), "crowded")
    for name, strength in (("less colour", 5), ("hexagonal defocus", 1)):
        spoilt_crowd = worse(crowded, name, strength, seed)
        yield from known(spoilt_crowd, levels("richness", 1, 2, 3, 4, truth=True), f"crowded, {name}")
    yield from known(one, levels("richness", 3, 4, truth=True), "one thing")
    alone = drawn([draw.lone], num, seed + 106)
    yield from known(alone, levels("richness", 1, 2, truth=False), "one thing")
    blank, plain = drawn([draw.mist], num, seed + 107), drawn([draw.expanse], num, seed + 108)
    yield from known(blank, levels("richness", 1, 2, 3, truth=False), "a faint gradient")
    yield from known(plain, levels("richness", 1, 2, 3, 4, truth=False), "one colour")
    grainy, static = worse(plain, "film grain", 1, seed), worse(plain, "sensor noise", 4, seed)
    yield from known(grainy, levels("richness", 1, 2, 3, 4, truth=False), "nothing but grain")
    yield from known(static, levels("richness", 1, 2, 3, truth=False), "nothing but noise")


def _texts(num: int, seed: int) -> Iterator[Case]:
    """Right and wrong texts, each wrong in one word or phrase, about drawings of all sizes, also with slight defects."""
    shapes = ("ring", "triangle", "heart", "circle", "star", "square")
    inks = {"white": "red blue purple black", "meadow": "red purple yellow black", "yellow": "blue purple red black", "sea": "red yellow orange black", "purple": "yellow white orange green", "black": "white yellow orange red"}  # fmt: skip
    phrases = {"meadow": "in a meadow", "sea": "on the sea"}
    slight = ("hexagonal defocus", "murk", "film grain", "JPEG 4:1:1")
    for i in range(num):
        rng = np.random.default_rng((seed, i))
        place = [*inks][i % 6]
        shape, count = shapes[(i + i // 6) % 6], 1 + (i // 5) % 3
        ink, other_ink = rng.permutation(inks[place].split())[:2]
        other_shape = shapes[(i + i // 6 + 1 + i % 5) % 6]
        pixels = draw.shown(SIDES[(i * 2 + i // 7) % 7], place, ink, shape, count, rng)
        number, other, ending = ("a", "two", "three")[count - 1], ("two", "three", "a")[count - 1], "s" * (count > 1)
        where = phrases.get(place, f"on a {place} background")
        elsewhere = "in the night sky" if place != "black" else "in a meadow"
        right = f"{number} {ink} {shape}{ending} {where}"
        wrong = (f"{number} {ink} {other_shape}{ending} {where}", f"{number} {other_ink} {shape}{ending} {where}",
                 f"{other} {ink} {shape}{'s' * (other != 'a')} {where}", f"{number} {ink} {shape}{ending} {elsewhere}")  # fmt: skip
        image = to_image(pixels)
        yield Case("alignment", image, True, "a true text", 0, right)
        yield Case("alignment", image, False, "one thing wrong", 1, wrong[i % 4])
        name = slight[(i // 2) % 4]
        yield Case("alignment", to_image(DEFECTS[name](pixels, 1, rng)), True, f"a true text, {name}", 1, right)


def series(num_drawings: int = 22, num_photographs: int = 22, seed: int = 59) -> Iterator[Series]:
    """Every defect at five strengths on every picture that it makes worse without a doubt."""
    kinds = [*draw.SCENES, draw.butterfly, draw.lone, draw.lace, draw.beside, draw.lamplight]
    names = [name for name in PHOTOGRAPHS if name != "turning clock"]
    bases = [*drawn(kinds, num_drawings, seed), *photographs(names[:num_photographs], seed)]
    for i, base in enumerate(bases):
        for name, defect in DEFECTS.items():
            if not defect.worsens(base.pixels):
                continue
            yield series_of(base, name, defect, (seed, i))
