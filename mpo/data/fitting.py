"""Brings pictures and clips from elsewhere to a size that a model makes: scaled and cropped; clips also in rate and frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from mpo.run_folder.media import EVERY_FRAME
from mpo.sizes import Size
from reward.checklist import Kind
from reward.errors import MediaError
from reward.media import Sampling, probe_clip, read_clip, read_image

MIN_SHARE = 0.5  # a clip that lasts less than this share of what is asked for is refused, not padded


@dataclass(frozen=True)
class Fitted:
    """One picture or clip at its size."""

    pixels: UInt8[np.ndarray, "*F H W 3"]
    size: Size
    changes: tuple[str, ...] = ()  # what was done to a clip in time: "cut", "padded", "of variable rate"


def read_fitted(source: Any, kind: Kind, *, sizes: Sequence[Size] | None, size: Size | None = None) -> Fitted:
    """A picture or clip at `size`, else at that of `sizes` nearest in shape, else as it is.

    Raises MediaError for one that cannot be decoded or is too short.
    """
    if kind == "image":
        image = read_image(source)
        size = size or (nearest_size(Size(*image.size), sizes) if sizes else Size(*image.size))
        return Fitted(fit(np.asarray(image), size), size)
    info = probe_clip(source)
    own = Size(info.width, info.height, len(info.times_s), round(info.fps, 3))
    changes = ["of variable rate"] if info.is_variable else []
    size = size or (nearest_size(own, sizes) if sizes else None)
    if size is None:
        return Fitted(read_clip(source, sampling=EVERY_FRAME).frames, own, tuple(changes))
    assert size.frames is not None
    frames = read_clip(source, sampling=Sampling(max_frames=size.frames + 1, rate_hz=size.fps)).frames
    if len(frames) < MIN_SHARE * size.frames:
        raise MediaError(
            f"clip lasts {len(frames)} frames at {size.fps:g} a second, less than half of the {size.frames} asked for; leave it out, or set model.sizes to fewer frames"
        )
    if len(frames) != size.frames:
        changes.append("cut" if len(frames) > size.frames else "padded")
    held = np.minimum(np.arange(size.frames), len(frames) - 1)  # the last frame stands still
    return Fitted(fit(frames[held], size), size, tuple(changes))


def fit(pixels: UInt8[np.ndarray, "*F H W 3"], size: Size) -> UInt8[np.ndarray, "*F h w 3"]:
    """Scale each frame to cover width x height, then crop around the centre."""
    frames = pixels.reshape(-1, *pixels.shape[-3:])
    fitted = [
        np.asarray(ImageOps.fit(Image.fromarray(frame), (size.width, size.height), Image.Resampling.LANCZOS))
        for frame in frames
    ]
    return np.stack(fitted).reshape(*pixels.shape[:-3], size.height, size.width, 3)


def nearest_size(own: Size, sizes: Sequence[Size]) -> Size:
    """The size with the nearest aspect ratio, by the ratio of the ratios; of equal ones that with the nearest duration."""

    def distance(size: Size) -> tuple[float, float]:
        ratio = (own.width / own.height) / (size.width / size.height)
        return round(max(ratio, 1 / ratio), 6), abs(_seconds(own) - _seconds(size))

    return min(sizes, key=distance)


def _seconds(size: Size) -> float:
    return (size.frames or 0) / (size.fps or 1)
