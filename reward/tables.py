"""Rows of a table as items to score, read a chunk at a time.

Tables: JSON lines, CSV, parquet, and data sets of the `datasets` library (a folder made by `save_to_disk`, a folder that
`load_dataset` reads, such as an imagefolder or one of parquet files, or a hub id). A cell with a picture or clip holds a path,
relative to the table, or the {"bytes", "path"} that `datasets` writes. Nothing here holds more than a chunk in memory.
"""

import csv
import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import count, islice
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import pyarrow.parquet as pq

from reward.errors import RewardError, first_line
from reward.media import MediaLike

MEDIA_COLUMNS = ("file", "image", "video")  # where the picture or clip is looked for unless a column is named
PROMPT_COLUMN = "prompt"
TABLES = (".jsonl", ".csv", ".parquet")
Wanted = Callable[[int], bool]  # of a chunk's number


@dataclass(frozen=True)
class Item:
    """One picture or clip to score."""

    file: str | None  # as the command line or the table names it; None = embedded without a name
    media: MediaLike
    prompt: Any  # text, unless the table holds something else


@runtime_checkable
class Source(Protocol):
    """N items in a fixed order. It can be sent to another process."""

    @property
    def num_items(self) -> int: ...

    @property
    def fingerprint(self) -> str:
        """Changes when the table does, or the list of files. What files hold is not read."""
        ...

    def chunks(self, size: int, wanted: Wanted = ...) -> Iterator[tuple[int, list[Item]]]:
        """The wanted ones of the chunks 0, 1, 2, … of `size` items each, in order; the last may be shorter."""
        ...


def every(number: int) -> bool:
    return True


@contextmanager
def named(path: str) -> Iterator[None]:
    """Turns what libraries raise about a table into one line."""
    try:
        yield
    except RewardError:
        raise
    except UnicodeDecodeError as error:
        raise RewardError(f"{path} is not UTF-8 text; give JSON lines, CSV or parquet") from error
    except OSError as error:
        raise RewardError(f"{path} cannot be read ({error.strerror or first_line(error)}); check the path") from error
    except Exception as error:  # of pyarrow, csv and datasets
        raise RewardError(
            f"{path} cannot be read ({first_line(error)}); give JSON lines, CSV, parquet, or a data set's folder or hub id"
        ) from error


def numbered(items: Iterable[Any], size: int, wanted: Wanted) -> Iterator[tuple[int, list[Any]]]:
    rest = iter(items)
    for number in count():
        chunk = list(islice(rest, size))
        if not chunk:
            return
        if wanted(number):
            yield number, chunk


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are read."""

    media: str | None  # None = the first of MEDIA_COLUMNS that there is
    prompt: str | None  # None = PROMPT_COLUMN
    given_prompt: str  # for all rows of a table without prompts
    needs_prompts: bool

    def found(self, names: Sequence[str], table: str) -> tuple[str, str | None]:
        """The columns' names in a table; the prompt's is None if there is no such column and none is needed.

        Raises RewardError for a column that is not there, and for a prompt that is given twice.
        """
        there = f"it has: {', '.join(names)}"
        media = next((each for each in MEDIA_COLUMNS if each in names), None) if self.media is None else self.media
        if media is None:
            known = " or ".join(map(repr, MEDIA_COLUMNS))
            raise RewardError(f"{table} has no column {known}; name one with --media-column ({there})")
        prompt = self.prompt or PROMPT_COLUMN
        if self.given_prompt and prompt in names:
            raise RewardError(f"{table} has the column {prompt!r}, and --prompt is given, too; leave one out")
        for name, option in ((media, "--media-column"), (prompt, "--prompt-column")):
            needed = option == "--media-column" or self.prompt or (self.needs_prompts and not self.given_prompt)
            if needed and name not in names:
                raise RewardError(f"{table} has no column {name!r}; name one with {option} ({there})")
        return media, prompt if prompt in names else None

    def words(self) -> str:
        """What the columns do to a table's items."""
        return json.dumps([self.media, self.prompt, self.given_prompt])


