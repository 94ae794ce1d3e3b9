"""Pictures sharp and smeared, from which the judge's threshold for smears was set, and cut into plain cells, for its measure of cells.

The pictures of `calibration_defects` and `blind_pictures`, and drawings full of fine lines, letters and dots by OpenCV's pen: what is
fine all over stays rather fine under a smear, as the third blind examination showed at its first run. `benchmarks.sharpness` prints what thresholds
of `damage.unsmeared` give on them; `python -m benchmarks.calibration_smears` prints the pitches of cells that are found, by how many there are a side.
"""

from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np

from benchmarks import blind_drawings, blind_pictures, calibration_defects, heldout_set
from benchmarks.blind_pictures import SIDES, Pixels, defocus, faded, grain, smear, to_image, too_small
from benchmarks.calibration_set import Case, to_pixels
from reward.judges import damage
from reward.judges.picture import Picture

Random = np.random.Generator
_FINER = 4  # lines are drawn this much larger and averaged


def _reduced(canvas: np.ndarray, side: int) -> Pixels:
    return cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA).astype(float) / 255


def _canvas(side: int, rng: Random) -> tuple[np.ndarray, int, Callable[[], tuple[float, ...]]]:
    """A plain ground, its side, and inks that stand out from it."""
    dark = rng.random() < 0.5
    ground = rng.integers(0, 70, 3) if dark else rng.integers(190, 256, 3)
    canvas = np.full((side * _FINER, side * _FINER, 3), ground, np.uint8)
    ink = lambda: tuple(float(v) for v in (rng.integers(120, 256, 3) if dark else rng.integers(0, 130, 3)))  # noqa: E731
    return canvas, side * _FINER, ink


def _line(
    canvas: np.ndarray, start: tuple[float, float], end: tuple[float, float], rgb: Sequence[float], width: float
) -> None:
    """Painted in place; places and width in shares of the side."""
    size = len(canvas)
    (x0, y0), (x1, y1) = start, end
    first, last = (int(x0 * size), int(y0 * size)), (int(x1 * size), int(y1 * size))
    cv2.line(canvas, first, last, rgb, max(1, int(size * width)), cv2.LINE_AA)


def twigs(side: int, rng: Random) -> Pixels:
    """Short straight lines of all directions and some widths, in bundles."""
    canvas, _, ink = _canvas(side, rng)
    for _ in range(int(rng.integers(20, 90))):
        x, y, turn = *rng.random(2), rng.uniform(0, np.pi)
        away = rng.uniform(0.03, 0.12) * np.array([np.cos(turn), np.sin(turn)])
        _line(canvas, (x - away[0], y - away[1]), (x + away[0], y + away[1]), ink(), rng.uniform(0.008, 0.022))
    return _reduced(canvas, side)


def stars(side: int, rng: Random) -> Pixels:
    """Rays around several middles."""
    canvas, _, ink = _canvas(side, rng)
    for _ in range(int(rng.integers(3, 8))):
        x, y, rgb, reach, count = *rng.random(2), ink(), rng.uniform(0.1, 0.3), int(rng.integers(7, 20))
        for turn in np.arange(count) * 2 * np.pi / count + rng.random():
            dx, dy = reach * np.cos(turn), reach * np.sin(turn)
            _line(canvas, (x + 0.2 * dx, y + 0.2 * dy), (x + dx, y + dy), rgb, 0.012)
    return _reduced(canvas, side)


def letters(side: int, rng: Random) -> Pixels:
    """Lines of letters, turned."""
    canvas, size, ink = _canvas(side, rng)
    ground, scale, y = canvas[0, 0].tolist(), rng.uniform(0.003, 0.006) * size / 2, 0.0
    while y < 1.1:
        text = "".join(rng.choice([*"ABCDEFGHKLMNPRSTUVWXYZabcdefghkmnoprstuvwxyz23456789  "], 30))
        cv2.putText(
            canvas, text, (0, int(y * size)), cv2.FONT_HERSHEY_DUPLEX, scale, ink(), max(1, int(scale * 2)), cv2.LINE_AA
        )
        y += scale * 40 / size
    turn = cv2.getRotationMatrix2D((size / 2, size / 2), rng.uniform(-90, 90), 1.0)
    return _reduced(cv2.warpAffine(canvas, turn, (size, size), borderValue=ground), side)


def beads(side: int, rng: Random) -> Pixels:
    """Small discs and rings, many of them beside one another."""
    canvas, size, ink = _canvas(side, rng)
    for _ in range(int(rng.integers(30, 150))):
        at, radius = tuple(int(v) for v in rng.integers(0, size, 2)), int(size * rng.uniform(0.01, 0.045))
        cv2.circle(canvas, at, radius, ink(), -1 if rng.random() < 0.6 else max(1, int(size * 0.01)), cv2.LINE_AA)
    return _reduced(canvas, side)


