"""Rows of files of human judgements, and which of them still stand."""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from reward.errors import RewardError
from reward.media import digest

logger = logging.getLogger(__name__)


class PreferenceError(RewardError):
    """A file of judgements that cannot be read."""


@dataclass(frozen=True)
class Row:
    """A row, and where it is from."""

    fields: Any  # a mapping, unless the file is wrong
    where: str  # "FILE, row NUMBER", counted from 0
    folder: Path  # that its relative paths start from


def read_rows(path: Path) -> Iterator[Any]:
    """Rows of a JSON, JSON lines or parquet file, or of all parquet files of a folder. Raises PreferenceError."""
    try:
        if path.is_dir():
            for part in sorted(path.glob("*.parquet")):
                yield from read_rows(part)
        elif path.suffix == ".parquet":
            for batch in pq.ParquetFile(path).iter_batches(batch_size=64):
                yield from batch.to_pylist()
        elif path.suffix == ".jsonl":
            with path.open(encoding="utf-8") as file:
                yield from _lines(file, path)
        else:
            yield from json.loads(path.read_text("utf-8"))
    except (OSError, TypeError, ValueError) as error:  # pyarrow's and json's errors derive from ValueError
        raise PreferenceError(f"{path} cannot be read ({error}); give JSON, JSON lines or parquet") from error


def _lines(file: Iterable[str], path: Path) -> Iterator[Any]:
    """Half a line at the end, as a killed program leaves it, is left out."""
    for line in file:
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            if line.endswith("\n"):
                raise
            logger.warning("%s: half a line at its end is left out", path)
            return
        yield row


def read_lines_that_stand(path: Path, root: Path | None) -> Iterator[Row]:
    """Rows of a file of the project's own layout, or of all .jsonl files of a folder, each relative to its own folder.

    Left out are rows that another one corrects (the other's `replaces` is their `id`), and, with a warning, those whose
    `a_sha256` or `b_sha256` is no longer the digest of the file. Raises PreferenceError if none is left after that.
    """
    parts = (sorted(path.glob("*.jsonl")) if path.is_dir() else []) or [path]
    rows = [
        Row(fields, f"{part}, row {number}", root or part.parent)
        for part in parts
        for number, fields in enumerate(read_rows(part))
    ]
    replaced = {row.fields.get("replaces") for row in rows if isinstance(row.fields, Mapping)} - {None}
    rows = [row for row in rows if not isinstance(row.fields, Mapping) or row.fields.get("id") not in replaced]
    digests: dict[Path, str] = {}  # "": the file is missing
    kept = [row for row in rows if _is_as_judged(row, digests)]
    if len(kept) < len(rows):
        words = f"{path}: {len(rows) - len(kept)} of {len(rows)} rows are left out: their files are missing or are no longer those that were judged"
        if not kept:
            raise PreferenceError(f"{words}; none is left")
        logger.warning(words)
    return iter(kept)


def _is_as_judged(row: Row, digests: dict[Path, str]) -> bool:
    for side in ("a", "b") if isinstance(row.fields, Mapping) else ():
        name, held = row.fields.get(side), row.fields.get(f"{side}_sha256")
        if held is None or not isinstance(name, str):
            continue
        file = row.folder / name
        if file not in digests:
            digests[file] = digest(file) if file.is_file() else ""
        if digests[file] != held:
            return False
    return True
