"""Errors that a user can fix: each message is one line that names the item and the remedy."""

import difflib
from collections.abc import Iterable


class RewardError(ValueError):
    """Base class of the errors below."""


class ChecklistError(RewardError):
    """A checklist, question or dimension that cannot be used."""


class JudgeError(RewardError):
    """A question or prompt that a judge cannot answer, or a judge that cannot be loaded or reached."""


class MediaError(RewardError):
    """A picture or clip that cannot be read."""


class CacheError(RewardError):
    """Cached answers that cannot be read or written."""


class JudgeUnavailableError(JudgeError):
    """A judge that does not answer at the moment: no item is at fault, and trying the next would not help."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Words for an error that end in the known name nearest to this one; empty if none is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def first_line(error: Exception) -> str:
    """A short reason: libraries write pages."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
