"""What a worker of a cluster does: pieces of a run's stages, by name, or a whole stage."""

import importlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mpo import MpoError
from mpo.runtime.pieces import Piece, Work, Worker
from reward.errors import RewardError

MARK = ".driver"  # in the run's folder: which driver deals out its work
SEEN_S = 10.0  # how long a worker looks for it


def stage_module(stage: str) -> Any:
    """Imported late: most import torch and diffusers."""
    return importlib.import_module(f"mpo.stages.{stage.replace('-', '_')}")


def whole_stage(stage: str) -> Callable[..., None]:
    return getattr(stage_module(stage), stage.replace("-", "_"))


def works_of(stage: str, folder: Path) -> Iterator[Work]:
    """A stage's works, one after the other: the pieces of each may need those before it."""
    return stage_module(stage).work(folder)


class StageWorker:
    """Holds a pipeline or a judge between pieces. Lives on a cluster's machine, which must see the run's folder.

    Its methods return "", or in one line what a user can put right: libraries wrap errors differently.
    """

    def __init__(self, folder: str, working_folder: str):
        self._folder = Path(folder)
        self._working_folder = working_folder
        self._works: dict[str, list[Work]] = {}
        self._open: tuple[str, int] | None = None  # the stage, and the place of its work, that `_worker` is for
        self._worker: Worker | None = None
        self._pieces: dict[str, Piece] = {}

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

    def do(self, stage: str, place: int, names: Sequence[str]) -> str:
        """Do those of the named pieces that are missing. place: of their work among the stage's."""
        return in_words(lambda: self._do(stage, place, names))

    def _do(self, stage: str, place: int, names: Sequence[str]) -> None:
        if self._open != (stage, place):
            self._worker = None  # so that the memory is free before something else is loaded
            works = self._works.setdefault(stage, [])
            if len(works) <= place:
                works[:] = works_of(stage, self._folder)
            work = works[place]
            self._pieces = {work.name(piece): piece for piece in work.pieces}
            self._open, self._worker = (stage, place), Worker(work)
        assert self._worker is not None
        if not set(names) <= self._pieces.keys():
            raise MpoError(
                f"stage {stage}: {socket.gethostname()} knows of other work than the machine that deals it out; give both the same mpo, model and prompts"
            )
        for piece in map(self._pieces.__getitem__, names):
            if not self._worker.work.is_done(piece):
                self._worker.do(piece, _nothing)

    def run(self, stage: str) -> str:
        """A whole stage."""
        self._open = self._worker = None
        return in_words(lambda: whole_stage(stage)(self._folder))


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
