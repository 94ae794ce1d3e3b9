"""What a worker of a cluster does: pieces of a run's stages, by name, or a whole stage."""

import importlib
import os
import socket
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mpo import MpoError
from mpo.run_folder.files import write_text
from mpo.runtime.pieces import Work, Worker
from reward.errors import RewardError

Named = tuple[int, str]  # a piece: its place among its work's, and its name
MARK = ".driver"  # in the run's folder: which driver deals out its work
SEEN_S = 10.0  # how long a worker looks for it
SAID = ".said"  # in the run's folder: what a user can put right, by a process of a group
FAILED = ".failed"  # beside it, in one line: the first error of another kind


def stage_module(stage: str) -> Any:
    """Imported late: most import torch and diffusers."""
    return importlib.import_module(f"mpo.stages.{stage.replace('-', '_')}")


def whole_stage(stage: str) -> Callable[..., None]:
    return getattr(stage_module(stage), stage.replace("-", "_"))


def works_of(stage: str, folder: Path) -> Iterator[Work]:
    """A stage's works, one after the other: the pieces of each may need those before it."""
    return stage_module(stage).work(folder)


def named(work: Work, places: Sequence[int]) -> list[Named]:
    return [(place, work.name(work.pieces[place])) for place in places]


class StageWorker:
    """Holds a pipeline or a judge between pieces. Lives on a cluster's machine, which must see the run's folder.

    Its methods return "", or in one line what a user can put right: libraries wrap errors differently.
    """

    def __init__(self, folder: str, working_folder: str):
        self._folder = Path(folder)
        self._working_folder = working_folder
        self._works: dict[str, list[Work]] = {}
        self._open: tuple[str, int] | None = None  # the stage, and which of its works, that `_worker` is for
        self._worker: Worker | None = None

    def look(self, mark: str) -> str:
        """Whether this machine sees the run's folder as the driver does, which has written `mark` there."""
        until_s = time.monotonic() + SEEN_S
        while _read(self._folder / MARK) != mark:
            if time.monotonic() > until_s:
                return f"{socket.gethostname()} does not see {self._folder} as the machine does where mpo was started; put --output on a disk that all share, under the same path"
            time.sleep(0.2)
        if not Path(self._working_folder).is_dir():
            return f"{socket.gethostname()} has no folder {self._working_folder}, where mpo was started; start it in a folder that all machines share"
        os.chdir(self._working_folder)  # a recipe's paths may be relative
        return ""

    def do(self, stage: str, nth: int, portion: Sequence[Named]) -> str:
        """Do those of the pieces of a stage's N-th work, counted from 0, that are missing."""
        return in_words(lambda: self._do(stage, nth, portion))

    def _do(self, stage: str, nth: int, portion: Sequence[Named]) -> None:
        if self._open != (stage, nth):
            self._close()
            works = self._works.setdefault(stage, [])
            if len(works) <= nth:
                works[:] = works_of(stage, self._folder)
            self._open, self._worker = (stage, nth), Worker(works[nth])
        assert self._worker is not None
        work = self._worker.work
        if any(place >= len(work.pieces) or work.name(work.pieces[place]) != name for place, name in portion):
            raise MpoError(
                f"stage {stage}: {socket.gethostname()} knows of other work than the machine that deals it out; give both the same mpo, model and prompts"
            )
        for place, _ in portion:
            piece = work.pieces[place]
            if not work.is_done(piece):
                self._worker.do(piece, _nothing)

    def _close(self) -> None:
        """So that the memory is free before something else is loaded."""
        if self._worker is not None:
            self._worker.close()
        self._open = self._worker = None

    def run(self, stage: str) -> str:
        """A whole stage."""
        self._close()
        return in_words(lambda: whole_stage(stage)(self._folder))


def run_in_group(folder: str, working_folder: str, mark: str, stage: str) -> None:
    """A whole stage, in one of several processes that wait for each other.

    Raises MpoError for what a user can put right, and whatever else the stage does. SAID or FAILED then holds it, too:
    only the end of this process tells the others, and the driver may hear of theirs first.
    """
    worker = StageWorker(folder, working_folder)
    try:
        words = worker.look(mark) or worker.run(stage)
    except Exception as error:
        if not Path(folder, FAILED).exists():  # else this one may only have missed the first that failed
            _leave(Path(folder, FAILED), traceback.format_exception_only(error)[0].splitlines()[0])
        raise
    if words:
        _leave(Path(folder, SAID), words)
        raise MpoError(words)


def _leave(file: Path, words: str) -> None:
    with suppress(OSError, MpoError):  # such as a full disk, which the words may be about
        write_text(file, words)


def in_words(act: Callable[[], None]) -> str:
    """What a user can put right, in one line; "" = all went well."""
    try:
        act()
    except (MpoError, RewardError) as error:
        return str(error)
    return ""


def _read(file: Path) -> str | None:
    try:
        return file.read_text("utf-8")
    except OSError:
        return None


def _nothing(count: int) -> None:
    pass
