"""What is scored, in order: named files, the files of a folder, or the rows of a table."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from reward.checklist import Kind
from reward.errors import RewardError
from reward.media import files_in, is_named_as
from reward.tables import (
    TABLES,
    Columns,
    Csv,
    DataSet,
    Item,
    JsonLines,
    Parquet,
    Source,
    Wanted,
    every,
    named,
    numbered,
)


def open_source(
    given: Sequence[str],
    kind: Kind,
    *,
    prompt: str = "",
    needs_prompts: bool = True,
    media_column: str | None = None,
    prompt_column: str | None = None,
    split: str | None = None,
    revision: str | None = None,
) -> Source:
    """What a command's arguments name: files and folders that all have one prompt, or a single table.

    media_column None = the first of `MEDIA_COLUMNS` that there is; prompt_column None = "prompt". Without `needs_prompts` a
    table may lack prompts, which are empty then. Raises RewardError, naming file, line or column, for what cannot be read.
    """
    is_table = len(given) == 1 and _is_table(given[0])
    if not is_table:
        for value, option in ((media_column, "media-column"), (prompt_column, "prompt-column"), (split, "split"), (revision, "revision")):  # fmt: skip
            if value is not None:
                raise RewardError(f"--{option} {value} is for a table or a data set, and files are given; leave it out")
        tables = [each for each in given if _is_table_file(each)]
        if tables:
            raise RewardError(f"{tables[0]} is a table, and other files are given with it; give one table, or files")
        paths = [Path(each) for each in given]
        found = [file for each in paths for file in (files_in(each, kind) if each.is_dir() else [each])]
        return Files(tuple(map(str, found)), prompt)
    columns = Columns(media_column, prompt_column, prompt, needs_prompts)
    path = given[0]
    if Path(path).suffix in TABLES and not Path(path).is_dir():
        for value, option in ((split, "split"), (revision, "revision")):
            if value is not None:
                raise RewardError(f"--{option} {value}: {path} is a file and has none; leave it out")
        table = {".jsonl": JsonLines, ".csv": Csv, ".parquet": Parquet}[Path(path).suffix](Path(path), columns)
    else:
        table = DataSet(path, columns, split, revision)
    with named(path):
        if not table.num_items:
            raise RewardError(f"{path} is empty; give a row for each item")
        table.check()
    return table


def _is_table_file(path: str) -> bool:
    return Path(path).suffix in TABLES and not Path(path).is_dir()


def _is_table(path: str) -> bool:
    folder = Path(path)
    if folder.is_dir():  # of pictures, unless it shows that it is a data set
        marks = ("dataset_info.json", "dataset_dict.json", "metadata.csv", "metadata.jsonl", "metadata.parquet")
        return any((folder / mark).is_file() for mark in marks) or any(folder.rglob("*.parquet"))
    is_hub_id = re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", path) is not None and not folder.exists()
    is_medium = is_named_as(folder, "image") or is_named_as(folder, "video")
    return _is_table_file(path) or (is_hub_id and not is_medium)


@dataclass(frozen=True)
class Files:
    """Files by name, with one prompt for all."""

    paths: tuple[str, ...]
    prompt: str

    @property
    def num_items(self) -> int:
        return len(self.paths)

    @property
    def fingerprint(self) -> str:
        sha = hashlib.sha256(self.prompt.encode())
        for path in self.paths:
            sha.update(f"\0{path}".encode())
        return sha.hexdigest()

    def chunks(self, size: int, wanted: Wanted = every) -> Iterator[tuple[int, list[Item]]]:
        for number, paths in numbered(self.paths, size, wanted):
            yield number, [Item(path, Path(path), self.prompt) for path in paths]
