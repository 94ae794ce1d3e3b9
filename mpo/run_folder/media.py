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
    try:
        with Image.open(path) as image:
            if image.info.get(FIELD) != _words(origin):
                return False
            image.load()
            return True
    except (OSError, SyntaxError, ValueError):  # missing, or damaged
        return False


def _words(origin: Mapping[str, Any]) -> str:
    return json.dumps(dict(origin), ensure_ascii=False, sort_keys=True)
