"""Whether the candidates are the files that their table records."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from mpo.run_folder.files import sha256
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import CANDIDATE_FILES
from reward.media import digest

ROWS = 2**14  # of the table at a time

# For a run's table: size and time of modification of each row's files when they were last found to be right. A file is
# read once in a process, unless they change; at ten million, 320 MB in place of gigabytes of names.
_right: dict[tuple[str, str], np.ndarray] = {}


def compare_candidates(run: RunFolder) -> tuple[list[str], list[str]]:
    """Names, relative to the run folder, of the files that are missing and of those that are not as recorded."""
    key = (str(run.folder.absolute()), sha256(run.candidates_table))
    with pq.ParquetFile(run.candidates_table) as table:
        count = table.metadata.num_rows
    if key not in _right:
        _right.clear()
        _right[key] = np.full((count, len(CANDIDATE_FILES), 2), -1, np.int64)
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
    return missing, damaged


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