def panes(side: int, rng: Random) -> Pixels:
    """Coloured rhombs and triangles between dark lines."""
    canvas, size, ink = _canvas(side, rng)
    count = int(rng.integers(5, 11))
    x, y = np.meshgrid(np.arange(count + 1), np.arange(count + 1))
    points = ((np.stack([x, y], -1) + rng.uniform(-0.35, 0.35, (count + 1, count + 1, 2))) / count * size).astype(
        np.int32
    )
    for row in range(count):
        for column in range(count):
            corners = points[[row, row, row + 1, row + 1], [column, column + 1, column + 1, column]]
            cv2.fillPoly(canvas, [corners[:3]], ink(), cv2.LINE_AA)
            cv2.fillPoly(canvas, [corners[[0, 2, 3]]], ink(), cv2.LINE_AA)
            cv2.polylines(canvas, [corners], True, (20, 20, 20), max(1, int(size * 0.012)), cv2.LINE_AA)
    return _reduced(canvas, side)


FINE = (twigs, stars, letters, beads, panes)


def pictures(num: int = 8, seed: int = 5) -> Iterator[Pixels]:
    """Square pictures without blur, of sides from 64 to 512."""
    for source in calibration_defects.sources(seed, 16):
        pixels = to_pixels(source.image)
        short = min(pixels.shape[:2])
        yield pixels[:short, :short]
    for i in range(num):
        yield to_pixels(heldout_set.still_life(500 + i))
    kinds = [*blind_drawings.SCENES, blind_drawings.engraving, blind_drawings.ornament]
    photographs = ["officer", "cameraman", "coins", "flag", "tripod", "medals", "four coins", "page", "grass", "gravel", "brick"]  # fmt: skip
    bases = [*blind_pictures.drawn(kinds, 4 * num, seed), *blind_pictures.photographs(photographs, seed)]
    yield from (base.pixels for base in bases)
    for i in range(num * len(FINE)):
        yield FINE[i % len(FINE)](SIDES[(3 * i + i // len(SIDES)) % len(SIDES)], np.random.default_rng((seed, i)))


def cells(pixels: Pixels, across: int, rng: Random) -> Pixels:
    """Cut into cells about strewn points, on average so many a side, each of its mean colour."""
    side = len(pixels)
    ground = np.full((side, side), 255, np.uint8)
    rows, columns = rng.integers(0, side, (2, across**2))
    ground[rows, columns] = 0
    _, nearest = cv2.distanceTransformWithLabels(ground, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    nearest = nearest.ravel().astype(np.int64)
    sizes = np.maximum(np.bincount(nearest), 1)
    means = np.stack([np.bincount(nearest, pixels[..., k].ravel()) / sizes for k in range(3)], axis=1)
    return means[nearest].reshape(pixels.shape)


def _changed(pixels: Pixels, rng: Random) -> Iterator[tuple[str, float, Pixels, bool]]:
    """Name and amount of a change, the pixels, and whether they are still perfectly sharp; clear cases only."""
    yield "none", 0, pixels, True
    yield "faded", 0.8, faded(pixels, 0.8, rng), True
    yield "dim", 0.3, 0.7 * pixels, True
    yield "grain", 0.012, grain(pixels, 0.012, rng), True
    yield "smear", 0.02, smear(rng.uniform(0, 180))(pixels, 0.02, rng), True
    for length in (0.06, 0.08, 0.12, 0.3):
        first = rng.uniform(0, 45)
        for k in range(4):
            yield "smear", length, smear(first + 45 * k)(pixels, length, rng), False
    for length in (0.06, 0.1):
        smeared = smear(rng.uniform(0, 180))(pixels, length, rng)
        yield "smear, grain", length, grain(smeared, 0.015, rng), False
    for radius in (0.03, 0.05, 0.09):
        yield "defocus", radius, defocus(pixels, radius, rng), False
    for count in (20, 12):
        yield "too small", count, too_small(pixels, count, rng), False


def cases(num: int = 8, seed: int = 5) -> Iterator[Case]:
    for i, pixels in enumerate(pictures(num, seed)):
        for name, amount, changed, is_sharp in _changed(pixels, np.random.default_rng((seed, i, 1))):
            yield Case("clarity_1", to_image(changed), is_sharp, name, amount)


def main() -> None:
    """Of cells so many a side, `damage.block_pitch`: the level of `detail_refinement_3` lies between 26 and 16, of `_4` below 10, of `_5` at 6."""
    pitches: dict[int, list[float]] = {}
    for i, pixels in enumerate(pictures()):
        rng = np.random.default_rng((i, 2))
        for across in (0, 40, 26, 16, 10, 6):
            image = to_image(cells(pixels, across, rng) if across else pixels)
            pitches.setdefault(across, []).append(damage.block_pitch(Picture(image)))
    print("cells a side   found   a square's   5 %   half   95 % of the pitches found")
    for across, found in pitches.items():
        some = [pitch for pitch in found if pitch > 0] or [0.0]
        own = f"{64 / across:11.1f}" if across else f"{'none':>11s}"
        spread = " ".join(f"{value:6.1f}" for value in np.percentile(some, [5, 50, 95]))
        print(f"{across:12d} {np.mean(np.array(found) > 0):7.2f} {own} {spread}")


if __name__ == "__main__":
    main()
