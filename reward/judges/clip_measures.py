"""Measurements of clips: a `WorkingClip` in, one number out; the measures of one frame are in
`reward.judges.measures`, `light` and `damage`.

Lengths are in sides: shares of the frame's shorter side. What a clip does over time is compared with what its
neighbours in time predict, at the times at which frames are shown, so that a clip may have any rate or an uneven one.

F frames, S steps from a frame to the next, h x w pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8
from PIL import Image
from scipy import ndimage

from reward.errors import JudgeError
from reward.judges import damage, light, measures
from reward.judges.depiction import MIN_AREA, foreground, row_ends, unlikeness
from reward.judges.picture import Picture, convert, working_pixels
from reward.media import Clip

MIN_SIDE = 16  # pixels: OpenCV's flow compares patches of 8


@dataclass(frozen=True)
class WorkingClip:
    """A clip at the size at which it is measured, and what several measures follow through it."""

    frames: Float32[np.ndarray, "F h w 3"]  # in [0, 1], at most 64 pixels on the short side
    times_s: Float[np.ndarray, " F"]
    full: UInt8[np.ndarray, "F H W 3"]  # as they came

    @cached_property
    def lab(self) -> Float32[np.ndarray, "F h w 3"]:
        """CIE L*a*b*, L* in [0, 100]."""
        return convert(self.frames, cv2.COLOR_RGB2Lab)

    @cached_property
    def smooth_lightness(self) -> Float32[np.ndarray, "F h w"]:
        """L* without its grain, which an optical flow would follow."""
        return np.stack([cv2.GaussianBlur(frame, (0, 0), 1.5) for frame in self.lab[..., 0]])

    @property
    def look_numbers(self) -> list[int]:
        """The frames on which a picture's measures are taken: the first, the middle and the last."""
        return np.unique(np.linspace(0, len(self.frames) - 1, 3).round().astype(int)).tolist()

    @cached_property
    def looks(self) -> list[Picture]:
        return [Picture(self.full[number]) for number in self.look_numbers]

    @cached_property
    def flows(self) -> list[Float32[np.ndarray, "h w 2"]]:
        return optical_flow((self.smooth_lightness * 2.55).round().astype(np.uint8))

    @cached_property
    def camera_steps(self) -> Float[np.ndarray, "S 4"]:
        """How the camera moves from each frame to the next (see `camera_step`)."""
        light = self.smooth_lightness
        steps = [camera_step(*pair) for pair in zip(light[:-1], light[1:], self.flows, strict=True)]
        return np.reshape(steps, (-1, 4))

    @cached_property
    def camera_path(self) -> Float[np.ndarray, "F 4"]:
        return path_along(self.camera_steps)

    @cached_property
    def flow_path(self) -> Float[np.ndarray, "F 2"]:
        """How far the fastest thing has moved over the ground, by optical flow, in sides.

        The flow of an object is what the camera's own does not explain; VBench takes the fastest part of a picture (Huang
        et al., CVPR 2024, "dynamic degree"). Grain looks like motion to it.
        """
        return path_along([thing_step(flow, step) for flow, step in zip(self.flows, self.camera_steps, strict=True)])

    @cached_property
    def outline_path(self) -> Float[np.ndarray, "F 2"] | None:
        """Where the middle of the subject is, in sides; None without a subject. Exact on a plain ground, and astray on
        a picture that has no ground, or under a moving camera.
        """
        return path_of(self.subject, self.times_s)

    @cached_property
    def foreground(self) -> Bool[np.ndarray, "F h w"]:
        """Pixels unlike the background (see `reward.judges.depiction`)."""
        ends = row_ends(self.frames)
        return foreground(unlikeness(self.lab, convert(ends, cv2.COLOR_RGB2Lab)))

    @cached_property
    def subject(self) -> Bool[np.ndarray, "F h w"]:
        """The largest connected piece of each frame's foreground; empty where there is none but specks."""
        return np.stack([largest_piece(mask) for mask in self.foreground])


def working_clip(clip: Clip) -> WorkingClip:
    frames = np.stack([working_pixels(Image.fromarray(frame)) for frame in clip.frames])
    return WorkingClip(frames, clip.times_s, clip.frames)


def optical_flow(lightness: np.ndarray) -> list[Float32[np.ndarray, "h w 2"]]:
    """Flow x, y in pixels from each frame (F, h, w) uint8 to the next. Raises JudgeError for frames too small to follow."""
    height, width = lightness.shape[1:]
    if min(height, width) < MIN_SIDE:
        raise JudgeError(
            f"the clip has frames of {width}x{height} pixels; motion can be measured from {MIN_SIDE} on each side, so give a larger one"
        )
    flow: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return [flow.calc(before, after, None) for before, after in pairwise(lightness)]


