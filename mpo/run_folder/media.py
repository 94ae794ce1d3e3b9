"""Pictures as files: lossless PNG, the same bytes for the same pixels.

Each says in a text field what it was made from, so that a picture in the wrong place is noticed.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from mpo.run_folder.files import replacing

FIELD = "mpo"  # the name of a PNG text field


def write_png(path: Path, image: Image.Image, origin: Mapping[str, Any] | None = None) -> None:
    """origin: what the picture was made from, such as prompt and seed; None = it is not recorded."""
    text = PngImagePlugin.PngInfo()
    if origin is not None:
        text.add_itxt(FIELD, _words(origin))
    with replacing(path) as temporary:
        image.save(temporary, format="PNG", pnginfo=text)


def is_made_from(path: Path, origin: Mapping[str, Any]) -> bool:
    """Whether a PNG exists and says that it was made from this, and can be decoded."""
    info = _decode(path)
    return info is not None and info.get(FIELD) == _words(origin)


def can_be_decoded(path: Path) -> bool:
    """Whether a PNG exists and is whole."""
    return _decode(path) is not None


def _decode(path: Path) -> dict[Any, Any] | None:
    """A whole PNG's fields; None = it is missing or damaged."""
    try:
        with Image.open(path) as image:
            image.load()
            return image.info
    except (OSError, SyntaxError, ValueError):
        return None


def _words(origin: Mapping[str, Any]) -> str:
    return json.dumps(dict(origin), ensure_ascii=False, sort_keys=True)
