"""A cluster in this process: workers that are given portions in any order; and what runs on clusters must leave behind."""

import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from mpo import MpoError
from mpo.clusters.engine import Engine, portions_of
from mpo.clusters.worker import StageWorker, named
from mpo.recipe import read_recipe
from mpo.run_folder.paths import RunFolder
from mpo.runtime.pieces import Advance, Piece, Work
from mpo.stages.train import train
from tests.helpers.runs import files_of, log_of, lora_of, trainable

OF_ENGINES = {".driver"}


class WorkOf(Work[int]):
    """Pieces that nobody does."""

    description = "work"

    def __init__(self, pieces: Sequence[Piece[int]]):
        self.pieces = pieces

    def load(self) -> None:
        raise AssertionError("not to be done")

    def is_done(self, piece: Piece[int]) -> bool:
        return False

    def do(self, held: Any, piece: Piece[int], advance: Advance) -> None:
        raise AssertionError("not to be done")

    def words(self, piece: Piece[int]) -> list[str]:
        return [str(piece.content)]


class ShuffledEngine(Engine):
    """Gives portions to workers at random."""

    def __init__(self, num_workers: int, seed: int):
        super().__init__(num_workers, 1)
        self._random = random.Random(seed)
        self.workers: list[StageWorker] = []

    def describe(self) -> str:
        return "a test"

    def do(self, run: RunFolder, stage: str, nth: int, work: Work, missing: Sequence[int]) -> None:
        portions = portions_of(work, missing, self.num_workers)
        self._random.shuffle(portions)
        for portion in portions:
            self._accept(self._random.choice(self._workers(run)).do(stage, nth, named(work, portion)))

    def run_whole(
        self, run: RunFolder, stage: str, num_processes: int, watch: Callable[[Callable[[], bool]], None]
    ) -> None:
        self._accept(self._workers(run)[0].run(stage))
        watch(lambda: True)

    def _workers(self, run: RunFolder) -> list[StageWorker]:
        if not self.workers:
            self.workers = [StageWorker(str(run.folder), str(Path.cwd())) for _ in range(self.num_workers)]
            for worker in self.workers:
                self._accept(worker.look(self.mark(run)))
        return self.workers

    def _accept(self, words: str) -> None:
        if words:
            raise MpoError(words)


def undone(finished: Path, folder: Path, stages: Sequence[str]) -> RunFolder:
    """A copy of a finished run in which these stages have done nothing yet, nor any later one."""
    from mpo.dependencies import redo

    shutil.copytree(finished, folder, ignore=shutil.ignore_patterns(".*"))
    run = RunFolder(folder)
    redo(run, read_recipe(run.recipe), stages[0])
    (run.redo).unlink()
    return run


def runs_to_train(finished: Path, folder: Path, fields: dict) -> tuple[RunFolder, RunFolder, RunFolder]:
    """Encoded runs: one whose batch two processes cannot share, one that this process has trained, and the same untrained."""
    fields["train"] |= {"batch_size": 2, "num_steps": 2}
    refused = trainable(finished, folder / "refused", fields)
    fields["train"] |= {"batch_size": 4, "micro_batch_size": 1, "num_steps": 4}
    alone, two = (trainable(finished, folder / name, fields) for name in ("alone", "two"))
    train(alone.folder)
    return refused, alone, two


def files_without_training(run: Path) -> dict[str, bytes]:
    """All that a run's processes leave behind, but for what training decides, and its own marks."""
    return {name: data for name, data in files_of(run).items() if name not in OF_ENGINES}


def is_as_trained_alone(run: RunFolder, alone: RunFolder) -> None:
    """Asserts that several processes have trained what one has, but for rounding."""
    step = len(log_of(alone))
    one, other = lora_of(alone, step), lora_of(run, step)
    assert (one - other).norm() < 2e-2 * one.norm()
    for ours, theirs in zip(log_of(alone), log_of(run), strict=True):
        assert theirs["loss"] == pytest.approx(ours["loss"], rel=5e-3, abs=2e-3)
    assert run.trained.read_bytes() == alone.trained.read_bytes()
    assert not [
        path.name for path in run.folder.iterdir() if path.name in (".ray", ".said", ".failed", ".jobs", ".slurm")
    ]
