"""Rows of tables from anywhere: JSON lines, CSV, parquet, a folder of `datasets`, the hub."""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mpo import MpoError

READERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}


def read_rows(
    path: str, *, split: str | None, revision: str | None, columns: Sequence[str], field: str
) -> Iterator[dict[str, Any]]:
    """Rows with these columns, one after another; from the hub as a stream, so that a few can be had of a huge set.

    Pictures stay as they are stored: {"bytes", "path"}. Raises MpoError naming field, path and remedy.
    """
    data = _open(path, split=split, revision=revision, field=field)
    names = data.column_names or list(next(iter(data), dict.fromkeys(columns)))  # a text's are known from its first row
    missing = [name for name in columns if name not in names]
    if missing:
        raise MpoError(f"{field}={path!r} has no column {missing[0]!r}; it has: {', '.join(names)}")
    return iter(_undecoded(data.select_columns(list(columns))))


def _open(path: str, *, split: str | None, revision: str | None, field: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the library's own imports
        import datasets
    file = Path(path)
    datasets.disable_progress_bars()
    try:
        if file.suffix in READERS:
            if not file.is_file():
                raise FileNotFoundError("no such file")
            return datasets.load_dataset(READERS[file.suffix], data_files=str(file), split="train", streaming=True)
        if (file / "dataset_info.json").is_file() or (file / "dataset_dict.json").is_file():  # save_to_disk's
            data = datasets.load_from_disk(path)
            return data[split or "train"] if isinstance(data, datasets.DatasetDict) else data
        return datasets.load_dataset(path, split=split or "train", revision=revision, streaming=True)
    except (OSError, ValueError, KeyError, datasets.exceptions.DatasetGenerationError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise MpoError(
            f"{field}={path!r} cannot be read ({reason}); give a .txt, .jsonl, .csv or .parquet file, a folder of `datasets`, or a data set's hub id"
        ) from None


def _undecoded(data: Any) -> Any:
    import datasets

    for name, feature in (data.features or {}).items():
        if isinstance(feature, datasets.Image):
            data = data.cast_column(name, datasets.Image(decode=False))
    return data
