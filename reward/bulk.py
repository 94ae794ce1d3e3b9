"""Scores of a table larger than memory, as a parquet file: kept in parts, so that a killed run continues where it was.

Items are scored in chunks of `CHUNK`, and each chunk is a file in a folder beside the output. Every process scores each N-th
chunk; the parts are then joined in order, so the output has the same bytes however many processes there were and however
often they were killed.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from reward.checklist import Checklist
from reward.errors import RewardError
from reward.files import replacing
from reward.processes import barrier, launched, run_workers, take_one_gpu, visible_gpus
from reward.progress import show_progress
from reward.reward import Reward
from reward.tables import Item, Source

CHUNK = 64  # items between two writes
ROW_GROUP = 4096  # rows held in memory when parts are joined
JOB = "job.json"
LOCK = ".lock"
OWN_COLUMNS = ("row", "file", "prompt", "p_yes", "total", "error")


@dataclass(frozen=True)
class Summary:
    """What became of a table."""

    num_items: int
    num_kept: int  # scored by an earlier run that was killed
    num_failed: int
    seconds: float  # of this run, loading the judge included

    def __str__(self) -> str:
        kept = f" ({self.num_kept} kept from an earlier run)" if self.num_kept else ""
        per_s = (self.num_items - self.num_kept) / max(self.seconds, 1e-9)
        return f"{self.num_items} items{kept} in {self.seconds:.1f} s, {per_s:.1f} items a second, {self.num_failed} failures"


@dataclass(frozen=True)
class Job:
    """What is scored, with what, and where the scores go. It can be sent to another process."""

    source: Source
    output: Path
    make_reward: Callable[[], Reward]  # called in the process that scores
    overwrite: bool = False

    @property
    def parts(self) -> Path:
        return self.output.with_name(f"{self.output.name}.parts")

    @cached_property
    def num_chunks(self) -> int:
        return -(-self.source.num_items // CHUNK)

    def part(self, number: int) -> Path:
        return self.parts / f"{number:09d}.parquet"

    def size(self, number: int) -> int:
        """How many items a chunk has."""
        return min(CHUNK, self.source.num_items - number * CHUNK)

    def kept(self) -> set[int]:
        """The chunks that are scored and whole."""
        return {number for number in range(self.num_chunks) if _num_rows(self.part(number)) == self.size(number)}


def score_table(
    source: Source,
    output: Path,
    make_reward: Callable[[], Reward],
    *,
    num_workers: int = 1,
    overwrite: bool = False,
    progress: bool = False,
) -> Summary | None:
    """Scores of all items in a parquet file, failed ones included.

    Columns: row (from 0), file, prompt, p_yes (a list, in the order of the questions), a score for each dimension, total,
    and error: why an item has no score; p_yes and the scores are null then, and elsewhere error is. The metadata holds the
    judge's and the checklist's fingerprint, the questions and dimensions.

    make_reward: of a module, so that it can be sent to the num_workers processes that are started. Of processes that
    `accelerate launch` or `torchrun` have started (RANK and WORLD_SIZE), each calls this function, and all but the first
    get None. Raises RewardError if the output, or what a killed run has left beside it, was made with another judge, checklist
    or table (`overwrite` replaces the output), and if another process is writing it. Pictures that a table names are
    expected not to change between a run and the one that continues it.
    """
    started = time.monotonic()
    job = Job(source, output, make_reward, overwrite)
    rank, num_launched = launched()
    with _locked(job) if rank == 0 else nullcontext():
        kept = job.kept()
        with _shown(job, kept, num_launched) if progress and rank == 0 else nullcontext(_nothing) as advance:
            if num_launched > 1:
                take_one_gpu(int(os.environ.get("LOCAL_RANK", rank)), visible_gpus())
                score_share(job, rank, num_launched, advance)
                barrier()
            elif num_workers > 1:
                run_workers(score_share, job, num_workers, advance)
            else:
                score_share(job, 0, 1, advance)
        if rank:
            return None
        is_new = (job.parts / JOB).exists()  # else the output was complete
        num_kept = sum(map(job.size, kept)) if is_new else source.num_items
        if is_new:
            _join(job)
            (job.parts / JOB).unlink()
    return Summary(source.num_items, num_kept, _num_failed(output), time.monotonic() - started)


def score_share(job: Job, rank: int, num_processes: int, advance: Callable[[int], object]) -> None:
    """Scores the chunks of one of N processes that no earlier run has left.

    advance: called with the number of items that were done. Raises RewardError as `score_table` does.
    """
    reward = job.make_reward()
    metadata = _metadata(job, reward)
    if _is_complete(job, metadata):
        return
    schema = _schema(reward.checklist, metadata)
    advance(0)  # a worker whose first process has been killed ends here, and writes nothing more
    _begin(job, metadata)
    kept = job.kept()
    for number, items in job.source.chunks(CHUNK, lambda k: k % num_processes == rank and k not in kept):
        columns = _score(reward, number * CHUNK, items, lambda: advance(1))
        advance(0)
        with replacing(job.part(number)) as temporary:
            pq.write_table(pa.table(columns, schema=schema), temporary, compression="zstd")


def _metadata(job: Job, reward: Reward) -> dict[str, str]:
    taken = sorted(set(reward.checklist.dimensions) & set(OWN_COLUMNS))
    if taken:
        raise RewardError(
            f"checklist {reward.checklist.name!r} has a dimension {taken[0]!r}, which --output needs for a column of its own; rename it"
        )
    judge = {"judge": reward.fingerprint}
    return judge | reward.checklist.metadata | {"table": job.source.fingerprint}


def _schema(checklist: Checklist, metadata: Mapping[str, str]) -> pa.Schema:
    columns = [("row", pa.int64()), ("file", pa.string()), ("prompt", pa.string()), ("p_yes", pa.list_(pa.float64()))]
    columns += [(name, pa.float64()) for name in checklist.dimensions]
    columns += [("total", pa.float64()), ("error", pa.string())]
    return pa.schema(columns, dict(metadata))


def _score(reward: Reward, first: int, items: list[Item], on_item: Callable[[], object]) -> dict[str, list[Any]]:
    """Columns of the parquet file, for items whose first is the table's row `first`."""
    media, prompts = [item.media for item in items], [item.prompt for item in items]
    scores = reward.score(media, prompts, on_error="record", on_item=on_item)

    def known(column: Any) -> list[Any]:
        return [None if i in scores.failures else value for i, value in enumerate(column.tolist())]

    return {
        "row": list(range(first, first + len(items))),
        "file": [item.file for item in items],
        "prompt": [prompt if isinstance(prompt, str) else None for prompt in prompts],
        "p_yes": known(scores.p_yes),
        **{name: known(column) for name, column in zip(reward.checklist.dimensions, scores.dimensions.T, strict=True)},
        "total": known(scores.total),
        "error": [scores.failures.get(i) for i in range(len(items))],
    }


