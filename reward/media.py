"""Reading pictures and clips: every way in ends as an RGB `PIL.Image` or a `Clip`, fully decoded.

Ways in: files, or their bytes; PIL images, and lists of them as clips; NumPy arrays and torch tensors, uint8 or floats in [0, 1],
pictures (C, H, W) and clips (F, C, H, W), or with `layout="HWC"` (H, W, C) and (F, H, W, C).
"""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageOps

from reward.checklist import Kind
from reward.errors import MediaError

Layout = Literal["CHW", "HWC"]
MediaLike = Any  # see the module's docstring; torch is not imported for its type alone
MediaBatch = Any  # a sequence of MediaLike, or one array or tensor of them with a batch axis in front


@dataclass(frozen=True)
class Clip:
    """Frames taken from a clip, in order."""

    frames: np.ndarray  # (F, H, W, 3) uint8
    times_s: np.ndarray  # (F,) float64: when each is shown

    @property
    def fps(self) -> float:
        """Frames a second among those taken; 1 for a single frame."""
        span_s = float(self.times_s[-1] - self.times_s[0])
        return (len(self.times_s) - 1) / span_s if span_s > 0 else 1.0


Media = Image.Image | Clip


@dataclass(frozen=True)
class Sampling:
    """Which frames of a clip a judge looks at."""

    max_frames: int
    rate_hz: float | None = None  # frames a second from the start, cut at max_frames; None = spread evenly


def read_media(source: MediaLike, kind: Kind, *, layout: Layout = "CHW", sampling: Sampling, fps: float = 8.0) -> Media:
    """A decoded picture or clip. `fps`: of clips that come as frames, which do not know their own.

    Raises MediaError naming what is missing, unreadable, empty, not finite, out of range or of the wrong kind.
    """
    return read_image(source, layout) if kind == "image" else read_clip(source, layout, sampling=sampling, fps=fps)


def read_image(source: MediaLike, layout: Layout = "CHW") -> Image.Image:
    """An RGB picture, turned upright by its EXIF orientation, transparency laid on white. Raises MediaError, naming it."""
    name = _name(source, "picture")
    try:
        if isinstance(source, Image.Image):
            image = _rgb(source, name)
        elif isinstance(source, (str, Path, bytes)):
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as opened:
                image = _rgb(opened, name)
        else:
            image = Image.fromarray(_pixels(source, layout, name, axes=3))
    except FileNotFoundError as error:
        raise MediaError(f"{name} does not exist; check the path") from error
    except MediaError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise MediaError(f"{name} cannot be decoded ({error}); replace it") from error
    if 0 in image.size:
        raise MediaError(f"{name} has a side of zero pixels ({image.width}x{image.height}); replace it")
    return image


def _rgb(image: Image.Image, name: str) -> Image.Image:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image).astype(np.float64) / 257).round().astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise MediaError(
            f"{name} has pixels of mode {image.mode!r}, whose range is unknown; convert it to 8 or 16 bits"
        )
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def read_clip(source: MediaLike, layout: Layout = "CHW", *, sampling: Sampling, fps: float = 8.0) -> Clip:
    """The frames that `sampling` takes, with their times. Raises MediaError, naming the clip."""
    name = _name(source, "clip")
    if isinstance(source, (str, Path, bytes)):
        return _decode(source, name, sampling)
    if isinstance(source, Clip):
        frames, times_s = source.frames, source.times_s
    elif not fps > 0:
        raise MediaError(f"fps={fps} of {name} is not above 0; give its frames a second")
    elif isinstance(source, (list, tuple)) and all(isinstance(frame, Image.Image) for frame in source):
        if len({frame.size for frame in source}) > 1:
            raise MediaError(f"{name} has frames of different sizes; make them one size")
        frames = np.stack([np.asarray(read_image(frame)) for frame in source]) if source else np.zeros((0, 1, 1, 3))
        times_s = np.arange(len(frames)) / fps
    else:
        frames = _pixels(source, layout, name, axes=4)
        times_s = np.arange(len(frames)) / fps
    if not len(frames):
        raise MediaError(f"{name} has no frame; replace it")
    taken = sample_times(times_s, sampling)
    return Clip(np.ascontiguousarray(frames[taken], dtype=np.uint8), times_s[taken])


def sample_times(times_s: np.ndarray, sampling: Sampling) -> np.ndarray:
    """Indices of the frames to take, in order.

    With a rate, the frame shown nearest to each tick, up to the one nearest to the last frame's time: for 1 Hz and at
    most 24 frames, those that VisionReward's published code looks at. Without, evenly from first to last.
    """
    if sampling.rate_hz is None:
        count = min(sampling.max_frames, len(times_s))
        return np.linspace(0, len(times_s) - 1, count).round().astype(int)
    since_s = times_s - times_s[0]
    ticks_s = np.arange(round(float(since_s[-1]) * sampling.rate_hz) + 1)[: sampling.max_frames] / sampling.rate_hz
    return np.abs(since_s[None] - ticks_s[:, None]).argmin(axis=1)


