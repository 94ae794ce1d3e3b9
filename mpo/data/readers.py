"""Rows of a table: from JSON lines, CSV, parquet, a folder of `datasets`, or a data set on the hub."""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from mpo import MpoError
from mpo.recipe import TABLE_FILES
from mpo.runtime.hub import OfflineError, is_hub_id, is_offline


def read_rows(
    path: str, *, split: str | None, revision: str | None, columns: Sequence[str], field: str
) -> Iterator[dict[str, Any]]:
    """Rows with these columns, in order. The hub's data sets are streamed, so that the first rows of a huge one come soon.

    Pictures and clips stay as they are stored: {"bytes", "path"}. Raises MpoError naming field, path and remedy; OfflineError if a
    data set of the hub is not in the cache and the hub cannot be reached.
    """
    file = Path(path)
    section = field.removesuffix(".path")
    if revision is not None and file.exists():
        raise MpoError(f"{section}.revision={revision!r}: {path!r} is on this machine and has no revisions; remove it")
    if split is not None and (file / "dataset_info.json").is_file():
        raise MpoError(f"{section}.split={split!r}: {path!r} holds a data set without splits; remove it")
    offline = file.suffix not in TABLE_FILES and is_hub_id(path) and is_offline()
    try:
        names, rows = (
            _read_file(file, columns) if file.suffix in TABLE_FILES else _read_set(path, split, revision, columns)
        )
    except (OSError, ValueError, KeyError) as error:
        if offline:
            raise OfflineError.of(field, path) from None
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise MpoError(
            f"{field}={path!r} cannot be read ({reason}); give a .txt, .jsonl, .csv or .parquet file, a folder of `datasets`, or a data set's hub id"
        ) from None
    missing = [name for name in columns if name not in names]
    if missing:
        raise MpoError(f"{field}={path!r} has no column {missing[0]!r}; it has: {', '.join(names)}")
    return rows


def _read_file(file: Path, columns: Sequence[str]) -> tuple[list[str], Iterator[dict[str, Any]]]:
    if not file.is_file():
        raise FileNotFoundError("no such file")
    if file.suffix == ".parquet":
        return pyarrow.parquet.read_schema(file).names, _read_parquet(file, columns)
    table: pa.Table = pyarrow.csv.read_csv(file) if file.suffix == ".csv" else pyarrow.json.read_json(file)
    return table.column_names, (row for batch in table.to_batches() for row in batch.to_pylist())


def _read_parquet(file: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    with pyarrow.parquet.ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(batch_size=64, columns=list(columns)):  # pictures are large
            yield from batch.to_pylist()


def _read_set(
    path: str, split: str | None, revision: str | None, columns: Sequence[str]
) -> tuple[list[str], Iterator[dict[str, Any]]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from the library's own imports
        import datasets
    folder = Path(path)
    if (folder / "dataset_info.json").is_file() or (folder / "dataset_dict.json").is_file():  # save_to_disk's
        data: Any = datasets.load_from_disk(path)
        data = data[split or "train"] if isinstance(data, datasets.DatasetDict) else data
    else:
        cached = is_hub_id(path) and is_offline()  # `datasets` keeps what it has loaded, but not what it has streamed
        data = datasets.load_dataset(path, split=split or "train", revision=revision, streaming=not cached)
    if data.column_names is None:  # a stream of texts: its first row shows them
        return list(next(iter(data), dict.fromkeys(columns))), iter(data)
    if not set(columns) <= set(data.column_names):
        return data.column_names, iter(())
    data = data.select_columns(list(columns))
    for name, feature in (data.features or {}).items():
        if isinstance(feature, (datasets.Image, datasets.Video)):
            data = data.cast_column(name, type(feature)(decode=False))
    return data.column_names, iter(data)
