"""Pictures and clips inside a page: as data in the HTML, in forms that browsers show."""

import base64
from html import escape
from pathlib import Path

from mpo.run_folder.media import kind_of, playable


def media_tag(file: Path, label: str) -> str:
    """A picture as <img>, a clip as <video> that plays by itself, again and again."""
    if kind_of(file) == "image":
        return f'<img alt="{escape(label)}" src="data:image/png;base64,{_base64(file.read_bytes())}">'
    data = _base64(playable(file))
    return f'<video aria-label="{escape(label)}" autoplay loop muted playsinline src="data:video/mp4;base64,{data}"></video>'


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