def _begin(job: Job, metadata: Mapping[str, str]) -> None:
    """Notes what is scored. Raises RewardError if parts are there of something else."""
    file = job.parts / JOB
    if not file.exists():
        with replacing(file) as temporary:
            temporary.write_text(json.dumps(dict(metadata), indent=2) + "\n", "utf-8")
    _refuse_other(
        _read_job(file), metadata, f"{job.parts} holds parts of a run", "finish that one, or delete the folder"
    )


def _read_job(file: Path) -> dict[str, str]:
    try:
        return json.loads(file.read_bytes())
    except ValueError:
        raise RewardError(f"{file} is damaged; delete its folder, and all is scored again") from None


def _is_complete(job: Job, metadata: Mapping[str, str]) -> bool:
    """Whether the output is there already. Raises RewardError if it is something else."""
    if job.overwrite or not job.output.exists():
        return False
    try:
        found = pq.read_schema(job.output).metadata or {}
    except (OSError, pa.ArrowInvalid):
        found = {}
    made_of = {key.decode(): value.decode() for key, value in found.items()}
    _refuse_other(made_of, metadata, f"{job.output} exists and was made", "give another name, or --overwrite")
    return True


def _refuse_other(found: Mapping[str, str], metadata: Mapping[str, str], what: str, remedy: str) -> None:
    for name in ("judge", "checklist", "table"):
        if found.get(name) != metadata[name]:
            change = "" if name == "table" else f" ({found.get(name)}, now {metadata[name]})"
            raise RewardError(f"{what} with another {name}{change}; {remedy}")


def _join(job: Job) -> None:
    """The parts, in order, as one file."""
    schema = pq.read_schema(job.part(0))
    joined = job.parts / "joined.parquet"  # among the parts, so that nothing of a killed run is left
    with replacing(joined) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        per_group = ROW_GROUP // CHUNK
        for start in range(0, job.num_chunks, per_group):
            numbers = range(start, min(start + per_group, job.num_chunks))
            writer.write_table(pa.concat_tables(pq.read_table(job.part(number)) for number in numbers))
    os.replace(joined, job.output)


def _num_rows(part: Path) -> int | None:
    """None = absent or damaged."""
    try:
        return pq.read_metadata(part).num_rows
    except (OSError, pa.ArrowInvalid):
        return None


def _num_failed(output: Path) -> int:
    with pq.ParquetFile(output) as file:
        return sum(len(each) - each.column(0).null_count for each in file.iter_batches(columns=["error"]))


@contextmanager
def _locked(job: Job) -> Iterator[None]:
    """Holds the folder of parts, and deletes it at the end unless there is work to go on with.

    Raises RewardError if another process is writing the output. The system lets go when a process ends, however it ends.
    """
    job.parts.mkdir(parents=True, exist_ok=True)
    lock = FileLock(job.parts / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RewardError(f"{job.output} is being written by another process; wait for it, or stop it") from None
    try:
        yield
    finally:
        if not (job.parts / JOB).exists():
            shutil.rmtree(job.parts)
        lock.release()


def _shown(job: Job, kept: Collection[int], num_launched: int) -> AbstractContextManager[Callable[..., None]]:
    """Of launched processes the first shows its own share."""
    share = range(0, job.num_chunks, num_launched)
    return show_progress(sum(map(job.size, share)), done=sum(job.size(number) for number in share if number in kept))


def _nothing(count: int) -> None:
    pass
