"""What clusters share: which stages go where, how pieces are grouped, and what is shown of work elsewhere."""

import os
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mpo import MpoError
from mpo.clusters.jobs import stopped_by_signals
from mpo.clusters.worker import MARK, stage_module, whole_stage, works_of
from mpo.recipe import read_recipe
from mpo.run_folder.files import write_text
from mpo.run_folder.paths import RunFolder
from mpo.runtime.pieces import Work, missing_places, wait_until_seen
from mpo.runtime.progress import track

PORTION = 64  # items that a worker is given at once, at most but for a single larger piece
POLL_S = 1.0

IN_PIECES = ("generate", "score", "encode", "evaluate")
IN_A_WORKER = ("export",)  # it samples a few pictures for the card


class Engine(ABC):
    """Runs stages on a cluster. What one process does from files to files (select, report) stays in the driver."""

    def __init__(self, num_workers: int, num_trainers: int | None):
        self.num_workers = num_workers
        self.num_trainers = num_trainers or num_workers  # processes that train together
        self._mark = f"{socket.gethostname()} {os.getpid()} {time.time_ns()}"
        self._marked: set[Path] = set()

    @abstractmethod
    def describe(self) -> str:
        """The cluster in words, for the run's log."""

    @abstractmethod
    def do(self, run: RunFolder, stage: str, nth: int, work: Work, missing: Sequence[int]) -> None:
        """Do the pieces at these places of a stage's N-th work, counted from 0. Raises MpoError."""

    @abstractmethod
    def run_whole(
        self, run: RunFolder, stage: str, num_processes: int, watch: Callable[[Callable[[], bool]], None]
    ) -> None:
        """Run a stage in one process, or in several that form a group of torch's. watch(is_over) returns once it is over."""

    def stop_work(self) -> None:  # noqa: B027 - of most clusters, it ends with the driver
        """End what has been submitted and outlives the driver, without waiting for its end."""

    def close(self) -> None:
        """Give the cluster back."""
        self.stop_work()
        for folder in self._marked:
            (folder / MARK).unlink(missing_ok=True)

    def mark(self, run: RunFolder) -> str:
        """What a worker must find in a run's folder, to know that it sees the same one, and that this driver still owns it."""
        if run.folder not in self._marked:
            write_text(run.folder / MARK, self._mark)
            self._marked.add(run.folder)
        return self._mark

    def run_stage(self, folder: str | Path, stage: str) -> None:
        """Raises MpoError as the stage does, and for what the cluster cannot do; KeyboardInterrupt also for SIGTERM and SIGHUP."""
        with stopped_by_signals():
            try:
                self._run_stage(folder, stage)
            except BaseException:
                self.stop_work()
                raise

    def _run_stage(self, folder: str | Path, stage: str) -> None:
        run = RunFolder(Path(folder).absolute())
        if stage in IN_PIECES:
            for nth, work in enumerate(works_of(stage, run.folder)):
                missing = missing_places(work, work.pieces)
                if missing:
                    self.do(run, stage, nth, work, missing)
                wait_until_seen(work)
            stage_module(stage).gather(run.folder)
        elif stage == "train":
            self.run_whole(run, stage, self.num_trainers, lambda is_over: _watch_training(run, is_over))
        elif stage in IN_A_WORKER:
            self.run_whole(run, stage, 1, wait_for)
        else:
            whole_stage(stage)(folder)


def portions_of(work: Work, places: Sequence[int], num_workers: int) -> list[list[int]]:
    """Neighbouring pieces, about PORTION items together; fewer where some of the workers would otherwise get none."""
    largest = min(PORTION, -(-num_items(work, places) // num_workers))
    portions: list[list[int]] = []
    held = largest
    for place in places:
        size = work.pieces[place].num_items
        if held + size > largest:
            portions.append([])
            held = 0
        portions[-1].append(place)
        held += size
    return portions


def num_items(work: Work, places: Iterable[int]) -> int:
    return sum(work.pieces[place].num_items for place in places)


def wait_for(is_over: Callable[[], bool]) -> None:
    while not is_over():
        time.sleep(POLL_S)


def _watch_training(run: RunFolder, is_over: Callable[[], bool]) -> None:
    """A bar of the steps that another machine writes into training.jsonl."""

    def num_steps() -> int:
        return run.training_log.read_bytes().count(b"\n") if run.training_log.exists() else 0

    shown = num_steps()
    with track("train", total=read_recipe(run.recipe).train.num_steps, done=shown) as advance:
        while not is_over():
            time.sleep(POLL_S)
            now = num_steps()
            if now > shown:  # fewer, where it was continued from a checkpoint
                advance(now - shown)
                shown = now


def typed(options: Mapping[str, str], known: Mapping[str, Callable[[str], Any]], *, on: str) -> dict[str, Any]:
    """A cluster's options with their types. Raises MpoError for one that is not known, of another type, or no count."""
    found = {}
    for name, text in options.items():
        if name not in known:
            raise MpoError(f"--cluster {name}={text}: --on {on} has no {name!r}; it takes {', '.join(known)}")
        try:
            found[name] = known[name](text)
        except ValueError:
            raise MpoError(f"--cluster {name}={text}: {text!r} is no number; give one, such as 4") from None
        if isinstance(found[name], int | float):
            is_enough = found[name] >= 0 if name == "gpus" else found[name] > 0  # a whole run can do without GPUs
            if not is_enough or found[name] == float("inf"):
                least = 0 if name == "gpus" else 1
                raise MpoError(f"--cluster {name}={text}: give a count from {least} on, or leave it out")
    return found
