"""Whether the candidates are the files that their table records."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mpo.run_folder.files import sha256
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import CANDIDATE_FILES, write_table
from reward.media import digest

ROWS = 2**14  # of the table at a time
SEEN = pa.schema([(f"{name}_{what}", pa.int64()) for name, _ in CANDIDATE_FILES for what in ("size", "mtime_ns")])

# For a run's table: size and time of modification of each row's files when they were last found to be right, -1 if never. A file is
# read once, unless they change; at ten million, 320 MB in place of gigabytes of names.
_right: dict[tuple[str, str], np.ndarray] = {}
_unwritten: set[tuple[str, str]] = set()


def compare_candidates(run: RunFolder) -> tuple[list[str], list[str]]:
    """Names, relative to the run folder, of the files that are missing and of those that are not as recorded.

    Files are read unless this process, or one that has called `remember_candidates`, has found them right, and size and time of
    modification are still the same. Writes nothing.
    """
    key = _key(run)
    if key not in _right:
        _right.clear()
        _unwritten.clear()
        _right[key] = _remembered(run, key[1])
    right = _right[key]
    missing, damaged = [], []
    for row, column, name, recorded in _recorded(run.candidates_table):
        file = run.candidates / name
        try:
            status = os.stat(file)
        except OSError:
            missing.append(_shown(run, file))
            continue
        now = (status.st_size, status.st_mtime_ns)
        if (right[row, column] == now).all():
            continue
        if not file.is_file() or digest(file) != recorded:
            damaged.append(_shown(run, file))
        else:
            right[row, column] = now
            _unwritten.add(key)
    return missing, damaged


def remember_candidates(run: RunFolder) -> None:
    """Write down which files this process has found right, if there are new ones: reading ten million takes hours."""
    key = _key(run) if run.candidates_table.is_file() else None
    if key in _unwritten:
        columns = _right[key].reshape(-1, len(SEEN.names)).T
        write_table(run.seen_candidates, dict(zip(SEEN.names, columns, strict=True)), SEEN, {"candidates": key[1]})
        _unwritten.discard(key)


def _key(run: RunFolder) -> tuple[str, str]:
    return str(run.folder.absolute()), sha256(run.candidates_table)


def _remembered(run: RunFolder, table: str) -> np.ndarray:
    """Rows x CANDIDATE_FILES x (size, time of modification); all -1 if nothing is known about such a table."""
    count = pq.read_metadata(run.candidates_table).num_rows
    shape = (count, len(CANDIDATE_FILES), 2)
    try:
        seen = pq.read_table(run.seen_candidates)
    except (OSError, pa.ArrowInvalid):
        return np.full(shape, -1, np.int64)
    if (seen.schema.metadata or {}).get(b"candidates") != table.encode() or len(seen) != count:
        return np.full(shape, -1, np.int64)
    return np.stack([seen.column(name).to_numpy() for name in SEEN.names], axis=1).reshape(shape)


def _recorded(table: Path) -> Iterator[tuple[int, int, str, str]]:
    """Row, which of CANDIDATE_FILES, a file's name and its digest."""
    names = [name for pair in CANDIDATE_FILES for name in pair]
    start = 0
    with pq.ParquetFile(table) as file:
        for batch in file.iter_batches(batch_size=ROWS, columns=names):
            held = batch.to_pydict()
            for k in range(batch.num_rows):
                for column, (name, recorded) in enumerate(CANDIDATE_FILES):
                    if held[name][k] is not None:
                        yield start + k, column, held[name][k], held[recorded][k]
            start += batch.num_rows


def _shown(run: RunFolder, file: Path) -> str:
    return file.relative_to(run.folder).as_posix()
