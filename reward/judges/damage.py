"""Measurements of what spoils a picture: a `Picture` in, one number out; 0 is none, except of `sharpness` and `unsmeared`. Each cites where the measure comes from."""

from functools import cache, lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from reward.judges.light import brightness, colourfulness, lightness_contrast
from reward.judges.picture import Picture, once


@once
def sharpness(picture: Picture) -> float:
    """How sharp the picture is in the direction in which it is least; about 0.5 = perfectly, under 0.1 = one blur, in nepers.

    A step blurred by s has a gradient of energy 1 / s, so that the ratio of the energies at a fine and a coarse scale falls with
    s: the ratio of gradients of Zhuo and Sim (Defocus map estimation from a single image, Pattern Recognition 2011), summed
    over the picture. The energy along each direction is the quadratic form of the structure tensor (Förstner and Gülch 1987):
    motion blur takes the finest energy from its own direction only. That one ratio depends on the scene, for a texture's energy
    is fine and a shade's is coarse. What the coarser scales hold and how much fine energy there is say which scene it is; their
    shares were fitted, with the thresholds, as a logistic regression on pictures of known blur (`benchmarks/sharpness.py`).
    """
    ratio, coarse_ratio, closer = log_energies(picture)
    return ratio - 0.34 * coarse_ratio + 0.1 * closer


@once
def log_energies(picture: Picture) -> tuple[float, float, float]:
    """What sharpness is made of, each the logarithm of energies of the gradient: fine over coarse, in the direction that has least
    of the finest; the next scales' ratio, in the direction where it is most; the finest at the medium size, where it is least.
    """
    fine, half, coarse, coarsest = (_energy_by_direction(picture.clean_lab[..., 0], s) for s in (0.5, 1, 2, 4))
    closer = _energy_by_direction(picture.medium_light, 0.5)
    weakest = int(fine.argmin())
    return (
        float(np.log(fine[weakest] / coarse[weakest])),
        float(np.log((half / coarsest).max())),
        float(np.log(closer.min())),
    )


_ANGLES = np.arange(12) * np.pi / 12
_COS2, _COS_SIN, _SIN2 = np.cos(_ANGLES) ** 2, np.cos(_ANGLES) * np.sin(_ANGLES), np.sin(_ANGLES) ** 2


def _energy_by_direction(light: Float32[np.ndarray, "h w"], scale: float) -> Float[np.ndarray, " 12"]:
    """Mean square of the gradient along each direction, after a Gaussian of this sigma in pixels."""
    smooth = cv2.GaussianBlur(np.ascontiguousarray(light), (0, 0), scale, borderType=cv2.BORDER_REPLICATE)
    dx, dy = cv2.Scharr(smooth, -1, 1, 0, scale=1 / 32), cv2.Scharr(smooth, -1, 0, 1, scale=1 / 32)
    return _COS2 * np.mean(dx * dx) + 2 * _COS_SIN * np.mean(dx * dy) + _SIN2 * np.mean(dy * dy) + 1e-4


class Bands(NamedTuple):
    """Energy of the gradient of L* along each of 8 directions, in bands of spatial frequency; the bands overlap."""

    fine: Float[np.ndarray, " 8"]  # 0.2 to 0.4 cycles a pixel
    middle: Float[np.ndarray, " 8"]  # 0.05 to 0.2
    half: Float[np.ndarray, " 8"]  # 0.1 to 0.2
    coarse: Float[np.ndarray, " 8"]  # 0.03 to 0.09


_BANDS = ((0.2, 0.4), (0.05, 0.2), (0.1, 0.2), (0.03, 0.09))  # from and to, as `Bands`
_DIRECTIONS = np.arange(8) * np.pi / 8
# The least energies that count: where there is hardly any, no ratio is taken of it.
_LEAST_FINE, _LEAST_COARSE = 1e-5, 1e-4