def digest(source: MediaLike, *, layout: Layout = "CHW", fps: float = 8.0) -> str:
    """sha256 of a file's bytes, or of pixels with all that says how to read them. Decodes nothing.

    Raises MediaError for a file that cannot be read, and a picture that cannot be decoded.
    """
    if isinstance(source, (str, Path)):
        try:
            with open(source, "rb") as file:
                sha = hashlib.sha256()
                while block := file.read(1 << 20):
                    sha.update(block)
                return sha.hexdigest()
        except OSError as error:
            raise MediaError(f"{_name(source, 'file')} cannot be read ({error.strerror}); check the path") from error
    sha = hashlib.sha256()
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    if isinstance(source, Clip):
        parts: Sequence[Any] = [source.frames, source.times_s]
    elif isinstance(source, (list, tuple)):
        parts = [*source, np.array(fps)]
    else:
        parts = [source, np.array(fps)]
    for part in parts:
        array = np.asarray(read_image(part)) if isinstance(part, Image.Image) else _array(part, _name(source, "item"))
        sha.update(f"{array.dtype}{array.shape}{layout}".encode())
        sha.update(np.ascontiguousarray(array).data)
    return sha.hexdigest()


def _decode(source: str | Path | bytes, name: str, sampling: Sampling) -> Clip:
    """Two passes: when each frame is shown, from the packets' headers; then the frames that are taken."""
    import av

    if not isinstance(source, bytes) and not Path(source).is_file():
        raise MediaError(f"{name} does not exist; check the path")
    try:
        with av.open(io.BytesIO(source) if isinstance(source, bytes) else str(source)) as container:
            if not container.streams.video:
                raise MediaError(f"{name} has no video stream; replace it")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            base = stream.time_base
            if base is None:
                raise MediaError(f"{name} does not say when its frames are shown; replace it")
            shown = sorted(p.pts for p in container.demux(stream) if p.pts is not None and p.size)
            if not shown:
                raise MediaError(f"{name} has no frame; replace it")
            wanted = [shown[i] for i in sample_times(np.array([float(pts * base) for pts in shown]), sampling)]
            container.seek(0)
            frames = {}
            for frame in container.decode(stream):
                if frame.pts in wanted:
                    frames[frame.pts] = frame.to_ndarray(format="rgb24")
                if len(frames) == len(set(wanted)):
                    break
    except (av.error.FFmpegError, OSError, ValueError) as error:
        if isinstance(error, MediaError):
            raise
        raise MediaError(f"{name} cannot be decoded ({error}); replace it") from error
    if len(frames) < len(set(wanted)):
        raise MediaError(f"{name} breaks off: {len(frames)} of {len(set(wanted))} frames could be decoded; replace it")
    return Clip(np.stack([frames[pts] for pts in wanted]), np.array([float(pts * base) for pts in wanted]))


def _array(source: MediaLike, name: str) -> np.ndarray:
    if hasattr(source, "detach"):  # a torch tensor; NumPy knows no bfloat16
        source = source.detach().cpu()
        return (source.float() if "bfloat16" in str(source.dtype) else source).numpy()
    try:
        return np.asarray(source)
    except ValueError as error:
        raise MediaError(f"{name} is no array ({error}); give frames of one shape") from error


def _pixels(source: MediaLike, layout: Layout, name: str, *, axes: int) -> np.ndarray:
    """(…, H, W, 3) uint8, checked."""
    array = _array(source, name)
    channel_axis = axes - 3 if layout == "CHW" else axes - 1
    expected = {3: "", 4: "F, "}[axes] + ", ".join(layout)
    if array.ndim != axes or array.shape[channel_axis] != 3:
        raise MediaError(
            f"{name} has shape {array.shape}; expected ({expected}) with 3 channels, or give layout={'HWC' if layout == 'CHW' else 'CHW'!r}"
        )
    if 0 in array.shape:
        raise MediaError(f"{name} has shape {array.shape} and so no pixel; replace it")
    array = np.moveaxis(array, channel_axis, -1)
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "f":
        raise MediaError(f"{name} has type {array.dtype}; give uint8 in [0, 255] or floats in [0, 1]")
    if not np.isfinite(array).all():
        raise MediaError(f"{name} holds NaN or infinity; replace it")
    if array.min() < 0 or array.max() > 1:
        raise MediaError(
            f"{name} has values in [{array.min():.4g}, {array.max():.4g}]; floats must lie in [0, 1] (for [-1, 1]: x / 2 + 0.5)"
        )
    return (array * 255).round().astype(np.uint8)


def _name(source: MediaLike, kind: str) -> str:
    if isinstance(source, (str, Path)):
        return f"{kind} {str(source)!r}"
    return f"{kind} given as {type(source).__module__.split('.')[0]}.{type(source).__name__}"
