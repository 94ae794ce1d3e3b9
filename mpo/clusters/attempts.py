"""How often lost work is tried again: not for ever, and not what would end the same way; the end says why."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mpo import MpoError
from mpo.clusters.worker import FAILED
from mpo.run_folder.paths import RunFolder
from mpo.runtime.pieces import Work
from mpo.runtime.progress import say
from mpo.training.checkpoint_files import last_checkpoint

MAX_LOSSES = 3  # workers that one portion may cost, or attempts at a stage after the first
MAX_CHARACTERS = 300  # of an error that is quoted
NAMED = re.compile(r"[\w.]*(Error|Exception)\b: .")  # how Python ends a traceback
VARYING = re.compile(r"0x[0-9a-f]+|\d+")  # numbers of processes, addresses, bytes that are free


@dataclass(frozen=True)
class Setback:
    """Why an attempt at a stage has not ended well."""

    error: BaseException
    reason: str  # in one line
    is_loss: bool  # of a worker, which may not happen again; else the stage's own error


def one_line(error: object) -> str:
    """What an error says: its last line that names an exception, where its text holds a traceback, else its first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if NAMED.match(line)]
    own = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return (named[-1] if named else own)[:MAX_CHARACTERS]


def attempt_until_whole(run: RunFolder, stage: str, attempt: Callable[[], Setback | None], *, logs: str) -> None:
    """Try a stage, which continues from what is kept, until it ends well. attempt: None = it has. logs: where more is said.

    Raises MpoError, from the last error, after MAX_LOSSES + 1 attempts, or once an error of the stage's own has come
    back although no checkpoint was written since.
    """
    failed = run.folder / FAILED
    again = f"see {logs}; once that is put right, run the same command again, which continues from here"
    before: tuple[str, int] | None = None
    try:
        for nth in range(MAX_LOSSES + 1):
            failed.unlink(missing_ok=True)
            setback = attempt()
            if setback is None:
                return
            first = failed.read_text("utf-8") if failed.exists() else ""  # an error that others may have followed
            reason = first[:MAX_CHARACTERS] or setback.reason
            now = (VARYING.sub("", reason), last_checkpoint(run))
            if now == before and (first or not setback.is_loss):
                raise MpoError(f"{stage}: failed twice at the same place ({reason}); {again}") from setback.error
            if nth == MAX_LOSSES:
                raise MpoError(f"{stage}: failed {nth + 1} times, at last so: {reason}; {again}") from setback.error
            what = "a worker was lost" if setback.is_loss else "it failed"
            say(f"{stage}: {what} ({reason}); it continues from what is kept")
            before = now
    finally:
        failed.unlink(missing_ok=True)


class Losses:
    """How often workers were lost, over the same portion or one after the other, until it is too often."""

    def __init__(self, work: Work, num_workers: int):
        self._work = work
        self._most_in_a_row = MAX_LOSSES * num_workers  # a machine may take many with it
        self._in_a_row = 0
        self._by_portion = Counter[int]()

    def forget(self, portion: Sequence[int]) -> None:
        """A worker has answered. An empty portion: it has only come up."""
        self._in_a_row = 0 if portion else self._in_a_row

    def note(self, portion: Sequence[int], reason: str) -> None:
        """A worker was lost with this portion; empty = while it came up. Raises MpoError if that is once too often."""
        self._in_a_row += 1
        if portion:
            say(f"{self._work.description}: a worker was lost ({reason}); its work is given to another")
            self._by_portion[portion[0]] += 1
            if self._by_portion[portion[0]] >= MAX_LOSSES:
                first = self._work.pieces[portion[0]].files[0].name
                raise MpoError(
                    f"{self._work.description}: {MAX_LOSSES} workers were lost over the same work, which begins with {first}, at last so: {reason}; see Ray's logs, and give each more memory if that is why (--cluster memory_gb=…)"
                )
        if self._in_a_row > self._most_in_a_row:
            raise MpoError(
                f"{self._work.description}: {self._in_a_row} workers were lost in a row, at last so: {reason}; see Ray's logs for why they cannot live there"
            )