@once
def unsmeared(picture: Picture) -> float:
    """The lowest ratio of a finer band's energy to a coarser one's in any direction, in nepers; about -0.4 = not smeared, under -1.65 = smeared.

    A smear takes the fine frequencies along its direction and leaves those across it, so the ratio is taken in each direction
    apart, as Oliveira, Figueiredo and Bioucas-Dias do to find a smear's (Parametric blur estimation for blind restoration of
    natural images: linear motion and out-of-focus, IEEE TIP 2014); of the gradient, since the power spectra of scenes fall with the square of
    the frequency (Field, JOSA A 1987). A long smear is finer again between the zeros of its own spectrum, so a ratio an octave
    coarser counts as well. Other blur, and blur of scenes that are fine all over, `sharpness` sees better.
    """
    fine, middle, half, coarse = _gradient_bands(picture)
    ratios = np.concatenate([_log_ratios(fine, middle), _log_ratios(half, coarse)])
    return float(ratios.min()) if ratios.size else 0.0


def _log_ratios(finer: np.ndarray, coarser: np.ndarray) -> np.ndarray:
    """Of the directions in which both bands have a frequency; a picture of few pixels has not all."""
    known = np.isfinite(finer + coarser)
    return np.log((finer[known] + _LEAST_FINE) / (coarser[known] + _LEAST_COARSE))


def _gradient_bands(picture: Picture) -> Bands:
    """NaN in a direction in which a band has no frequency."""
    light = picture.clean_lab[..., 0]
    window, weights = _spectral_weights(*light.shape)
    shown = (light - np.average(light, weights=window)) * window
    power = np.square(np.abs(np.fft.rfft2(shown))) / light.size**2
    return Bands(*(power.ravel() @ weights).reshape(len(_BANDS), len(_DIRECTIONS)))


@lru_cache(maxsize=8)  # sizes; of 64 x 64 half a megabyte each
def _spectral_weights(height: int, width: int) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "F D"]]:
    """A window that fades to the borders, and what each frequency of `rfft2` counts in each band and direction."""
    window = np.outer(*(np.sin(np.pi * (np.arange(side) + 0.5) / side) for side in (height, width)))
    across, down = np.meshgrid(np.fft.rfftfreq(width), np.fft.fftfreq(height))
    frequency, angle = np.hypot(across, down).ravel(), np.arctan2(down, across).ravel()
    # `rfft2` gives one half of the plane; its first column, and its last of an even width, stand for themselves.
    twice = np.where((across == 0) | (across == 0.5), 1, 2).ravel()
    nearness = np.maximum(np.cos(2 * (angle[:, None] - _DIRECTIONS)), 0) ** 2
    energy = (twice * frequency**2)[:, None] * nearness
    inside = [((frequency >= low) & (frequency < high))[:, None] for low, high in _BANDS]
    # Of few pixels a band may have no frequency near some direction; then nothing is known of it there.
    known = [(each & (nearness >= 0.25)).any(axis=0) for each in inside]
    bands = [np.where(some, energy * each, np.nan) for each, some in zip(inside, known, strict=True)]
    return window, np.concatenate(bands, axis=1)


_CURVATURE = np.array([1, -2, 1], np.float32)  # along both axes its squares sum up to 36


