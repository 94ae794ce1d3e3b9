"""Votes as they are stored: RUN/votes/QUESTION/RATER.jsonl, a line a vote; lines are added and never changed.

A line is also one that `reward fit` and `reward agree` read: prompt, a (the sample on the left), b (on the right), preferred. A vote
that was corrected stays where it is; the later line names it in `replaces`.
"""

import getpass
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from mpo import MpoError
from mpo.run_folder.lock import named_if_unwritable
from mpo.run_folder.paths import RunFolder
from mpo.votes.pairs import OVERALL, Evaluation, Model, Pair

Choice = Literal["left", "right", "tie", "both_bad"]
CHOICES: tuple[Choice, ...] = get_args(Choice)
PREFERRED: dict[Choice, str] = {"left": "a", "right": "b", "tie": "tie", "both_bad": "tie"}
TIMEOUT_S = 30  # for another process that is writing a vote


@dataclass(frozen=True)
class Vote:
    """One answer of one rater."""

    id: str
    time: str  # when it was cast, in UTC, as 2026-01-31T12:00:00Z
    rater: str
    question: str  # "overall" or a dimension
    pair: str  # the pair's id, which changes with its samples
    prompt_id: int
    prompt: str
    seed: int  # of both samples
    a: str  # the sample on the left, relative to the folder of the file
    b: str
    a_sha256: str
    b_sha256: str
    left: Model  # whose sample was on the left
    choice: Choice
    repeat: bool  # whether the rater had been shown the pair before
    seconds: float | None  # how long it took; None = not known
    replaces: str | None = None  # id of the vote that this one corrects

    @property
    def preferred(self) -> str:
        """As `reward fit` reads it: "a", "b" or "tie"."""
        return PREFERRED[self.choice]

    @property
    def winner(self) -> Model | None:
        """None = a tie, or both bad."""
        if self.preferred == "tie":
            return None
        return self.left if self.choice == "left" else ("tuned" if self.left == "base" else "base")

    @property
    def outcome(self) -> float:
        """1 where tuned wins, 1/2 at a tie, 0 where base wins."""
        return {"tuned": 1.0, None: 0.5, "base": 0.0}[self.winner]

    @property
    def line(self) -> dict[str, Any]:
        """What is stored."""
        about = {} if self.question == OVERALL else {"dimensions": {self.question: self.preferred}}
        corrects = {} if self.replaces is None else {"replaces": self.replaces}
        fields = {name: value for name, value in asdict(self).items() if name != "replaces"}
        return {**fields, **corrects, "preferred": self.preferred, **about}


_LINE = TypeAdapter(Vote)


def checked_rater(name: str) -> str:
    """A name that can be that of a file. Raises MpoError."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        raise MpoError(
            f"rater {name!r} is no name of 1 to 64 letters, digits, dashes and underscores; give such a name with --rater"
        )
    return name


def account_rater() -> str:
    """The account's name with dashes for what a rater's name may not hold; "rater" for an account without a name."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # as in a container, whose user is a number
        name = ""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:64] or "rater"


def votes_file(run: RunFolder, question: str, rater: str) -> Path:
    return run.votes / question / f"{checked_rater(rater)}.jsonl"


def make_vote(
    pair: Pair, *, id: str, time: str, rater: str, question: str, left: Model, choice: Choice, repeat: bool,
    seconds: float | None, replaces: str | None = None,
) -> Vote:  # fmt: skip
    """A vote about this pair, with the paths and digests of its samples."""
    right: Model = "tuned" if left == "base" else "base"
    a, b = (f"../../evaluation/samples/{model}/{pair.file(model).name}" for model in (left, right))
    return Vote(
        id=id, time=time, rater=rater, question=question, pair=pair.id, prompt_id=pair.prompt_id, prompt=pair.prompt, seed=pair.seed,
        a=a, b=b, a_sha256=pair.sha256(left), b_sha256=pair.sha256(right), left=left, choice=choice, repeat=repeat, seconds=seconds,
        replaces=replaces,
    )  # fmt: skip