def camera_step(before: np.ndarray, after: np.ndarray, flow: np.ndarray) -> Float[np.ndarray, " 4"]:
    """The camera's motion between two frames (h, w) of L*: sideways, vertically, by zoom and by roll, in sides.

    The median of the optical flow, since most of a picture is background; zoom and roll are the medians of what remains
    along and across the radius, at the mean radius. Flow spreads from a moving thing over a plain ground, so a step counts
    only if it explains the picture's margin, which is background (Wei et al., ECCV 2012), better than standing still.
    """
    height, width = flow.shape[:2]
    x, y, radius, far = _from_the_middle(height, width)
    shift = np.median(flow, axis=(0, 1))
    rest = flow - shift
    zoom = np.median((rest[..., 0] * x + rest[..., 1] * y)[far] / radius[far] ** 2)
    roll = np.median((rest[..., 1] * x - rest[..., 0] * y)[far] / radius[far] ** 2)

    # The frame before, as this step would show it.
    turn = np.linalg.inv([[1 + zoom, -roll], [roll, 1 + zoom]])
    middle = np.array([width - 1, height - 1]) / 2
    window = np.column_stack([turn, middle - turn @ (middle + shift)])
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(before, window, (width, height), flags=how, borderMode=cv2.BORDER_REPLICATE)
    margin = np.ones((height, width), bool)
    edge = max(1, min(height, width) // 10)
    margin[edge:-edge, edge:-edge] = False
    if np.abs(after - moved)[margin].mean() >= 0.75 * np.abs(after - before)[margin].mean():
        return np.zeros(4)
    return -np.array([*shift, zoom * radius[far].mean(), roll * radius[far].mean()]) / min(height, width)


def thing_step(flow: Float32[np.ndarray, "h w 2"], camera: Float[np.ndarray, " 4"]) -> Float[np.ndarray, " 2"]:
    """The median flow, less the camera's, of the pixels that move nearly as fast as the fastest hundredth; in sides."""
    height, width = flow.shape[:2]
    x, y, radius, far = _from_the_middle(height, width)
    zoom, roll = camera[2:] * min(height, width) / radius[far].mean()
    ground = camera[:2] * min(height, width) + np.stack([zoom * x - roll * y, zoom * y + roll * x], axis=-1)
    rest = flow + ground
    speed = np.linalg.norm(rest, axis=-1)
    return np.median(rest[speed >= 0.85 * np.quantile(speed, 0.99)], axis=0) / min(height, width)


@cache
def _from_the_middle(height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of each pixel: x and y from the middle, its radius, and whether that is more than a fifth of the shorter side."""
    x, y = np.meshgrid(np.arange(width) - (width - 1) / 2, np.arange(height) - (height - 1) / 2)
    radius = np.hypot(x, y)
    return x, y, radius, radius > 0.2 * min(height, width)


def path_along(steps: Sequence[np.ndarray] | np.ndarray) -> Float[np.ndarray, "F D"]:
    """Where F - 1 steps lead, from the origin on."""
    return np.concatenate([np.zeros((1, len(steps[0]))), np.cumsum(steps, axis=0)])


def largest_piece(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The largest connected piece of a mask; nothing if it is a speck."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    areas = stats[1:, cv2.CC_STAT_AREA]
    if not len(areas) or areas.max() < MIN_AREA * mask.size:
        return np.zeros_like(mask)
    return labels == 1 + areas.argmax()


def path_of(masks: Bool[np.ndarray, "F h w"], times_s: np.ndarray) -> Float[np.ndarray, "F 2"] | None:
    """Centres x, y of a thing in sides, straight across the frames without it; None if it is missing in half or more."""
    shown = masks.any(axis=(1, 2))
    if shown.mean() <= 0.5:
        return None
    centres = np.array([np.argwhere(mask).mean(axis=0)[::-1] for mask in masks[shown]]) / min(masks.shape[1:])
    return np.stack([np.interp(times_s, times_s[shown], axis) for axis in centres.T], axis=1)


def unevenness(values: Float[np.ndarray, "F ..."], times_s: np.ndarray) -> float:
    """Root mean square distance of each value from the straight line, in time, between its two neighbours.

    At equal intervals it is half the second difference: 0 for what stands still or changes evenly. That a frame should be
    what its neighbours predict is VBench's idea of smooth motion (Huang et al., CVPR 2024).
    """
    values = values.reshape(len(values), -1)
    span = times_s[2:] - times_s[:-2]
    share = np.where(span > 0, (times_s[1:-1] - times_s[:-2]) / np.where(span > 0, span, 1), 0.5)[:, None]
    off = values[1:-1] - (values[:-2] * (1 - share) + values[2:] * share)
    return float(np.sqrt((off**2).sum(axis=1).mean()))


def reach(path: Float[np.ndarray, "F D"]) -> float:
    """The largest distance from where a path begins."""
    return float(np.linalg.norm(path - path[0], axis=1).max())


def camera_travel(clip: WorkingClip) -> float:
    """How far the camera gets from where it was, in sides."""
    return reach(clip.camera_path)


def camera_shake(clip: WorkingClip) -> float:
    """Unevenness of the camera's path, in sides.

    A steady camera's path has small second derivatives (Grundmann, Kwatra and Essa, Auto-directed video stabilization
    with robust L1 optimal camera paths, CVPR 2011).
    """
    return unevenness(clip.camera_path, clip.times_s)


def subject_travel(clip: WorkingClip) -> float:
    """How far the subject gets from where it was, in sides; 0 without a subject.

    The lesser of what its outline and the optical flow say: an outline goes astray under a moving camera, and flow in grain.
    """
    return 0.0 if clip.outline_path is None else min(reach(clip.outline_path), reach(clip.flow_path))


def subject_jerk(clip: WorkingClip) -> float:
    """Unevenness of the subject's path, in sides; infinite without a subject, since then nothing moves smoothly.

    The lesser of what its outline and the optical flow say, as for `subject_travel`.
    """
    if clip.outline_path is None:
        return np.inf
    return min(unevenness(path, clip.times_s) for path in (clip.outline_path, clip.flow_path))


def brightness_flicker(clip: WorkingClip) -> float:
    """Unevenness of the frames' mean brightness, in octaves. Flicker as unnatural changes of a frame's mean: van Roosmalen, Lagendijk and
    Biemond, Correction of intensity flicker in old film sequences, IEEE TCSVT 1999.
    """
    return unevenness(np.log2(clip.frames.mean(axis=(1, 2, 3), dtype=np.float64) + 0.01), clip.times_s)


def sharpness_flicker(clip: WorkingClip) -> float:
    """Unevenness of the frames' fine detail, in octaves: blur or grain that comes and goes.

    Detail: the finest band of the Laplacian pyramid (Burt and Adelson, The Laplacian pyramid as a compact image code, 1983).
    """
    energies = [np.square(frame - cv2.GaussianBlur(frame, (0, 0), 1.0)).mean() for frame in clip.lab[..., 0]]
    return unevenness(0.5 * np.log2(np.array(energies) + 0.05), clip.times_s)


def shape_overlap(clip: WorkingClip) -> float:
    """How alike the subject's outlines are: their mean intersection over union with the typical one, in [0, 1].

    Each is moved to the middle first, so that motion does not count; a frame without a subject counts 0 (Jaccard,
    The distribution of the flora in the alpine zone, 1912).
    """
    centred = [_centred(mask) for mask in clip.subject if mask.any()]
    if not centred:
        return 0.0
    typical = np.median(centred, axis=0)
    overlaps = [np.minimum(each, typical).sum() / np.maximum(each, typical).sum() for each in centred]
    return float(np.sum(overlaps) / len(clip.subject))


def _centred(mask: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    shift = (np.array(mask.shape) - 1) / 2 - np.argwhere(mask).mean(axis=0)
    return ndimage.shift(mask.astype(np.float64), shift, order=1)


def highlight_value(clip: WorkingClip) -> float:
    """How bright the brightest hundredth of the picture is: HSV value, in [0, 1], the median over three frames.

    A hundredth, because a small light on a black ground is a light.
    """
    return float(np.median([np.percentile(look.pixels.max(axis=-1), 99) for look in clip.looks]))


MEASURES: dict[str, Callable[[WorkingClip], float]] = {
    each.__name__: each
    for each in (
        camera_travel, camera_shake, subject_travel, subject_jerk, brightness_flicker, sharpness_flicker, shape_overlap, highlight_value,
    )
}  # fmt: skip


def measure(clip: WorkingClip, name: str) -> float:
    """One of this module's measures, or the median of a picture's over three frames."""
    if name in MEASURES:
        return MEASURES[name](clip)
    return float(np.median([take(look, name) for look in clip.looks]))


def take(picture: Picture, name: str) -> float:
    """A measure of a picture by its name."""
    return next(getattr(module, name) for module in (measures, light, damage) if hasattr(module, name))(picture)