def noise_of(pixels: UInt8[np.ndarray, "H W 3"]) -> float:
    """Standard deviation of white grain in [0, 1] at this size and at coarser ones, the largest.

    The response to the difference of two Laplacians, which straight edges and shading leave at zero (Immerkaer, Fast noise
    variance estimation, CVIU 1996, eq. 3), in the calmer third of the picture. White grain has half the deviation at half
    the size, while a scene's texture has as much or more (Field, JOSA A 1987): what remains at half the size is no grain.
    """
    levels = []
    while min(pixels.shape[:2]) >= 24 and len(levels) < 5:
        levels.append(_response(pixels))
        pixels = cv2.resize(pixels, (pixels.shape[1] // 2, pixels.shape[0] // 2), interpolation=cv2.INTER_AREA)
    if not levels:
        return 0.0
    levels.append(levels[-1] / 2)
    squares = np.array(levels) ** 2
    return float(np.sqrt(np.maximum(squares[:-1] - squares[1:], 0).max() * 4 / 3))


def _response(pixels: UInt8[np.ndarray, "H W 3"]) -> float:
    height, width = (each // 8 * 8 for each in pixels.shape[:2])
    pixels = pixels[:height, :width]
    response = cv2.sepFilter2D(pixels, cv2.CV_16S, _CURVATURE, _CURVATURE, borderType=cv2.BORDER_REPLICATE)
    blocks = (width // 8, height // 8)
    calm = cv2.resize(np.abs(response), blocks, interpolation=cv2.INTER_AREA).mean(axis=2) / 255
    level = cv2.resize(pixels, blocks, interpolation=cv2.INTER_AREA).mean(axis=2)
    # Where a picture is black or white, grain is cut off.
    shown = calm[(level > 15) & (level < 240)]
    shown = shown if shown.size >= 0.1 * calm.size else calm
    return float(np.percentile(shown, 35) * np.sqrt(np.pi / 2) / 6)


@once
def noise_sigma(picture: Picture) -> float:
    """`noise_of` the picture at its finer size."""
    return noise_of(picture.fine)


@once
def speck_share(picture: Picture) -> float:
    """Share of the pixels that differ from each of their eight neighbours by more than a fifth of the range, in [0, 1].

    Impulses, as the rank-ordered differences of Garnett et al. (A universal noise removal algorithm, IEEE TIP 2005) tell
    them from edges and lines, which go on in a neighbour.
    """
    light = picture.fine_light
    ring = np.ones((3, 3), np.uint8)
    ring[1, 1] = 0
    above = cv2.dilate(light, ring, borderType=cv2.BORDER_REPLICATE)
    below = cv2.erode(light, ring, borderType=cv2.BORDER_REPLICATE)
    # Subtraction stops at 0, so that one of the two is 0.
    return float((cv2.max(cv2.subtract(light, above), cv2.subtract(below, light)) > 50).mean())


@once
def grid_of(picture: Picture) -> tuple[float, float]:
    """The grid on whose lines neighbouring pixels differ most, beyond what they do in between, along both axes: by how much, in
    [0, 255]; and the share of all change that lies on it.

    Steps on block borders against steps inside: Wang, Sheikh and Bovik, No-reference perceptual quality assessment of JPEG
    compressed images, ICIP 2002; here of any pitch, and on three lines in four, because an edge of the scene may meet one.
    """
    found = []
    for grids in picture_grids(picture):
        best = int(grids.excess.argmax())
        found.append((float(grids.excess[best]), float(grids.share[best])) if grids.excess[best] > 0 else (0.0, 0.0))
    return min(found)


def grid_steps(picture: Picture) -> float:
    """How far the lines of a grid stand out, in [0, 255]; see `grid_of`."""
    return grid_of(picture)[0]


@once
def block_pitch(picture: Picture) -> float:
    """Side of the plain blocks or cells that the picture is made of, in pixels of 64 a side; 0 if it is made of none.

    Of a picture of plain blocks all change lies on one grid, on every line of it; a grid twice as wide has half of the change. Cells
    have no grid: see `_cell_pitch`.
    """
    pitches = []
    for grids in picture_grids(picture):
        share = np.where(grids.excess > 0.2, grids.share, 0)
        pitches.append(64 * float(grids.pitch[share.argmax()]) if share.max() >= 0.6 else 0.0)
    return min(pitches) or _cell_pitch(picture)


def _cell_pitch(picture: Picture) -> float:
    """Side of a square as large as most of the plain cells of any form that the picture is made of, as `block_pitch`.

    Inside a cell nothing changes, so that most change is steps with no change beside them; and borders that are neither level nor
    upright are stairs, with a corner at every other step or so. Where edges are smooth, such steps are under a fifth of the
    change, and plain drawings of level and upright borders have no stairs (`python -m benchmarks.calibration_smears`).
    """
    down, along = picture.fine_steps
    borders = along > 1, (down > 1).T
    lone = [_lone(each) for each in borders]
    change = [along, down.T]
    if sum(float(steps[at].sum()) for steps, at in zip(change, lone, strict=True)) < 0.5 * sum(map(np.sum, change)):
        return 0.0
    upright, level = borders[0], borders[1].T
    corners = (upright[:-1] ^ upright[1:]) & (level[:, :-1] ^ level[:, 1:])
    num_borders = sum(map(np.count_nonzero, borders))
    if np.count_nonzero(corners) < 0.25 * max(num_borders, 1):
        return 0.0
    runs = []
    for each in borders:
        row, at = np.nonzero(each)
        runs.append(np.diff(at)[np.diff(row) == 0])
    runs = np.concatenate(runs)
    # A line across a cell at random is shorter than its side.
    pitch = 1.3 * 64 * float(np.median(runs)) / min(picture.fine_light.shape) if len(runs) else 0.0
    return pitch if pitch <= 16 else 0.0  # fewer than four a side are the drawing itself


def _lone(steps: Bool[np.ndarray, "a b"]) -> Bool[np.ndarray, "a b"]:
    """Steps along the second axis without one beside them."""
    beside = np.zeros_like(steps)
    beside[:, 1:] |= steps[:, :-1]
    beside[:, :-1] |= steps[:, 1:]
    return steps & ~beside


def _mean_across(differences: np.ndarray, axis: int) -> Float[np.ndarray, " S"]:
    return cv2.reduce(differences, 1 - axis, cv2.REDUCE_AVG, dtype=cv2.CV_32F).ravel()


@once
def codec_steps(picture: Picture) -> float:
    """How much more neighbouring pixels differ on the borders of a codec's blocks of 8 than anywhere between: a ratio, 1 or less
    without blocks.

    Wang, Sheikh and Bovik (see `grid_of`), against the most of the other seven offsets, since a scene prefers none. Steps count
    up to a twentieth of the range, and the strongest lines not at all, so that no edge of the scene decides.
    """
    by_offset = np.zeros(8)
    for axis, differences in enumerate(picture.fine_steps):
        steps = _mean_across(np.minimum(differences, 12), axis)
        lines = np.sort(steps[: len(steps) // 8 * 8].reshape(-1, 8), axis=0)
        if len(lines) > 3:
            by_offset += lines[: -max(2, len(lines) // 8)].mean(axis=0)
    return float(by_offset[7] / (by_offset[:7].max() + 0.1))


class Grids(NamedTuple):
    """G grids along one axis."""

    pitch: Float[np.ndarray, " G"]  # as a share of the side
    excess: Float[
        np.ndarray, " G"
    ]  # by how much neighbours differ on three lines in four beyond what most differ by, in [0, 255]
    share: Float[np.ndarray, " G"]  # of all change that lies on its lines


@once
def picture_grids(picture: Picture) -> tuple[Grids, Grids]:
    """All grids down the columns and along the rows."""
    down, along = (_measured_grids(_mean_across(steps, axis)) for axis, steps in enumerate(picture.fine_steps))
    return down, along


def _measured_grids(steps: Float[np.ndarray, " S"]) -> Grids:
    if len(steps) < 15:
        return Grids(np.zeros(1), np.zeros(1), np.zeros(1))
    pitches, borders, counts = _grids(len(steps) + 1)
    on = np.append(steps, np.inf)[borders]
    ordered = np.sort(on, axis=1)
    excess = ordered[np.arange(len(counts)), counts // 4] - np.percentile(steps, 60)
    share = np.where(np.isfinite(on), on, 0).sum(axis=1) / max(steps.sum(), 1e-9)
    return Grids(pitches, excess, share)


@cache
def _grids(side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The grids that a side of so many pixels may have, coarsest first: their pitches as shares of the side, the steps that lie on
    their borders (the number of steps where there are no more), and how many. Some programs round a border down or up,
    others to the nearest pixel; a codec's blocks are 8 pixels from the left, or 16.
    """
    grids: dict[bytes, tuple[float, np.ndarray]] = {}
    pitches = [side / count for count in range(4, min(64, side // 3) + 1)] + [16.0, 8.0]
    for pitch in pitches:
        edges = np.arange(1, int(np.ceil(side / pitch - 1e-9))) * pitch
        for rounded in (np.round(edges), np.ceil(edges), np.floor(edges)):
            borders = np.unique(rounded.astype(int) - 1)
            if len(borders) >= 3:
                grids.setdefault(borders.tobytes(), (pitch / side, borders))
    counts = np.array([len(borders) for _, borders in grids.values()])
    table = np.full((len(counts), counts.max()), side - 1)
    for row, (_, borders) in zip(table, grids.values(), strict=True):
        row[: len(borders)] = borders
    return np.array([pitch for pitch, _ in grids.values()]), table, counts


@once
def corner_falloff(picture: Picture) -> float:
    """By what share the corners are darker than the middles of both sides that meet there, the corner where it is least.

    The falloff of a lens's light with the distance from the axis (Goldman and Chen, Vignette and exposure calibration and
    compensation, ICCV 2005); a scene's own ground is seldom darker in all four corners.
    """
    light = picture.clean.mean(axis=-1)
    height, width = light.shape
    deep, wide = max(2, height // 8), max(2, width // 8)
    rows = slice(height // 2 - deep // 2 - 1, height // 2 + deep // 2 + 1)
    columns = slice(width // 2 - wide // 2 - 1, width // 2 + wide // 2 + 1)
    top, bottom = np.median(light[:deep, columns]), np.median(light[-deep:, columns])
    left, right = np.median(light[rows, :wide]), np.median(light[rows, -wide:])
    falloffs = []
    for upper, end in ((True, top), (False, bottom)):
        for leftmost, side in ((True, left), (False, right)):
            corner = light[: deep // 2 + 1] if upper else light[-(deep // 2) :]
            corner = corner[:, : wide // 2 + 1] if leftmost else corner[:, -(wide // 2) :]
            falloffs.append(1 - (np.median(corner) + 0.02) / (min(end, side) + 0.02))
    return float(min(falloffs))


@once
def tone_count(picture: Picture) -> float:
    """How many of the 256 tones occur, over all channels."""
    counts = cv2.calcHist([picture.fine.reshape(-1, 1)], [0], None, [256], [0, 256])
    return float(np.count_nonzero(counts))


# What takes from a picture, in units of a picture that is spoilt: measure, from where on it counts, and its weight. Up: more is worse.
_HARMS = (
    (noise_sigma, "above", 0.026, 4.2),
    (speck_share, "above", 0.0, 35.0),
    (codec_steps, "above", 1.0, 0.56),
    (brightness, "below", 0.38, 1.45),
    (brightness, "below", 0.21, 9.0),
    (lightness_contrast, "below", 0.245, 2.2),
    (colourfulness, "below", 43.0, 0.0045),
    (corner_falloff, "above", 0.012, 1.65),
    (block_pitch, "above", 0.0, 0.2),
)


@once
def harm_beside_blur(picture: Picture) -> float:
    """How far a picture is spoilt by anything but blur: 0 = not at all, 1 = plainly, at most 4. A sum of the other measures.

    An answer that more of a defect must not improve is discounted by it (`Condition.harm`): what a defect adds by chance to
    another measure, as grain does to edges and dark corners to the subject, must not pay.
    """
    total = 0.0
    for measure, side, start, weight in _HARMS:
        beyond = measure(picture) - start
        total += weight * max(0.0, beyond if side == "above" else -beyond)
    excess, share = grid_of(picture)
    total += 0.1 * min(excess, 30) if share > 0.08 else 0.0
    tones = tone_count(picture)
    total += 0.5 + 0.065 * (18 - tones) if tones < 18 else 0.0  # so few are drawn by no pen with smooth edges
    return float(min(total, 4))


@once
def harm(picture: Picture) -> float:
    """`harm_beside_blur`, and blur."""
    return min(harm_beside_blur(picture) + 1.8 * np.clip(0.35 - sharpness(picture), 0, 0.6), 4)