def read_votes(run: RunFolder) -> list[Vote]:
    """All votes that are stored, corrected ones too, by question and rater. Raises MpoError naming a damaged line."""
    return [vote for file in sorted(run.votes.glob("*/*.jsonl")) for vote in read_file(file)]


def read_file(file: Path) -> list[Vote]:
    """One rater's votes on one question; half a line at the end, of a process that was killed, is left out."""
    lines = file.read_bytes().split(b"\n") if file.exists() else []
    votes = []
    for number, line in enumerate(lines, 1):
        is_last = number == len(lines)  # what follows the last end of a line: nothing, or what a kill left
        if line.strip() and not (is_last and not _is_record(line)):
            votes.append(_parsed(line, f"{file}, line {number}"))
    return votes


def _is_record(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _parsed(line: bytes, where: str) -> Vote:
    try:
        vote = _LINE.validate_json(line, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the line"
        raise MpoError(
            f"{where}: {field}: {first['msg']}; correct the line, or move it out of the file if it is no vote"
        ) from None
    preferred = json.loads(line).get("preferred")
    if preferred != vote.preferred:
        raise MpoError(f"{where}: preferred={preferred!r}, but choice={vote.choice!r}; correct the line")
    return vote


def standing(votes: Iterable[Vote]) -> list[Vote]:
    """Votes that no later one replaces."""
    votes = list(votes)
    replaced = {vote.replaces for vote in votes}
    return [vote for vote in votes if vote.id not in replaced]


def of_evaluation(votes: Iterable[Vote], evaluation: Evaluation) -> list[Vote]:
    """Votes on pairs whose samples are still those that were judged."""
    ids = {pair.id for pair in evaluation.pairs}
    return [vote for vote in votes if vote.pair in ids]


class OpenFile:
    """One rater's votes on one question, held against other processes."""

    def __init__(self, file: Path):
        self._file = file
        self.votes = read_file(file)

    def append(self, *votes: Vote) -> None:
        """Add lines; they are on the disk when this returns. All or none, unless the process is killed meanwhile."""
        data = "".join(json.dumps(vote.line) + "\n" for vote in votes).encode()
        is_new = not self._file.exists()
        with named_if_unwritable(self._file):
            descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                end = _heal(descriptor)
                try:
                    written = 0
                    while written < len(data):
                        written += os.write(descriptor, data[written:])
                    os.fsync(descriptor)
                except OSError:
                    os.ftruncate(descriptor, end)
                    raise
            finally:
                os.close(descriptor)
            for folder in self._file.parents[:3] if is_new else ():  # up to the run: their names must be there, too
                _sync_folder(folder)
        self.votes += votes


def _heal(descriptor: int) -> int:
    """End a whole line that lacks its end; cut off half a line, which a process that was killed has left. Returns the size."""
    size = os.lseek(descriptor, 0, os.SEEK_END)
    kept = os.pread(descriptor, size, 0)
    tail = kept[kept.rfind(b"\n") + 1 :]
    if not tail:
        return size
    if _is_record(tail):
        os.write(descriptor, b"\n")
        return size + 1
    os.ftruncate(descriptor, size - len(tail))
    return size - len(tail)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def opened(run: RunFolder, question: str, rater: str) -> Iterator[OpenFile]:
    """Hold a rater's votes on a question, to read and to add; other processes and threads wait.

    Raises MpoError if another holds them for TIMEOUT_S seconds, or if the folder cannot be written.
    """
    file = votes_file(run, question, rater)
    with named_if_unwritable(run.votes):
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file.with_name(f".{file.name}.lock"))
        try:
            lock.acquire(timeout=TIMEOUT_S)
        except Timeout:
            raise MpoError(
                f"{file} has been in use by another process for {TIMEOUT_S} s; close it, and try again"
            ) from None
    try:
        yield OpenFile(file)
    finally:
        lock.release()
