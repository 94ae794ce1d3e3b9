"""The third blind examination of the measured judge: smears and mosaics, which the second found it to pass over.

Written before it was ever run on the judge, and not for setting thresholds. Its drawings (`third_blind_drawings`) and its
defects' code are others than those of all other sets. The photographs are squares of the second examination's, which never set a
threshold. Light is averaged as a camera averages it, before its values are encoded, so that a bright thing leaves more of a trace than
a dark one. Truths follow from how a picture was made.

    python -m benchmarks.measured_judge --blind third
"""

from collections.abc import Callable, Collection, Iterator, Mapping

import numpy as np
from scipy import ndimage, signal
from scipy.spatial import Delaunay, cKDTree

from benchmarks.blind_pictures import SIDES, Base, Series, series_of
from benchmarks.calibration_set import Case
from benchmarks.second_blind_pictures import Defect, photograph, spoilt
from benchmarks.third_blind_drawings import SCENES, Pixels

Random = np.random.Generator
PHOTOGRAPHS = (
    "shelf",
    "carton",
    "bench",
    "print",
    "formula",
    "horse",
    "left mast",
    "right mast",
    "parcel",
    "bushes",
    "more bricks",
)
_GAMMA = 2.2


def _averaged(pixels: Pixels, path: np.ndarray, weights: np.ndarray | None = None) -> Pixels:
    """The light over all places of a path (N, 2) of (down, right) in pixels."""
    reach = int(np.ceil(np.abs(path).max())) + 1
    edges = np.arange(-reach - 0.5, reach + 1)
    # Ten places to a pixel's width are so dense that each may count in the nearest pixel.
    share = np.histogram2d(path[:, 0], path[:, 1], bins=(edges, edges), weights=weights)[0]
    share = ndimage.gaussian_filter(share / share.sum(), 0.25)
    light = np.pad(pixels**_GAMMA, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    total = signal.fftconvolve(light, share[..., None], mode="valid", axes=(0, 1))
    return np.clip(total, 0, 1) ** (1 / _GAMMA)


def _line(side: int, length: float, degrees: float) -> np.ndarray:
    reach, turn = length * side, np.deg2rad(degrees)
    along = np.linspace(-reach / 2, reach / 2, max(21, int(10 * reach)))
    return along[:, None] * np.array([np.sin(turn), np.cos(turn)])


def _straight(degrees: float) -> Callable[[Pixels, float, Random], Pixels]:
    return lambda pixels, length, _: _averaged(pixels, _line(len(pixels), length, degrees))


def uneven(pixels: Pixels, length: float, rng: Random) -> Pixels:
    """A straight smear in some direction that gets faster: more light at its beginning."""
    path = _line(len(pixels), length, rng.uniform(0, 180))
    return _averaged(pixels, path, np.linspace(1.6, 0.4, len(path)))


def tremor(pixels: Pixels, length: float, rng: Random) -> Pixels:
    """Along an ellipse in some direction, a third as wide as long."""
    turn, around = (
        rng.uniform(0, np.pi),
        np.linspace(0, 2 * np.pi, max(64, int(30 * length * len(pixels))), endpoint=False),
    )
    along, across = np.cos(around) / 2, np.sin(around) / 6
    path = np.stack([along * np.sin(turn) + across * np.cos(turn), along * np.cos(turn) - across * np.sin(turn)], 1)
    return _averaged(pixels, path * length * len(pixels))


def grainy_smear(pixels: Pixels, length: float, rng: Random) -> Pixels:
    """A straight smear in some direction under the little grain of a sensor."""
    smeared = _averaged(pixels, _line(len(pixels), length, rng.uniform(0, 180)))
    return np.clip(smeared + rng.normal(0, 0.015, pixels.shape), 0, 1)


def out_of_focus(pixels: Pixels, sigma: float, _) -> Pixels:
    blurred = ndimage.gaussian_filter(pixels**_GAMMA, sigma * len(pixels), axes=(0, 1), mode="nearest")
    return np.clip(blurred, 0, 1) ** (1 / _GAMMA)


def faded(pixels: Pixels, amount: float, _) -> Pixels:
    return pixels * (1 - amount) + amount * pixels.mean(axis=-1, keepdims=True)


def dimmer(pixels: Pixels, amount: float, _) -> Pixels:
    return pixels * (1 - amount)


def _places(side: int) -> np.ndarray:
    """(S * S, 2): the middles of all pixels, as shares of the side."""
    return (np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2) + 0.5) / side


def _each_its_mean(pixels: Pixels, cell: np.ndarray) -> Pixels:
    counts = np.maximum(np.bincount(cell), 1)
    means = np.stack([np.bincount(cell, pixels[..., k].ravel()) / counts for k in range(3)], axis=1)
    return means[cell].reshape(pixels.shape)


def hexagons(pixels: Pixels, across: float, _) -> Pixels:
    """Honeycomb cells, so many a side, each of its mean colour."""
    rows, columns = np.meshgrid(np.arange(-1, across * 1.16 + 1), np.arange(-1, across + 1), indexing="ij")
    middles = np.stack([(columns + 0.5 * (rows % 2)) / across, rows * 0.866 / across], axis=-1).reshape(-1, 2)
    return _each_its_mean(pixels, cKDTree(middles).query(_places(len(pixels)))[1])


