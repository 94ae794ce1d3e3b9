"""Reads pictures and clips: every input becomes an RGB `PIL.Image` or a `Clip`, fully decoded.

Inputs: files, their bytes, or the datasets library's {"bytes", "path"}; PIL images; NumPy arrays and torch tensors,
uint8 or floats in [0, 1], pictures (C, H, W) and clips (F, C, H, W), or with `layout="HWC"` (H, W, C) and (F, H, W, C).
A list of pictures, each given in any of these forms, is a clip.
"""

import hashlib
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageOps

from reward.checklist import Kind
from reward.errors import MediaError

Layout = Literal["CHW", "HWC"]
SUFFIXES: Mapping[Kind, tuple[str, ...]] = {
    "image": (".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"),
    "video": (".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".webm"),
}
MediaLike = Any  # see the module's docstring; torch is not imported just for its type
MediaBatch = Any  # a sequence of MediaLike, or one array or tensor of them with a batch axis in front


@dataclass(frozen=True)
class Clip:
    """Frames taken from a clip, in order. A hand-made one is checked when it is read: see `read_clip`."""

    frames: np.ndarray  # (F, H, W, 3) uint8
    times_s: np.ndarray  # (F,) float64, never decreasing: when each is shown

    @property
    def fps(self) -> float:
        """Frames a second among those taken; 1 if they span no time, such as a single frame."""
        span_s = float(self.times_s[-1] - self.times_s[0])
        return (len(self.times_s) - 1) / span_s if span_s > 0 else 1.0


@dataclass(frozen=True)
class ClipInfo:
    """What a clip's file says without decoding its frames."""

    width: int  # pixels
    height: int  # pixels
    times_s: np.ndarray  # (F,) float64, when each frame is shown, in order

    @property
    def fps(self) -> float:
        """Frames a second; 1 if they span no time."""
        span_s = float(self.times_s[-1] - self.times_s[0])
        return (len(self.times_s) - 1) / span_s if span_s > 0 else 1.0

    @property
    def is_variable(self) -> bool:
        """Whether some frame is shown more than half as long again as the usual one, or less than half as long."""
        steps = np.diff(self.times_s)
        usual = float(np.median(steps)) if len(steps) else 0.0
        return len(steps) > 0 and bool((steps > 1.5 * usual).any() or (steps < 0.5 * usual).any())


Media = Image.Image | Clip


@dataclass(frozen=True)
class Sampling:
    """Which frames of a clip a judge looks at."""

    max_frames: int
    rate_hz: float | None = None  # frames a second from the start, cut at max_frames; None = spread evenly


def files_in(folder: str | Path, kind: Kind) -> list[Path]:
    """The pictures or clips in a folder, by their suffix and sorted by name; subfolders are not searched.

    Raises MediaError if there are none.
    """
    found = sorted(file for file in Path(folder).iterdir() if is_named_as(file, kind) and file.is_file())
    if not found:
        named, suffixes = "picture" if kind == "image" else "clip", " ".join(SUFFIXES[kind])
        raise MediaError(f"folder {str(folder)!r} holds no {named} ({suffixes}); give another, or name files")
    return found


def is_named_as(file: Path, kind: Kind) -> bool:
    """Whether a file's suffix is one of pictures or of clips; .gif is of both, a hidden file of none."""
    return file.suffix.lower() in SUFFIXES[kind] and not file.name.startswith(".")


def read_media(source: MediaLike, kind: Kind, *, layout: Layout = "CHW", sampling: Sampling, fps: float = 8.0) -> Media:
    """A decoded picture or clip. `fps`: for clips that come as frames, which have no rate of their own.

    Raises MediaError naming what is missing, unreadable, empty, not finite, out of range or of the wrong kind.
    """
    return read_image(source, layout) if kind == "image" else read_clip(source, layout, sampling=sampling, fps=fps)


def read_image(source: MediaLike, layout: Layout = "CHW") -> Image.Image:
    """An RGB picture, turned upright by its EXIF orientation, transparency blended with white, 16 bits scaled to 8.

    Raises MediaError, naming the picture.
    """
    name, source = _name(source, "picture"), _file_of(source, "picture")
    if isinstance(source, (str, Path, bytes)):
        _refuse_empty(source, name)
        with _decoding(name), Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as opened:
            image = _rgb(opened, name)
    elif isinstance(source, Image.Image):
        with _decoding(name):  # Pillow decodes a picture when it is first read
            image = _rgb(source, name)
    else:
        image = Image.fromarray(_pixels(source, layout, name, axes=3))
    if 0 in image.size:
        raise MediaError(f"{name} has a side of zero pixels ({image.width}x{image.height}); replace it")
    return image


def _refuse_empty(source: str | Path | bytes, name: str) -> None:
    """Raises MediaError for a file without content, of which each decoder says something else."""
    is_empty = not source if isinstance(source, bytes) else Path(source).is_file() and not Path(source).stat().st_size
    if is_empty:
        raise MediaError(f"{name} is empty (0 bytes); replace it")


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Turns whatever a decoder raises on broken bytes into a MediaError: Pillow's and FFmpeg's plugins may raise anything."""
    try:
        yield
    except MediaError:
        raise
    except FileNotFoundError as error:
        raise MediaError(f"{name} does not exist; check the path") from error
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise MediaError(f"{name} cannot be decoded ({reason}); replace it") from error


def _rgb(image: Image.Image, name: str) -> Image.Image:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        grey = np.asarray(image)
        eight_bits = (grey.astype(np.float64) / 257).round().astype(np.uint8)
        clear = grey == image.info["transparency"] if "transparency" in image.info else False
        return Image.fromarray(np.where(clear, np.uint8(255), eight_bits)).convert("RGB")
    if image.mode in ("I", "F"):
        raise MediaError(
            f"{name} has pixels of mode {image.mode!r}, whose range is unknown; convert it to 8 or 16 bits"
        )
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def read_clip(source: MediaLike, layout: Layout = "CHW", *, sampling: Sampling, fps: float = 8.0) -> Clip:
    """The frames that `sampling` takes, with their times. Raises MediaError, naming the clip.

    Frames of a `Clip` may be floats in [0, 1] as well, (F, H, W, 3); its times must be finite and may not decrease.
    """
    name, source = _name(source, "clip"), _file_of(source, "clip")
    if isinstance(source, (str, Path, bytes)):
        return _decode(source, name, sampling)
    if isinstance(source, Clip):
        frames, times_s = _pixels(source.frames, "HWC", name, axes=4), _times(source, name)
    elif not 0 < fps < math.inf:
        raise MediaError(f"fps={fps} of {name} is not a number above 0; give its frames per second")
    else:
        stacked = isinstance(source, (list, tuple))
        frames = _stack(source, layout, name) if stacked else _pixels(source, layout, name, axes=4)
        times_s = np.arange(len(frames)) / fps
    taken = sample_times(times_s, sampling)
    return Clip(np.ascontiguousarray(frames[taken]), times_s[taken])


def _stack(pictures: Sequence[MediaLike], layout: Layout, name: str) -> UInt8[np.ndarray, "F H W 3"]:
    frames = []
    for number, picture in enumerate(pictures):
        try:
            frames.append(np.asarray(read_image(picture, layout)))
        except MediaError as error:
            raise MediaError(f"frame {number} of {name}: {error}") from error
        if frames[-1].shape != frames[0].shape:
            first, this = (f"{frame.shape[1]}x{frame.shape[0]}" for frame in (frames[0], frames[-1]))
            raise MediaError(f"{name} has frames of different sizes ({first}, then {this}); make them one size")
    if not frames:
        raise MediaError(f"{name} has no frame; replace it")
    return np.stack(frames)


def _times(clip: Clip, name: str) -> Float[np.ndarray, " F"]:
    times_s = _array(clip.times_s, f"times_s of {name}")
    if times_s.shape != (len(clip.frames),) or times_s.dtype.kind not in "fiu":
        raise MediaError(
            f"{name} has times_s of shape {times_s.shape} and type {times_s.dtype} for {len(clip.frames)} frames; give a number for each frame"
        )
    times_s = times_s.astype(np.float64)
    for frame in np.flatnonzero(~np.isfinite(times_s)):
        raise MediaError(f"{name} has times_s[{frame}]={times_s[frame]}; give seconds")
    for frame in np.flatnonzero(np.diff(times_s) < 0):
        raise MediaError(
            f"{name} has times_s[{frame + 1}]={times_s[frame + 1]} after {times_s[frame]}; put its frames in the order they are shown"
        )
    return times_s


def sample_times(times_s: Float[np.ndarray, " F"], sampling: Sampling) -> Int[np.ndarray, " T"]:
    """Indices of the T frames to take, in order.

    With a rate, the frame shown nearest to each tick, up to the one nearest to the last frame's time: for 1 Hz and at
    most 24 frames, those that VisionReward's published code looks at. Without a rate, evenly from first to last.
    """
    if sampling.rate_hz is None:
        count = min(sampling.max_frames, len(times_s))
        return np.linspace(0, len(times_s) - 1, count).round().astype(int)
    since_s = times_s - times_s[0]
    ticks_s = np.arange(round(float(since_s[-1]) * sampling.rate_hz) + 1)[: sampling.max_frames] / sampling.rate_hz
    return np.abs(since_s[None] - ticks_s[:, None]).argmin(axis=1)


def digest(source: MediaLike, *, layout: Layout = "CHW", fps: float = 8.0) -> str:
    """sha256 of a file's bytes, or of pixels and everything that says how to read them. Decodes no file.

    Raises MediaError for a file that cannot be read, or a picture that cannot be decoded.
    """
    name, source = _name(source, "item"), _file_of(source, "item")
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    sha = hashlib.sha256()
    if isinstance(source, (str, Path)):
        try:
            with open(source, "rb") as file:
                while block := file.read(1 << 20):
                    sha.update(block)
                return sha.hexdigest()
        except OSError as error:
            raise MediaError(f"{name} cannot be read ({error.strerror}); check the path") from error
    if isinstance(source, (list, tuple)):
        sha.update("".join([f"{layout}{fps}", *(digest(frame, layout=layout, fps=fps) for frame in source)]).encode())
        return sha.hexdigest()
    if isinstance(source, Clip):
        parts: Sequence[Any] = [source.frames, source.times_s]
    else:
        parts = [np.asarray(read_image(source)) if isinstance(source, Image.Image) else source, np.array(fps)]
    for part in parts:
        array = _array(part, name)
        sha.update(f"{array.dtype}{array.shape}{layout}".encode())
        sha.update(np.ascontiguousarray(array).data)
    return sha.hexdigest()


def probe_clip(source: MediaLike) -> ClipInfo:
    """Size and times of a file, its bytes, or the datasets library's mapping. Raises MediaError, naming the clip."""
    name, source = _name(source, "clip"), _file_of(source, "clip")
    with _opened(source, name) as (_, stream, shown):
        context, base = stream.codec_context, stream.time_base
        return ClipInfo(context.width, context.height, np.array([float(pts * base) for pts in shown]))


@contextmanager
def _opened(source: str | Path | bytes, name: str) -> Iterator[tuple[Any, Any, list[int]]]:
    """Container, stream, and when each frame is shown, in the stream's time base, from the packets' headers."""
    import av

    if not isinstance(source, bytes) and not Path(source).is_file():
        raise MediaError(f"{name} {'is not a file' if Path(source).exists() else 'does not exist'}; check the path")
    _refuse_empty(source, name)
    with _decoding(name), av.open(io.BytesIO(source) if isinstance(source, bytes) else str(source)) as container:
        if not container.streams.video:
            raise MediaError(f"{name} has no video stream; replace it")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        if stream.time_base is None:
            raise MediaError(f"{name} does not say when its frames are shown; replace it")
        shown = sorted(p.pts for p in container.demux(stream) if p.pts is not None and p.size)
        if not shown:
            raise MediaError(f"{name} has no frame; replace it")
        yield container, stream, shown


def _decode(source: str | Path | bytes, name: str, sampling: Sampling) -> Clip:
    """The frames that are taken, found by when they are shown."""
    with _opened(source, name) as (container, stream, shown):
        base = stream.time_base
        wanted = [shown[i] for i in sample_times(np.array([float(pts * base) for pts in shown]), sampling)]
        container.seek(0)
        frames = {}
        for frame in container.decode(stream):
            if frame.pts in wanted:
                frames[frame.pts] = frame.to_ndarray(format="rgb24")
            if len(frames) == len(set(wanted)):
                break
        if len(frames) < len(set(wanted)):
            raise MediaError(
                f"{name} breaks off: {len(frames)} of {len(set(wanted))} frames could be decoded; replace it"
            )
        # Inside, since the frame size may change within a broken file.
        return Clip(np.stack([frames[pts] for pts in wanted]), np.array([float(pts * base) for pts in wanted]))


def _file_of(source: MediaLike, kind: str) -> MediaLike:
    """The bytes, or else the path, in a mapping of the datasets library; anything else unchanged."""
    if not isinstance(source, Mapping):
        return source
    for key, types in (("bytes", bytes), ("path", (str, Path))):
        if isinstance(source.get(key), types):
            return source[key]
    raise MediaError(
        f"{kind} given as a mapping with the keys {sorted(map(str, source))} has neither bytes nor path; give one"
    )


def _array(source: MediaLike, name: str) -> np.ndarray:
    if hasattr(source, "detach"):  # a torch tensor; NumPy has no bfloat16
        source = source.detach().cpu()
        return (source.float() if "bfloat16" in str(source.dtype) else source).numpy()
    try:
        return np.asarray(source)
    except ValueError as error:
        raise MediaError(f"{name} is not an array ({error}); give one of uint8, or of floats in [0, 1]") from error


def _pixels(source: MediaLike, layout: Layout, name: str, *, axes: int) -> UInt8[np.ndarray, "*F H W 3"]:
    """The pixels of a picture (axes=3) or a clip (4), checked."""
    array = _array(source, name)
    channel_axis = axes - 3 if layout == "CHW" else axes - 1
    expected = {3: "", 4: "F, "}[axes] + ", ".join(layout)
    if array.ndim != axes or array.shape[channel_axis] != 3:
        raise MediaError(
            f"{name} has shape {array.shape}; expected ({expected}) with 3 channels, or give layout={'HWC' if layout == 'CHW' else 'CHW'!r}"
        )
    if len(array) == 0:
        raise MediaError(f"{name} has no frame; replace it")
    if 0 in array.shape:
        raise MediaError(f"{name} has shape {array.shape} and so no pixels; replace it")
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
    if isinstance(source, Mapping) and isinstance(source.get("path"), (str, Path)):
        source = source["path"]
    if isinstance(source, (str, Path)):
        return f"{kind} {str(source)!r}"
    return f"{kind} given as {type(source).__module__.split('.')[0]}.{type(source).__name__}"
