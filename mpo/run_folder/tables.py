"""Every table of a run folder: its schema, its writer and its reader."""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Shaped

from mpo import MpoError
from mpo.run_folder.files import replacing
from mpo.run_folder.paths import RunFolder
from mpo.runtime.lazily import Lazily

NEAR = 1000  # rows

PROMPTS = pa.schema([("prompt_id", pa.int64()), ("prompt", pa.string())])


CANDIDATES = pa.schema(
    [
        ("candidate_id", pa.int64()),
        ("prompt_id", pa.int64()),
        ("seed", pa.int64()),
        ("file", pa.string()),
        ("sha256", pa.string()),
        ("latents", pa.string()),  # a file's name, or null if only the picture or clip was kept
        ("latents_sha256", pa.string()),
    ]
)


PREFERENCES = pa.schema([("chosen_id", pa.int64()), ("rejected_id", pa.int64())])


SCORES = pa.schema(
    [
        ("candidate_id", pa.int64()),
        ("p_yes", pa.list_(pa.float64())),
        ("answers", pa.list_(pa.float64())),
        ("dimensions", pa.list_(pa.float64())),
        ("total", pa.float64()),
    ]
)


PAIRS = pa.schema(
    [
        ("pair_id", pa.int64()),
        ("prompt_id", pa.int64()),
        ("chosen_id", pa.int64()),
        ("rejected_id", pa.int64()),
        ("margin", pa.float64()),
        ("dimension_margins", pa.list_(pa.float64())),
    ]
)


# Files that a row of candidates names, each with its digest.
CANDIDATE_FILES = (("file", "sha256"), ("latents", "latents_sha256"))


EVALUATION = pa.schema(
    [
        ("prompt_id", pa.int64()),
        ("seed", pa.int64()),
        ("model", pa.string()),  # "base" or "tuned"
        ("file", pa.string()),
        ("p_yes", pa.list_(pa.float64())),
        ("dimensions", pa.list_(pa.float64())),
        ("total", pa.float64()),
    ]
)


def write_table(
    path: Path, columns: Mapping[str, Any], schema: pa.Schema, metadata: Mapping[str, str] | None = None
) -> None:
    """Columns -> parquet, the metadata in the schema. The same columns give the same bytes."""
    table = pa.table({name: pa.array(columns[name], schema.field(name).type) for name in schema.names}, schema=schema)
    with replacing(path) as temporary:
        pq.write_table(table.replace_schema_metadata(dict(metadata or {})), temporary, compression="zstd")


def write_batches(
    path: Path, batches: Iterable[Mapping[str, Any]], schema: pa.Schema, metadata: Mapping[str, str] | None = None
) -> None:
    """Like `write_table`, but columns come in pieces, for tables larger than memory."""
    schema = schema.with_metadata(dict(metadata or {}))
    with replacing(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for columns in batches:
            arrays = [columns[name] for name in schema.names]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def read_table(path: Path, *, made_by: str, columns: Sequence[str] | None = None) -> pa.Table:
    """A stage's table; columns: None = all.

    Raises MpoError naming the stage to run if the table is missing or cannot be read.
    """
    if not path.is_file():
        raise MpoError(f"{path} is missing; run `mpo {made_by} {path.parent}` first")
    try:
        return pq.read_table(path, columns=list(columns) if columns else None)
    except (pa.ArrowInvalid, OSError) as error:
        reason = " ".join(str(error).split())
        raise MpoError(
            f"{path} cannot be read ({reason}); `mpo status {path.parent}` shows the command that makes it again"
        ) from None


def lists_of(values: Shaped[np.ndarray, "N K"]) -> pa.Array:
    """Rows as lists of their K numbers."""
    rows, width = values.shape
    offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * width)
    return pa.ListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(values, dtype=np.float64).ravel()))


def numbers_of(lists: pa.ChunkedArray) -> Shaped[np.ndarray, "N K"]:
    """What `lists_of` has made: N rows, all of K numbers."""
    return np.concatenate([part.flatten().to_numpy().reshape(len(part), -1) for part in lists.chunks])


def rows_of(table: pa.Table) -> Sequence[dict[str, Any]]:
    """A table's rows, a thousand at a time as Python's records, which would take ten times the memory of the whole table.

    Quick for rows that are asked for one after the other, or near each other.
    """

    @lru_cache(maxsize=4)
    def near(block: int) -> list[dict[str, Any]]:
        return table.slice(block * NEAR, NEAR).to_pylist()

    return Lazily(len(table), lambda row: near(row // NEAR)[row % NEAR])


def take_rows(path: Path, rows: Sequence[int], *, made_by: str, columns: Sequence[str]) -> pa.Table:
    """Some rows of a stage's table, in rising order, of which only the parts that hold one are read. Raises as `read_table` does."""
    if not path.is_file():
        return read_table(path, made_by=made_by)
    wanted, parts, start = np.asarray(rows, dtype=np.int64), [], 0
    with pq.ParquetFile(path) as file:
        schema = pa.schema([file.schema_arrow.field(name) for name in columns], file.schema_arrow.metadata)
        for group in range(file.num_row_groups):
            end = start + file.metadata.row_group(group).num_rows
            low, high = np.searchsorted(wanted, [start, end])
            if high > low:
                parts.append(file.read_row_group(group, columns=list(columns)).take(wanted[low:high] - start))
            start = end
    return pa.concat_tables(parts) if parts else schema.empty_table()


def read_prompts_table(path: Path) -> list[str]:
    """A run's prompts of one kind; none if it has no such table."""
    return read_table(path, made_by="run")["prompt"].to_pylist() if path.exists() else []


def read_selection(run: RunFolder) -> dict:
    return json.loads(run.selection.read_text("utf-8"))
