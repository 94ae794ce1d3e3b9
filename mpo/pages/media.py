"""Pictures and clips inside a page: as data, in forms that browsers show and no larger than a page needs."""

import base64
import io
from pathlib import Path

from PIL import Image

from mpo.run_folder.media import kind_of, playable

MAX_SIDE = 512  # pixels of the longer side
JPEG_QUALITY = 88
SMALL = 60_000  # bytes of a PNG that is taken as it is


def data_uri(file: Path) -> str:
    """A small PNG as it is, a larger one as JPEG, a clip as MP4; sides of at most 512 pixels."""
    if kind_of(file) == "video":
        return _uri("video/mp4", playable(file, max_side=MAX_SIDE))
    data = file.read_bytes()
    if len(data) <= SMALL:
        return _uri("image/png", data)
    with Image.open(io.BytesIO(data)) as picture:
        picture.thumbnail((MAX_SIDE, MAX_SIDE))
        buffer = io.BytesIO()
        picture.convert("RGB").save(buffer, "JPEG", quality=JPEG_QUALITY)
    return _uri("image/jpeg", buffer.getvalue())


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
