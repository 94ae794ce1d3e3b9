"""Pictures as files: PNG, without loss, the same bytes for the same pixels.

Each says in a text field what it was made from, so that a picture which lies in another's place is noticed.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from mpo.run_folder.files import replacing

FIELD = "mpo"  # of PNG's text fields


def write_png(path: Path, image: Image.Image, origin: Mapping[str, Any] | None = None) -> None:
    """origin: what the picture was made from, such as prompt and seed; None = nothing is said."""
    text = PngImagePlugin.PngInfo()
    if origin is not None:
        text.add_itxt(FIELD, _words(origin))
    with replacing(path) as temporary:
        image.save(temporary, format="PNG", pnginfo=text)


def is_made_from(path: Path, origin: Mapping[str, Any]) -> bool:
    """Whether a PNG is there and says that it was made from this. Reads its head alone."""
    try:
        with Image.open(path) as image:
            return image.info.get(FIELD) == _words(origin)
    except (OSError, SyntaxError, ValueError):  # absent, or damaged
        return False


def _words(origin: Mapping[str, Any]) -> str:
    return json.dumps(dict(origin), ensure_ascii=False, sort_keys=True)