@dataclass(frozen=True)
class _Table:
    path: Any
    columns: Columns

    @property
    def folder(self) -> Path:
        """Where relative paths start."""
        return self.path.parent

    @cached_property
    def names(self) -> list[str]:
        raise NotImplementedError

    @cached_property
    def _count(self) -> int:
        raise NotImplementedError

    @cached_property
    def _digest(self) -> str:
        raise NotImplementedError

    @property
    def num_items(self) -> int:
        return self._count

    @property
    def fingerprint(self) -> str:
        return self._digest

    def chunks(self, size: int, wanted: Wanted = every) -> Iterator[tuple[int, list[Item]]]:
        raise NotImplementedError

    @cached_property
    def found(self) -> tuple[str, str | None]:
        return self.columns.found(self.names, str(self.path))

    def check(self) -> None:
        """Raises RewardError for columns that are not there, and for text that is no table."""
        _ = self.found

    def item(self, row: Mapping[str, Any]) -> Item:
        media, prompt = self.found
        cell = row.get(media)
        text = self.columns.given_prompt if prompt is None else row.get(prompt)
        if isinstance(cell, str):
            return Item(cell, self.folder / cell, text)
        if isinstance(cell, Mapping) and not cell.get("bytes") and isinstance(cell.get("path"), str):
            return Item(cell["path"], self.folder / cell["path"], text)
        if isinstance(cell, Mapping):
            return Item(cell.get("path"), cell, text)
        return Item(None, {"bytes": cell, "path": None}, text)


class _TextTable(_Table):
    """A table that is read from its first line to its last."""

    def rows(self) -> Iterator[Any]:
        raise NotImplementedError

    def parse(self, row: Any) -> Mapping[str, Any]:
        return row

    @cached_property
    def _digest(self) -> str:
        sha = hashlib.sha256(self.columns.words().encode())
        with self.path.open("rb") as file:
            while block := file.read(1 << 20):
                sha.update(block)
        return sha.hexdigest()

    @cached_property
    def _count(self) -> int:
        return sum(1 for _ in self.rows())

    def chunks(self, size: int, wanted: Wanted = every) -> Iterator[tuple[int, list[Item]]]:
        for number, rows in numbered(self.rows(), size, wanted):
            yield number, [self.item(self.parse(row)) for row in rows]


class JsonLines(_TextTable):
    """A JSON object on each line; empty lines are left out. All lines are checked before anything is scored."""

    def rows(self) -> Iterator[str]:
        with self.path.open(encoding="utf-8", newline="\n") as file:
            yield from (line for line in file if line.strip())

    def parse(self, row: str) -> Mapping[str, Any]:
        return json.loads(row)

    @cached_property
    def names(self) -> list[str]:
        return list(_object(next(self.rows()), f"{self.path}, line 1"))

    def check(self) -> None:
        media, prompt = self.found
        with self.path.open(encoding="utf-8", newline="\n") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                where = f"{self.path}, line {number}"
                row = _object(line, where)
                for name, types in ((media, (str, dict)), (prompt, (str,))):
                    if name is not None and not isinstance(row.get(name), types):
                        problem = f"{name} is {row[name]!r}" if name in row else f"has no field {name!r}"
                        raise RewardError(f'{where}: {problem}; each line is such as {{"{media}": …, "prompt": …}}')


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise RewardError(f"{where}: {error}; each line is a JSON object") from error
    if not isinstance(row, dict):
        raise RewardError(f"{where}: {row!r} is not an object; each line is a JSON object")
    return row


class Csv(_TextTable):
    """Comma-separated text with the columns' names in its first line."""

    def rows(self) -> Iterator[dict[str, Any]]:
        with self.path.open(encoding="utf-8-sig", newline="") as file:
            yield from csv.DictReader(file, strict=True)

    @cached_property
    def names(self) -> list[str]:
        with self.path.open(encoding="utf-8-sig", newline="") as file:
            return next(csv.reader(file, strict=True), [])


