"""Measurements of what spoils a picture: a `Picture` in, one number out; 0 is none. Each cites where the measure comes from."""

from functools import cache

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from reward.judges.light import brightness, colourfulness, lightness_contrast
from reward.judges.picture import Picture, once


@once
def blur_sigma(picture: Picture) -> float:
    """Width of the picture's edges, in the direction in which it is widest, as a Gaussian's sigma in pixels of 64 a side.

    A step blurred by s has a gradient of energy 1 / s. From the energies E at the scales f and c, with
    Q = E_f / E_c = sqrt((s^2 + c^2) / (s^2 + f^2)), follows s^2 = (c^2 - Q^2 f^2) / (Q^2 - 1): the ratio of gradients of
    Zhuo and Sim (Defocus map estimation from a single image, Pattern Recognition 2011, eq. 5) summed over the picture. The
    energy along each direction is the quadratic form of the structure tensor (Förstner and Gülch 1987), so that motion
    blur shows in its own direction. Infinite if there is no edge.
    """
    light = picture.clean_lab[..., 0]
    fine, coarse = 0.5, 2.0
    noise = 0.12 * (100 * small_noise(picture)) ** 2  # what grain adds to the finer energy
    energies = []
    for scale in (fine, coarse):
        smooth = cv2.GaussianBlur(light, (0, 0), scale, borderType=cv2.BORDER_REPLICATE)
        dx, dy = cv2.Scharr(smooth, -1, 1, 0, scale=1 / 32), cv2.Scharr(smooth, -1, 0, 1, scale=1 / 32)
        xx, xy, yy = float((dx * dx).mean()), float((dx * dy).mean()), float((dy * dy).mean())
        energies.append(_COS2 * xx + 2 * _COS_SIN * xy + _SIN2 * yy)
    before, after = energies
    told = after > max(0.08 * after.max(), 0.02)
    if not told.any():
        return np.inf
    ratio = np.maximum(before - noise, 1e-9)[told] / after[told]
    squared = (coarse**2 - ratio**2 * (fine**2)) / np.maximum(ratio**2 - 1, 1e-2)
    return float(np.sqrt(np.clip(squared.max(), 0, 400)))


_ANGLES = np.arange(12) * np.pi / 12
_COS2, _COS_SIN, _SIN2 = np.cos(_ANGLES) ** 2, np.cos(_ANGLES) * np.sin(_ANGLES), np.sin(_ANGLES) ** 2

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
def small_noise(picture: Picture) -> float:
    """`noise_of` the picture at the size at which a person sees it at a glance."""
    return noise_of(picture.small)


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
def grid_of(picture: Picture) -> tuple[float, float, float]:
    """The grid on whose lines neighbouring pixels differ most, beyond what they do in between, along both axes: by how much, in
    [0, 255]; its pitch as a share of the side; and the share of all change that lies on it.

    Steps on block borders against steps inside: Wang, Sheikh and Bovik, No-reference perceptual quality assessment of JPEG
    compressed images, ICIP 2002; here of any pitch, and on three lines in four, because an edge of the scene may meet one.
    """
    return min(_best_grid(_mean_across(differences, axis)) for axis, differences in enumerate(picture.fine_steps))


def grid_steps(picture: Picture) -> float:
    """How far the lines of a grid stand out, in [0, 255]; see `grid_of`."""
    return grid_of(picture)[0]


def block_pitch(picture: Picture) -> float:
    """Side of the plain blocks that the picture is made of, in pixels of 64 a side; 0 if it is made of none."""
    excess, pitch, share = grid_of(picture)
    return pitch * 64 if share >= 0.6 and excess > 0.2 else 0.0


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


def _best_grid(steps: Float[np.ndarray, " S"]) -> tuple[float, float, float]:
    if len(steps) < 15:
        return 0.0, 0.0, 0.0
    pitches, borders, counts = _grids(len(steps) + 1)
    on = np.append(steps, np.inf)[borders]
    ordered = np.sort(on, axis=1)
    excess = ordered[np.arange(len(counts)), counts // 4] - np.percentile(steps, 60)
    best = int(excess.argmax())
    if excess[best] <= 0:
        return 0.0, 0.0, 0.0
    share = on[best, : counts[best]].sum() / max(steps.sum(), 1e-9)
    return float(excess[best]), float(pitches[best]), float(share)


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
    (noise_sigma, "above", 0.03, 4.4),
    (speck_share, "above", 0.0, 58.0),
    (codec_steps, "above", 1.05, 0.67),
    (brightness, "below", 0.42, 1.2),
    (brightness, "below", 0.2, 4.0),
    (lightness_contrast, "below", 0.25, 1.6),
    (colourfulness, "below", 40.0, 0.006),
    (corner_falloff, "above", 0.02, 1.5),
    (block_pitch, "above", 0.0, 0.08),
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
    excess, _, share = grid_of(picture)
    total += 0.027 * min(excess, 30) if share > 0.08 else 0.0
    tones = tone_count(picture)
    total += 0.5 + 0.06 * (18 - tones) if tones < 18 else 0.0  # so few are drawn by no pen with smooth edges
    return float(min(total, 4))


@once
def harm(picture: Picture) -> float:
    """`harm_beside_blur`, and blur."""
    return min(harm_beside_blur(picture) + 0.06 * max(0.0, min(blur_sigma(picture), 5) - 0.6), 4)
