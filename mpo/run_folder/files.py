"""Whole files or none: a file is written under another name first, then renamed.

So a stage that was killed makes again only what is missing, and the result is the same.
"""

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from mpo import MpoError
from reward import files
from reward.media import digest

REMEDY = "make room and run the same command again (without --redo), which continues from here"


def replacing(path: Path) -> AbstractContextManager[Path]:
    """`reward.files.replacing`. Raises MpoError if the disk is full."""
    return files.replacing(path, error=MpoError, remedy=REMEDY)


def named_if_full(path: Path) -> AbstractContextManager[None]:
    """`reward.files.named_if_full`, with an MpoError."""
    return files.named_if_full(path, error=MpoError, remedy=REMEDY)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Records of a log, a line of JSON each; half a line at the end, from a killed run, is left out.

    Raises MpoError naming a line that is not a record.
    """
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    records = []
    for number, line in enumerate(lines, 1):
        if line.endswith(b"\n"):
            records.append(_record(line, f"{path}, line {number},"))
    return records


def read_json(path: Path) -> dict[str, Any]:
    """A file that holds one record. Raises MpoError if it is missing or damaged."""
    if not path.is_file():
        raise MpoError(f"{path} is missing; see `mpo status` for the stage that makes it")
    return _record(path.read_bytes(), str(path))


def _record(text: bytes, where: str) -> dict[str, Any]:
    try:
        record = json.loads(text)
    except ValueError:  # JSON's errors, and bytes that are not UTF-8
        record = None
    if not isinstance(record, dict):
        raise MpoError(f"{where} is damaged: it holds no JSON record; see `mpo status` for the stage to repair")
    return record


def append_line(path: Path, record: Mapping[str, Any]) -> None:
    """Append one record to a log. Half a line from a killed run is ended first."""
    with named_if_full(path), path.open("a+b") as file:
        line = json.dumps(record).encode() + b"\n"
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else b"\n" + line
        file.write(line)


def write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    write_text(path, "".join(json.dumps(record) + "\n" for record in records))


def write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, "utf-8")


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2) + "\n")


def delete(path: Path) -> None:
    """Delete a file, or a folder with its contents; does nothing if it is missing."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


NUM_DIGESTS = 100_000  # kept, about 50 MB; the oldest go first
_digests: dict[tuple[str, int, int, int], str] = {}


def sha256(path: Path) -> str:
    """Digest of a file's content. A file whose path, size and modification time are known is not read again by this process."""
    status = path.stat()
    key = (str(path.absolute()), status.st_ino, status.st_size, status.st_mtime_ns)
    if key not in _digests:
        _digests[key] = digest(path)
        if len(_digests) > NUM_DIGESTS:
            del _digests[next(iter(_digests))]
    return _digests[key]
