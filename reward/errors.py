"""Errors of a user's making: each message is one line that names the item and the remedy."""


class RewardError(ValueError):
    """Any of the below."""


class ChecklistError(RewardError):
    """A checklist, question or dimension that cannot be used."""


class JudgeError(RewardError):
    """A question or prompt that a judge cannot answer, or a judge that cannot be had."""


class MediaError(RewardError):
    """A picture that cannot be read."""


class JudgeUnavailableError(JudgeError):
    """A judge that answers nobody at present: no item is at fault, and trying the next would not help."""