def splinters(pixels: Pixels, across: float, rng: Random) -> Pixels:
    """Cells about points strewn without order, on average so many a side, each of its mean colour."""
    middles = rng.random((int(across) ** 2, 2))
    return _each_its_mean(pixels, cKDTree(middles).query(_places(len(pixels)))[1])


def facets(pixels: Pixels, across: float, rng: Random) -> Pixels:
    """Triangles between jittered points, each of its mean colour."""
    n = int(across)
    points = (np.stack(np.meshgrid(np.arange(-1, n + 2), np.arange(-1, n + 2)), axis=-1) + rng.uniform(-0.3, 0.3, (n + 3, n + 3, 2))) / n  # fmt: skip
    return _each_its_mean(pixels, Delaunay(points.reshape(-1, 2)).find_simplex(_places(len(pixels))))


_LENGTHS = (0.02, 0.06, 0.09, 0.15, 0.4)
_CELLS = (40, 26, 16, 10, 6)
STRAIGHT = {f"smear, {degrees} degrees": _straight(degrees) for degrees in (0, 25, 60, 90, 115, 150)}
MOSAICS = {"hexagons": hexagons, "splinters": splinters, "facets": facets}
DEFECTS: Mapping[str, Defect] = {
    **{name: Defect(apply, _LENGTHS) for name, apply in STRAIGHT.items()},
    **{apply.__name__: Defect(apply, _LENGTHS) for apply in (uneven, tremor, grainy_smear)},
    "out of focus": Defect(out_of_focus, (0.005, 0.015, 0.03, 0.05, 0.12)),
    **{name: Defect(apply, _CELLS) for name, apply in MOSAICS.items()},
    "faded": Defect(faded, (0.2, 0.4, 0.6, 0.8, 1)),
    "dimmer": Defect(dimmer, (0.15, 0.3, 0.5, 0.7, 0.9)),
}  # fmt: skip

# Question -> from which strength of which defect on the answer is no beyond dispute, and up to which it is still yes.
# A smear of 6 % of the side is half of a letter's width on the poster; uneven ones and ellipses of it look somewhat shorter.
_SMEARED = {**dict.fromkeys(STRAIGHT, 2), "uneven": 3, "tremor": 3, "grainy_smear": 3, "out of focus": 3}
_SHARP_STILL = {"faded": 5, "dimmer": 2}
NO_FROM: Mapping[str, Mapping[str, int]] = {
    **dict.fromkeys(("clarity_1", "clarity_2", "clarity_3"), _SMEARED),
    "clarity_4": {**dict.fromkeys(STRAIGHT, 5), "out of focus": 5},
    "detail_refinement_3": dict.fromkeys(MOSAICS, 3),
    "detail_refinement_4": dict.fromkeys(MOSAICS, 4),
    "detail_refinement_5": dict.fromkeys(MOSAICS, 5),
}
YES_UP_TO: Mapping[str, Mapping[str, int]] = {
    **dict.fromkeys(("clarity_1", "clarity_2", "clarity_3"), _SHARP_STILL),
    "clarity_4": {**_SHARP_STILL, **dict.fromkeys(STRAIGHT, 1), "out of focus": 1},
    "detail_refinement_3": {**_SHARP_STILL, "out of focus": 2, "uneven": 2},
    "detail_refinement_4": {**_SHARP_STILL, "out of focus": 3, "uneven": 3},
    "detail_refinement_5": {**_SHARP_STILL, "out of focus": 1, "uneven": 1},
}
CLARITY = ("clarity_1", "clarity_2", "clarity_3", "clarity_4")
ROUGHNESS = ("detail_refinement_3", "detail_refinement_4", "detail_refinement_5")


def pictures(num: int, seed: int, names: Collection[str]) -> list[Base]:
    """So many drawings, all scenes in turn at all sizes, and the named photographs."""
    bases = []
    for i in range(num):
        name, side = [*SCENES][i % len(SCENES)], SIDES[(3 * i + i // len(SCENES) + seed) % len(SIDES)]
        bases.append(Base(f"{name} {i}", SCENES[name](side, np.random.default_rng((seed, i))), False))
    for i, name in enumerate(name for name in PHOTOGRAPHS if name in names):
        bases.append(Base(name, photograph(name, SIDES[(2 * i + seed) % len(SIDES)]), True))
    return bases


def cases(num: int = 40, seed: int = 73, names: Collection[str] = PHOTOGRAPHS) -> Iterator[Case]:
    """All clear cases; `num` drawings, and only the named photographs."""
    yield from spoilt(pictures(num, seed, names), CLARITY, seed, NO_FROM, YES_UP_TO, DEFECTS)
    # What is rough by itself, as bricks and bushes are, is not asked about roughness.
    smooth = [name for name in names if name in ("parcel", "shelf", "bench", "horse", "print", "formula")]
    yield from spoilt(pictures(num, seed + 1, smooth), ROUGHNESS, seed + 1, NO_FROM, YES_UP_TO, DEFECTS)


def series(num_drawings: int = 32, num_photographs: int = 11, seed: int = 79) -> Iterator[Series]:
    """Every defect at five strengths on every picture."""
    for i, base in enumerate(pictures(num_drawings, seed, PHOTOGRAPHS[:num_photographs])):
        for name, defect in DEFECTS.items():
            yield series_of(base, name, defect, (seed, i))
