"""Pictures and clips as files, without loss: PNG, and MP4 with H.264 in RGB; the same bytes for the same pixels.

Each says in a text field what it was made from, so that a file in the wrong place is noticed. In memory both are arrays of
uint8: a picture (H, W, 3), a clip (F, H, W, 3).
"""

import io
import json
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from jaxtyping import UInt8
from PIL import Image, PngImagePlugin

from mpo.run_folder.files import replacing
from reward.checklist import Kind
from reward.media import Sampling, probe_clip, read_clip, read_image

SUFFIX: dict[Kind, str] = {"image": ".png", "video": ".mp4"}
FIELD = "mpo"  # the name of a PNG text field, and of an entry in MP4's metadata
EVERY_FRAME = Sampling(max_frames=1_000_000)
QUALITY = "18"  # x264's constant rate factor for copies: hardly to be told from the original


def kind_of(file: Path) -> Kind:
    """Of a file that `write_media` made."""
    return "image" if file.suffix == SUFFIX["image"] else "video"


def write_media(
    path: Path,
    pixels: UInt8[np.ndarray, "*F H W 3"],
    *,
    fps: float | None = None,
    origin: Mapping[str, Any] | None = None,
) -> None:
    """A picture, or a clip at `fps` frames a second. origin: what it was made from, such as prompt and seed; None = not recorded."""
    words = None if origin is None else words_of(origin)
    with replacing(path) as temporary:
        if kind_of(path) == "image":
            text = PngImagePlugin.PngInfo()
            if words is not None:
                text.add_itxt(FIELD, words)
            Image.fromarray(pixels).save(temporary, format="PNG", pnginfo=text)
        else:
            assert fps is not None
            _write_clip(temporary, pixels, fps, {} if words is None else {FIELD: words})


def _write_clip(path: Path, frames: UInt8[np.ndarray, "F H W 3"], fps: float, metadata: Mapping[str, str]) -> None:
    # "use_metadata_tags" keeps entries that MP4 does not know.
    with av.open(str(path), "w", format="mp4", options={"movflags": "use_metadata_tags"}) as container:
        container.metadata.update(metadata)
        height, width = frames.shape[1:3]
        # No loss: quantiser 0, and RGB throughout.
        _encode(container, frames, fps, "libx264rgb", {"qp": "0"}, (width, height), "rgb24")


def _encode(
    container: Any, frames: UInt8[np.ndarray, "F H W 3"], fps: float, codec: str, options: dict[str, str],
    size: tuple[int, int], pix_fmt: str,
) -> None:  # fmt: skip
    stream = container.add_stream(codec, rate=frame_rate(fps), options={**options, "threads": "1"})
    stream.codec_context.thread_count = 1  # x264's bytes depend on the number of threads
    stream.width, stream.height = size
    stream.pix_fmt = pix_fmt
    for frame in frames:
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        container.mux(stream.encode(picture.reformat(*size)))
    container.mux(stream.encode())


def frame_rate(fps: float) -> Fraction:
    """As video files have it; 23.976 is 24000/1001."""
    return Fraction(fps).limit_denominator(1001)


def read_pixels(path: Path) -> UInt8[np.ndarray, "*F H W 3"]:
    """A picture, or all frames of a clip. Raises MediaError, naming the file."""
    if kind_of(path) == "image":
        return np.array(read_image(path))
    return read_clip(path, sampling=EVERY_FRAME).frames


def playable(file: Path, *, max_side: int | None = None) -> bytes:
    """A run's clip, which is RGB, as MP4 that browsers play: H.264 in 4:2:0, an even number of pixels a side.

    max_side: larger clips are made smaller; None = as large as they are.
    """
    frames, rate = read_pixels(file), probe_clip(file).fps
    buffer = io.BytesIO()
    height, width = frames.shape[1:3]
    scale = min(1.0, (max_side or max(width, height)) / max(width, height))
    width, height = round(width * scale), round(height * scale)
    even = (width + width % 2, height + height % 2)
    with av.open(buffer, "w", format="mp4") as container:
        _encode(container, frames, rate, "libx264", {"crf": QUALITY}, even, "yuv420p")
    return buffer.getvalue()


def without_origin(file: Path) -> bytes:
    """A run's picture as PNG, or clip as `playable`, that does not say what it was made from."""
    if kind_of(file) == "video":
        return playable(file)
    buffer = io.BytesIO()
    Image.fromarray(read_pixels(file)).save(buffer, "PNG")
    return buffer.getvalue()


def is_made_from(path: Path, origin: Mapping[str, Any]) -> bool:
    """Whether a file exists and says that it was made from this, and can be decoded."""
    fields = _decode(path)
    return fields is not None and fields.get(FIELD) == words_of(origin)


def can_be_decoded(path: Path) -> bool:
    """Whether a file exists and is whole."""
    return _decode(path) is not None


def _decode(path: Path) -> Mapping[Any, Any] | None:
    """A whole file's text fields; None = it is missing or damaged."""
    try:
        if kind_of(path) == "image":
            with Image.open(path) as image:
                image.load()
                return image.info
        read_pixels(path)
        with av.open(str(path)) as container:
            return dict(container.metadata)
    except (OSError, SyntaxError, ValueError, av.FFmpegError):  # MediaError is a ValueError
        return None


def words_of(origin: Mapping[str, Any]) -> str:
    """An origin as the text that a file holds."""
    return json.dumps(dict(origin), ensure_ascii=False, sort_keys=True)