class Parquet(_Table):
    """One parquet file; row groups that hold no wanted chunk are not read."""

    BUFFER: ClassVar[int] = 1 << 20  # bytes read ahead; without it, a row group's column is read whole

    @cached_property
    def names(self) -> list[str]:
        return pq.read_schema(self.path).names

    @cached_property
    def _count(self) -> int:
        return pq.read_metadata(self.path).num_rows

    @cached_property
    def _digest(self) -> str:
        """Over the file's size and its footer, which holds where each column lies and what its lowest and highest values are."""
        with self.path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(size - 8)
            footer = int.from_bytes(file.read(4), "little")
            file.seek(size - 8 - footer)
            return hashlib.sha256(self.columns.words().encode() + f"{size}".encode() + file.read(footer)).hexdigest()

    def chunks(self, size: int, wanted: Wanted = every) -> Iterator[tuple[int, list[Item]]]:
        columns = [name for name in self.found if name is not None]
        items: list[Item] = []  # of the chunk that is being read
        with named(str(self.path)), pq.ParquetFile(self.path, buffer_size=self.BUFFER) as file:
            end = 0
            for group in range(file.num_row_groups):
                start, end = end, end + file.metadata.row_group(group).num_rows
                if start == end or not any(map(wanted, range(start // size, (end - 1) // size + 1))):
                    continue
                at = start
                for batch in file.iter_batches(batch_size=size, row_groups=[group], columns=columns):
                    while batch.num_rows:
                        number = at // size
                        piece = batch.slice(0, (number + 1) * size - at)
                        batch, at = batch.slice(piece.num_rows), at + piece.num_rows
                        if not wanted(number):
                            continue
                        items += map(self.item, piece.to_pylist())
                        if at == min((number + 1) * size, file.metadata.num_rows):
                            yield number, items
                            items = []


@dataclass(frozen=True)
class DataSet(_Table):
    """A split of a data set of the `datasets` library, which keeps it on disk and maps it into memory."""

    split: str | None
    revision: str | None

    @property
    def folder(self) -> Path:
        return Path(self.path) if Path(self.path).is_dir() else Path()

    @cached_property
    def data(self) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # from the library's own imports
            import datasets
        saved = [(self.folder / name).is_file() for name in ("dataset_info.json", "dataset_dict.json")]
        if Path(self.path).is_dir() and any(saved):
            if self.revision is not None:
                raise RewardError(f"--revision {self.revision}: {self.path} is a folder and has none; leave it out")
            if self.split is not None and saved[0]:
                raise RewardError(f"--split {self.split}: {self.path} holds a data set without splits; leave it out")
            data = datasets.load_from_disk(self.path)
            data = data[self.split or "train"] if isinstance(data, datasets.DatasetDict) else data
        else:
            data = datasets.load_dataset(self.path, split=self.split or "train", revision=self.revision)
        assert isinstance(data, datasets.Dataset)
        for name, feature in data.features.items():
            if isinstance(feature, (datasets.Image, datasets.Video)):
                data = data.cast_column(name, type(feature)(decode=False))
        return data

    @cached_property
    def names(self) -> list[str]:
        return self.data.column_names

    @cached_property
    def _count(self) -> int:
        return len(self.data)

    @cached_property
    def _digest(self) -> str:
        """The library's own, which follows its files and what was done to them."""
        return hashlib.sha256(f"{self.columns.words()}{self.data._fingerprint}".encode()).hexdigest()

    def chunks(self, size: int, wanted: Wanted = every) -> Iterator[tuple[int, list[Item]]]:
        rows = self.data.select_columns([name for name in self.found if name is not None])
        for number in filter(wanted, range(-(-len(rows) // size))):
            columns = rows[number * size : (number + 1) * size]
            yield (
                number,
                [self.item(dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)],
            )

    def __getstate__(self) -> dict[str, Any]:
        """Another process opens the data set for itself."""
        return {name: getattr(self, name) for name in ("path", "columns", "split", "revision")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
