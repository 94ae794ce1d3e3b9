"""The run directory: atomic writes, parquet tables, the event log.

A file that exists is whole: everything is written beside its place and then renamed into it. So a stage that
was killed does again only what is missing, and what it does comes out the same.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mpo import MpoError

LORA_WEIGHTS = "pytorch_lora_weights.safetensors"  # as diffusers names them


class Run:
    """Names of everything in a run directory."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.recipe = self.folder / "recipe.yaml"
        self.prompts = self.folder / "prompts.parquet"  # prompt_id, prompt
        self.heldout_prompts = self.folder / "heldout_prompts.parquet"  # the same
        self.validation_prompts = self.folder / "validation_prompts.parquet"  # the same, where the recipe validates
        self.candidates = self.folder / "candidates"  # PNG
        self.candidates_table = self.folder / "candidates.parquet"  # candidate_id, prompt_id, seed, file, sha256
        self.preferences = self.folder / "preferences.parquet"  # chosen_id, rejected_id, where the recipe brings pairs
        self.gathered = self.folder / "gathered.jsonl"  # what stage gather has read of them
        self.scores = self.folder / "scores.parquet"  # candidate_id, p_yes, answers, dimensions, total
        self.pairs = (
            self.folder / "pairs.parquet"
        )  # pair_id, prompt_id, chosen_id, rejected_id, margin, dimension_margins
        self.selection = self.folder / "selection.json"  # counts by strategy
        self.encoded = self.folder / "encoded"  # latents and prompt embeddings, safetensors
        self.checkpoints = self.folder / "checkpoints"
        self.training_log = self.folder / "training.jsonl"  # metrics, one step a line
        self.validation = self.folder / "validation"  # PNG, a folder for each validated step
        self.validation_log = self.folder / "validation.jsonl"  # mean scores, one validated step a line
        self.trained = self.folder / "trained.json"  # which step is the result, and why training ended there
        self.trackers = self.folder / "trackers"
        self.lora = self.folder / "lora"
        self.lora_weights = self.lora / LORA_WEIGHTS
        self.evaluation = self.folder / "evaluation"
        self.samples = self.evaluation / "samples"
        self.evaluation_table = self.evaluation / "evaluation.parquet"
        self.summary = self.evaluation / "summary.json"
        self.report = self.evaluation / "report.html"
        self.log = self.folder / "log.jsonl"

    def log_event(self, event: str, **fields: Any) -> None:
        """Append one line to log.jsonl."""
        line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "event": event, **fields})
        with self.log.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder that takes the place of `path` when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        if temporary.is_dir():
            if path.exists():
                shutil.rmtree(path)
        else:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Records of a log, a line of JSON each; half a line, as a killed run may leave at the end, is left out."""
    lines = path.read_text("utf-8").splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    write_text(path, "".join(json.dumps(record) + "\n" for record in records))


def write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, "utf-8")


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2) + "\n")


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
    """As `write_table`, of columns that come in pieces, for tables larger than memory."""
    schema = schema.with_metadata(dict(metadata or {}))
    with replacing(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for columns in batches:
            arrays = [columns[name] for name in schema.names]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def read_table(path: Path, *, made_by: str, columns: Sequence[str] | None = None) -> pa.Table:
    """A stage's table; columns: None = all.

    Raises MpoError naming the stage to run where it is missing, or if it cannot be read.
    """
    if not path.is_file():
        raise MpoError(f"{path} is missing; run `mpo {made_by} {path.parent}` first")
    try:
        return pq.read_table(path, columns=list(columns) if columns else None)
    except (pa.ArrowInvalid, OSError) as error:
        raise MpoError(
            f"{path} cannot be read ({' '.join(str(error).split())}); delete it and run `mpo {made_by} {path.parent}` again"
        ) from None


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
