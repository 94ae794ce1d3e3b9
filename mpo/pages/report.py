"""The page of a run as one self-contained file: the same page as `mpo view` serves, with fewer samples inside."""

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from mpo.pages.data import Limits, files_of, page_data
from mpo.pages.media import data_uri
from mpo.run_folder.paths import RunFolder

MAX_BYTES = 10_000_000  # of the file, so that it can be mailed
SHOWN = Limits(heldout=48, pairs=24, refused=12, prompts=8)
FEWEST = Limits(heldout=2, pairs=2, refused=1, prompts=1)
STYLES = ("style.css",)
SCRIPTS = ("dom.js", "media.js", "charts.js", "cards.js", "tabs.js", "main.js")
# Nothing that the file holds may send a request.
POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def render(run: RunFolder) -> str:
    """A finished run -> the page's HTML, at most 10 MB: large pictures and clips let it hold fewer of them."""
    limits = SHOWN
    while True:
        page = _render(run, limits)
        if len(page.encode()) <= MAX_BYTES or limits == FEWEST:
            return page
        limits = Limits(**{name: max(getattr(FEWEST, name), count // 2) for name, count in vars(limits).items()})


def _render(run: RunFolder, limits: Limits) -> str:
    data = page_data(run, limits)
    media = {file: data_uri(run.folder / file) for file in sorted(files_of(data))}
    head = [f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">']
    head += [f"<style>\n{web_file(name)}</style>" for name in STYLES]
    foot = [_json("data", data), _json("media", media), *(f"<script>\n{web_file(name)}</script>" for name in SCRIPTS)]
    return framed("page.html", head, foot)


def framed(frame: str, head: Sequence[str], foot: Sequence[str]) -> str:
    """A page's frame with these lines at the end of its head and of its body."""
    return web_file(frame).replace("<!-- head -->", "\n".join(head)).replace("<!-- foot -->", "\n".join(foot))


def web_file(name: str) -> str:
    """A file of the front end."""
    return (resources.files("mpo.pages") / "web" / name).read_text("utf-8")


def _json(name: str, value: Mapping[str, Any]) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace(
        "<", "\\u003c"
    )  # no tag in a prompt ends it
    return f'<script type="application/json" id="{name}">{text}</script>'
