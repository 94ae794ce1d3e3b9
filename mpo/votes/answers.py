"""Answers that come from elsewhere, and what they are answers to."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from mpo import MpoError
from mpo.votes.ballots import Showing, showing_id
from mpo.votes.pairs import MODELS, OVERALL, Evaluation, Model, Pair, short_digest
from mpo.votes.store import Choice


@dataclass(frozen=True)
class Answer:
    """What somebody chose, as a file says it."""

    showing: Showing
    question: str
    rater: str | None  # None = the file does not say
    choice: Choice
    time: str | None  # as in a vote; None = the file does not say
    seconds: float | None
    id: str | None


def media_name(pair: Pair, model: Model) -> str:
    """A file's name, without its ending, that does not show which model made it."""
    return short_digest(pair.id, model)


class Showings:
    """Finds what an answer is about."""

    def __init__(self, evaluation: Evaluation):
        self._evaluation = evaluation
        self._pairs = {
            showing_id(pair, repeat=repeat): (pair, repeat) for pair in evaluation.pairs for repeat in (False, True)
        }

    def find(self, comparison: Any, left: Any, where: str) -> Showing:
        """comparison: the id of a showing; left: the sample's path, in the run or as exported. Raises MpoError naming `where`."""
        if comparison not in self._pairs:
            raise MpoError(
                f"{where}: comparison={comparison!r} is no pair of this evaluation; import what was exported from this run, after its last evaluation"
            )
        pair, repeat = self._pairs[comparison]
        found: list[Model] = [
            model
            for model in MODELS
            if isinstance(left, str) and (media_name(pair, model) in left or left == sample_name(pair, model))
        ]
        if len(found) != 1:
            raise MpoError(
                f"{where}: left={left!r} is neither of the pair's samples; leave the column as it was exported"
            )
        return Showing(pair, repeat, found[0])

    def checked_question(self, question: Any, where: str) -> str:
        question = OVERALL if question in (None, "") else question
        return in_file(where, lambda: self._evaluation.checked_question(question))


def sample_name(pair: Pair, model: Model) -> str:
    """A sample's path within evaluation/samples."""
    return f"{model}/{pair.file(model).name}"


def in_file(where: str, check: Callable[[], Any]) -> Any:
    """What a check returns; its MpoError says where in the file."""
    try:
        return check()
    except MpoError as error:
        raise MpoError(f"{where}: {error}") from None


def checked_seconds(value: Any, field: str, where: str) -> float | None:
    """A duration, or None if there is none. Raises MpoError."""
    if value in (None, ""):
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 <= seconds < 1e9:
        raise MpoError(f"{where}: {field}={value!r} is no duration; give seconds, at least 0, or leave it empty")
    return seconds


def checked_time(value: Any, field: str, where: str) -> str | None:
    """A time of ISO 8601 as a vote has it; without a zone, UTC is meant. Raises MpoError."""
    if value in (None, ""):
        return None
    try:
        parsed = datetime.fromisoformat(value.replace("Z", "+00:00"))
    except (AttributeError, ValueError):
        raise MpoError(
            f"{where}: {field}={value!r} is no time; give one such as 2026-01-31T12:00:00Z, or leave it empty"
        ) from None
    utc = parsed.replace(tzinfo=timezone.utc) if parsed.tzinfo is None else parsed.astimezone(timezone.utc)
    return utc.strftime("%Y-%m-%dT%H:%M:%SZ")
