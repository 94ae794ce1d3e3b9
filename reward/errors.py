"""Errors that a user can fix: each message is one line that names the item and the remedy."""


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
