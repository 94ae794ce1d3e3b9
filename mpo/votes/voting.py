"""Voting: the next pair to show, and what the rater chose.

For a page or any other way to ask people. Nothing is kept in memory between calls, so that several pages, or a page that is loaded again, go
on where the votes on the disk are.
"""

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mpo import MpoError
from mpo.run_folder.paths import RunFolder
from mpo.votes.ballots import Showing, order_of, remaining
from mpo.votes.pairs import open_evaluation
from mpo.votes.store import CHOICES, Vote, checked_rater, make_vote, opened, read_file, standing, votes_file


@dataclass(frozen=True)
class Ballot:
    """What a rater is to be shown. It says nothing about which model made what, but the files' paths do: show their content."""

    id: str  # for `cast`; letters, digits, dashes, underscores and dots
    question: str  # "overall" or a dimension
    rater: str
    prompt: str
    left: Path  # a picture (.png), or a clip (.mp4) in RGB, which browsers need through `mpo.run_folder.media.playable`
    right: Path
    position: int  # from 1; of `count` ballots
    count: int


def questions(run: RunFolder) -> tuple[str, ...]:
    """What people can be asked about a run: "overall", and the dimensions of its checklist. Raises as `next_ballot`."""
    return open_evaluation(run).questions


def next_ballot(run: RunFolder, rater: str, question: str) -> Ballot | None:
    """What this rater has not voted on yet, in their own order; None = nothing is left.

    Raises MpoError if the run is not evaluated, and for a name or question that cannot be.
    """
    booth = _booth(run, rater, question)
    left = remaining(booth.order, booth.done)
    return booth.ballot(left[0]) if left else None


def count_ballots(run: RunFolder, rater: str, question: str) -> int:
    """How many there are for this rater in all, voted on or not. Raises as `next_ballot`."""
    return len(_booth(run, rater, question).order)


def last_ballot(run: RunFolder, rater: str, question: str) -> Ballot | None:
    """What this rater voted on last, to be shown again; casting it again corrects the vote. None = there is none."""
    booth = _booth(run, rater, question)
    last = booth.find(booth.done[-1]) if booth.done else None
    return booth.ballot(last) if last else None


def find_ballot(run: RunFolder, ballot_id: str) -> Ballot:
    """A ballot by its id, voted on or not. Raises MpoError if it is of no pair of this evaluation."""
    booth, showing = _found(run, ballot_id)
    return booth.ballot(showing)


def cast(run: RunFolder, ballot_id: str, choice: str, seconds: float | None) -> Vote:
    """Store a rater's choice (left, right, tie or both_bad) and how long it took; it is on the disk when this returns.

    A ballot that has a vote already gets a line that replaces it, so that going back, or sending the same twice, counts once. Raises
    MpoError for another choice, and for a ballot that is of no pair of this evaluation.
    """
    if choice not in CHOICES:
        raise MpoError(f"choice {choice!r} is unknown; use {', '.join(CHOICES)}")
    if seconds is not None and not (
        isinstance(seconds, (int, float)) and 0 <= seconds < 1e9
    ):  # a page may send anything
        raise MpoError(f"seconds={seconds!r} is no duration; give seconds, at least 0, or none")
    booth, showing = _found(run, ballot_id)
    with opened(run, booth.question, booth.rater) as file:
        earlier = current_vote(file.votes, showing.pair.id, repeat=showing.repeat)
        vote = make_vote(
            showing.pair, id=new_id(), time=utc_now(), rater=booth.rater, question=booth.question, left=showing.left,
            choice=choice, repeat=showing.repeat, seconds=seconds, replaces=earlier.id if earlier else None,
        )  # fmt: skip
        file.append(vote)
    return vote


def current_vote(votes: Sequence[Vote], pair_id: str, *, repeat: bool) -> Vote | None:
    """A rater's vote on a pair, which a new one would replace."""
    return next((vote for vote in standing(votes) if (vote.pair, vote.repeat) == (pair_id, repeat)), None)


def new_id() -> str:
    return str(uuid.uuid4())


def utc_now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


@dataclass(frozen=True)
class _Booth:
    """A rater before a question: the whole order, and what is done of it."""

    rater: str
    question: str
    order: tuple[Showing, ...]
    done: tuple[str, ...]  # ids of showings, that of the last vote last

    def find(self, showing_id: str) -> Showing | None:
        return next((showing for showing in self.order if showing.id == showing_id), None)

    def ballot(self, showing: Showing) -> Ballot:
        pair = showing.pair
        done = self.done.index(showing.id) if showing.id in self.done else len(self.done)
        return Ballot(
            id=f"{self.question}.{self.rater}.{showing.id}", question=self.question, rater=self.rater, prompt=pair.prompt,
            left=pair.file(showing.left), right=pair.file(showing.right), position=done + 1, count=len(self.order),
        )  # fmt: skip


def _booth(run: RunFolder, rater: str, question: str) -> _Booth:
    evaluation = open_evaluation(run)
    question, rater = evaluation.checked_question(question), checked_rater(rater)
    order = order_of(evaluation.pairs, rater, question, evaluation.recipe.evaluate.seed)
    ids = {(showing.pair.id, showing.repeat): showing.id for showing in order}
    votes = standing(read_file(votes_file(run, question, rater)))
    done = tuple(ids[vote.pair, vote.repeat] for vote in votes if (vote.pair, vote.repeat) in ids)
    return _Booth(rater, question, order, done)


def _found(run: RunFolder, ballot_id: str) -> tuple[_Booth, Showing]:
    question, _, rest = ballot_id.partition(".")
    rater, _, showing_id = rest.partition(".")
    booth = _booth(run, rater, question)
    showing = booth.find(showing_id)
    if showing is None:
        raise MpoError(
            f"ballot {ballot_id!r} is of no pair of this evaluation, which may have been made anew; ask for the next ballot"
        )
    return booth, showing
