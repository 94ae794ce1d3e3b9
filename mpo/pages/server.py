"""`mpo view`: the page of runs, served on this machine alone.

The server answers only to requests that name this machine (a page of another site could otherwise reach it through a name of its own:
DNS rebinding), sends nothing but the front end, the runs' data and the media that these name, and allows no other host in a page.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mpo import MpoError
from mpo.pages.data import page_data
from mpo.pages.report import SCRIPTS, STYLES, framed, web_file
from mpo.run_folder.media import SUFFIX, without_origin
from mpo.run_folder.paths import RunFolder

HOST = "127.0.0.1"
NAMES = ("127.0.0.1", "localhost")
POLICY = "default-src 'none'; connect-src 'self'; img-src 'self' data:; media-src 'self'; style-src 'self'; script-src 'self'"
TYPES = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".png": "image/png",
    ".html": "text/html",
    ".json": "application/json",
}
NUM_KEPT = 256  # samples in memory once they are made to be shown


class NotFoundError(Exception):
    """There is no such thing to be sent."""


Answer = tuple[bytes, str]  # content, MIME type
Get = Callable[[str], Answer]  # of a path without "/" at its start; raises NotFoundError
Post = Callable[[str, Mapping], Mapping]  # path and a record -> a record


def view_routes(runs: Sequence[RunFolder]) -> Get:
    """What the page of these runs asks for. Data are made at the first request."""

    @lru_cache(maxsize=len(runs))
    def data(index: int) -> bytes:
        return json.dumps(page_data(runs[index]), separators=(",", ":")).encode()

    def get(path: str) -> Answer:
        place, _, rest = path.partition("/")
        if path in ("", "index.html"):
            return linked("page.html", STYLES, SCRIPTS)
        if path in (*STYLES, *SCRIPTS):
            return static(path)
        if path == "runs.json":
            return json.dumps([run.folder.name for run in runs]).encode(), TYPES[".json"]
        if place == "data":
            return data(_index(rest.removesuffix(".json"), runs)), TYPES[".json"]
        if place == "media":
            index, _, name = rest.partition("/")
            return media_of(runs[_index(index, runs)], name)
        raise NotFoundError

    return get


def linked(frame: str, styles: Sequence[str], scripts: Sequence[str]) -> Answer:
    """A page that asks for its styles and scripts."""
    links = [f'<link rel="stylesheet" href="{name}">' for name in styles]
    return framed(frame, links, [f'<script src="{name}"></script>' for name in scripts]).encode(), TYPES[".html"]


def static(name: str) -> Answer:
    """A style or script of the front end."""
    return web_file(name).encode(), TYPES[Path(name).suffix]


def _index(text: str, runs: Sequence[RunFolder]) -> int:
    if not text.isdecimal() or int(text) >= len(runs):
        raise NotFoundError
    return int(text)


def media_of(run: RunFolder, name: str) -> Answer:
    """A candidate or a sample, by its name relative to the run. Raises NotFoundError for any other file."""
    file = (run.folder / name).resolve()
    held = (run.candidates.resolve(), run.samples.resolve())
    if (
        not any(file.is_relative_to(folder) for folder in held)
        or file.suffix not in SUFFIX.values()
        or not file.is_file()
    ):
        raise NotFoundError
    return shown(file)


def shown(file: Path) -> Answer:
    """A picture or clip as browsers show it."""
    return blind(file) if file.suffix == SUFFIX["video"] else (file.read_bytes(), TYPES[".png"])


def blind(file: Path) -> Answer:
    """The same, without the words in it that say which model made it."""
    kind = "video/mp4" if file.suffix == SUFFIX["video"] else TYPES[".png"]
    return _without_origin(file, file.stat().st_mtime_ns), kind


@lru_cache(maxsize=NUM_KEPT)
def _without_origin(file: Path, changed_ns: int) -> bytes:
    return without_origin(file)


class LocalServer(ThreadingHTTPServer):
    """Serves `get`, and `post` if there is one, on 127.0.0.1. port: 0 = any that is free; `url` says which."""

    daemon_threads = True

    def __init__(self, get: Get, post: Post | None = None, *, port: int = 0):
        self.get, self.post = get, post
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise MpoError(f"--port {port} cannot be used ({error.strerror}); leave it out, or give another") from None

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_address[1]}/"


class _Handler(BaseHTTPRequestHandler):
    server: LocalServer  # type: ignore[assignment]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self._is_for_us():
            self._answer(lambda path: self.server.get(path))

    def do_POST(self) -> None:
        if not self._is_for_us():
            return
        origin, kind = self.headers.get("Origin"), self.headers.get("Content-Type", "")
        same = origin is not None and urlsplit(origin).netloc == self.headers.get("Host")
        if self.server.post is None or not same or kind.split(";")[0] != "application/json":
            self._send(HTTPStatus.FORBIDDEN, b"only this page may write", "text/plain")
            return
        post, body = self.server.post, self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self._answer(lambda path: (json.dumps(post(path, json.loads(body))).encode(), TYPES[".json"]))

    def _is_for_us(self) -> bool:
        name = urlsplit(f"//{self.headers.get('Host', '')}").hostname
        if name not in NAMES:
            self._send(HTTPStatus.FORBIDDEN, b"this server answers to 127.0.0.1 alone", "text/plain")
        return name in NAMES

    def _answer(self, make: Callable[[str], Answer]) -> None:
        try:
            content, kind = make(unquote(urlsplit(self.path).path).removeprefix("/"))
        except NotFoundError:
            self._send(HTTPStatus.NOT_FOUND, b"not found", "text/plain")
        except ValueError as error:  # MpoError, RewardError: told to the user where they look
            self._send(HTTPStatus.BAD_REQUEST, str(error).encode(), "text/plain")
        else:
            self._send_range(content, kind)

    def _send_range(self, content: bytes, kind: str) -> None:
        """All of it, or the part that a player of clips asks for (RFC 9110, section 14)."""
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        if asked is None or start >= len(content):
            self._send(HTTPStatus.OK, content, kind)
            return
        part = content[start : int(asked[2]) + 1 if asked[2] else None]
        place = f"bytes {start}-{start + len(part) - 1}/{len(content)}"
        self._send(HTTPStatus.PARTIAL_CONTENT, part, kind, {"Content-Range": place})

    def _send(self, status: HTTPStatus, content: bytes, kind: str, more: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": f"{kind}; charset=utf-8" if kind.startswith("text/") else kind,
            "Content-Length": str(len(content)),
            "Content-Security-Policy": POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            # Samples that are scrolled back to are not sent again; a run that is made anew is seen after ten minutes.
            "Cache-Control": "private, max-age=600" if kind.startswith(("image/", "video/")) else "no-store",
            "Accept-Ranges": "bytes",
            **(more or {}),
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the terminal shows the address alone."""
