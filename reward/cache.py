"""Answers kept on disk: nothing is judged twice.

One SQLite file. A row is found by what the answers depend on, and nothing else: the item's content, its
prompt, the questions' words, the judge. So new weights need no judging; new words do.
"""

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from reward.errors import CacheError

LOOKUP = 500  # keys per query; SQLite's oldest limit is 999


def answer_key(content: str, prompt: str, questions: str, judge: str) -> bytes:
    """32 bytes. Each part is hashed by itself, so that different lists of parts never give the same key."""
    parts = (hashlib.sha256(part.encode()).digest() for part in (content, prompt, questions, judge))
    return hashlib.sha256(b"".join(parts)).digest()


class AnswerCache:
    """p_yes rows by key. Several processes may share one folder. Raises CacheError if it cannot be read or written."""

    def __init__(self, folder: str | Path):
        folder = Path(folder).expanduser()
        self.file = folder / "answers.sqlite"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CacheError(
                f"cache={str(folder)!r} cannot be created as a folder ({error.strerror}); give another"
            ) from error
        with self._connection() as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, p_yes BLOB) WITHOUT ROWID")

    def get(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        """The rows that exist, (Q,) float64 each."""
        found = {}
        with self._connection() as connection:
            for start in range(0, len(keys), LOOKUP):
                some = keys[start : start + LOOKUP]
                places = ",".join("?" * len(some))
                query = f"SELECT key, p_yes FROM answers WHERE key IN ({places})"
                found |= {key: np.frombuffer(row, np.float64) for key, row in connection.execute(query, some)}
        return found

    def put(self, rows: Mapping[bytes, np.ndarray]) -> None:
        """Write all rows, or none after a crash."""
        with self._connection() as connection:
            values = [(key, np.asarray(row, np.float64).tobytes()) for key, row in rows.items()]
            connection.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?)", values)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.file, timeout=60)) as connection, connection:
                yield connection
        except sqlite3.Error as error:
            raise CacheError(
                f"cache file {str(self.file)!r} cannot be used ({error}); remove it, or give another folder"
            ) from error
