"""Work that is cut into pieces, which any worker may do in any order and on any machine.

The contract: a piece is named by what it is made from, needs no other piece of its work, and its files are written whole or
not at all, with bytes that depend on nothing but that content. So a stage is a list of pieces, those of them done that
are missing, and what is gathered from all. One process, the processes of a launch (`do_stage`) and a cluster's workers
(`mpo.clusters`) differ only in who does which.
"""

import hashlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from mpo import MpoError
from mpo.runtime.freeing import before_loading, free_dropped
from mpo.runtime.lazily import Lazily
from mpo.runtime.processes import all_reduce_max, barrier, is_main, num_processes, shard_of_rank
from mpo.runtime.progress import track

Advance = Callable[[int], object]  # told how many items more are done

# Over a network's file system, a file that another machine has written may be seen late: NFS keeps for up to a minute
# that a name was not there (nfs(5), acdirmax).
SEEN_LATE_S = 90.0


Content = TypeVar("Content")


@dataclass(frozen=True)
class Piece(Generic[Content]):
    """The smallest part of a work that is done at once, such as the pictures of one batch."""

    content: Content  # as its work knows it
    num_items: int
    files: tuple[Path, ...]  # that it writes


class Work(ABC, Generic[Content]):
    """Pieces that need the same thing to be held in memory, such as a pipeline or a judge."""

    description: str  # for a progress bar
    pieces: Sequence[Piece[Content]]  # the same, in the same order, in every process; best made when asked for

    @abstractmethod
    def load(self) -> Any:
        """What a worker holds between pieces."""

    @abstractmethod
    def is_done(self, piece: Piece[Content]) -> bool:
        """Whether a piece's files are there, whole, and made from its content; False where only `do` can tell."""

    @abstractmethod
    def do(self, held: Any, piece: Piece[Content], advance: Advance) -> None:
        """Write what is missing of a piece. held: what `load` gave."""

    @abstractmethod
    def words(self, piece: Piece[Content]) -> Iterable[str]:
        """What a piece is made from."""

    def name(self, piece: Piece[Content]) -> str:
        """Of a piece, by its content: equal in two processes only if both would make the same of it."""
        return hashlib.sha256("\0".join(self.words(piece)).encode()).hexdigest()


class Worker:
    """Does pieces of one work, and holds between them what they need."""

    def __init__(self, work: Work):
        self.work = work
        self._held: Any = None

    def do(self, piece: Piece, advance: Advance) -> None:
        """Do one piece, missing or not. Loads what it needs at the first."""
        if self._held is None:
            before_loading()
            self._held = self.work.load()
        self.work.do(self._held, piece, advance)

    def close(self) -> None:
        """Free what it holds, before something else is loaded."""
        if self._held is not None:
            self._held = None
            free_dropped()


def missing_pieces(work: Work, pieces: Sequence[Piece] | None = None) -> Sequence[Piece]:
    """Those that are not known to be done, in order; only their places are kept. pieces: some of the work's; None = all."""
    among = work.pieces if pieces is None else pieces
    places = missing_places(work, among)
    return Lazily(len(places), lambda k: among[places[k]])


def missing_places(work: Work, pieces: Sequence[Piece]) -> list[int]:
    """Where those that are not known to be done are among some pieces of a work."""
    return [place for place, piece in enumerate(pieces) if not work.is_done(piece)]


def do_share(work: Work, *, lockstep: bool = False) -> None:
    """Do this process's share of the missing pieces; returns when all processes are done. A single process does all.

    lockstep: all processes do equally many, as they must if each forward gathers weights from all.
    """
    mine = missing_pieces(work, shard_of_rank(work.pieces))
    # In lockstep, a process with less to do does a piece again, which keeps its files.
    again = all_reduce_max(len(mine)) - len(mine) if lockstep else 0
    worker = Worker(work)
    with track(work.description, total=sum(piece.num_items for piece in mine)) as advance:
        for piece in mine:
            worker.do(piece, advance)
        for _ in range(again):
            worker.do(work.pieces[0], lambda count: None)
    worker.close()
    barrier()
    if num_processes() > 1 and is_main():
        wait_until_seen(work)


def do_stage(works: Iterable[Work], gather: Callable[[], object]) -> None:
    """A stage in these processes: each does its share of every work, then one of them gathers."""
    for work in works:
        do_share(work)
    if is_main():
        gather()


def wait_until_seen(work: Work, patience_s: float = SEEN_LATE_S) -> None:
    """Wait for the files of a work whose workers have said that they are done.

    Raises MpoError for one that does not appear.
    """
    until_s = time.monotonic() + patience_s
    for piece in work.pieces:
        # Some are known to be done by other files, such as pictures whose record was never written.
        while not all(file.exists() for file in piece.files) and not work.is_done(piece):
            if time.monotonic() > until_s:
                file = next(file for file in piece.files if not file.exists())
                raise MpoError(
                    f"{work.description}: {file} was written, but is not to be seen from here; all machines must see the same folder"
                )
            time.sleep(0.5)
