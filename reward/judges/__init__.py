"""Judges answer questions about pictures. A judge raises on a question that it cannot answer; it never guesses."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Protocol

import numpy as np
from PIL import Image

from reward.checklist import Question
from reward.errors import JudgeError

JUDGES = ("measured",)


class Judge(Protocol):
    """What every judge offers."""

    @cached_property
    def fingerprint(self) -> str:
        """Changes whenever an answer could."""
        ...

    def can_answer(self, question: Question) -> bool:
        """Whether the judge has an answer to this question about any picture."""
        ...

    def require(self, questions: Sequence[Question]) -> None:
        """Raises JudgeError naming the questions that this judge cannot answer."""
        ...

    def require_prompts(self, prompts: Sequence[str]) -> None:
        """Raises JudgeError naming the first prompt that this judge cannot judge a picture by."""
        ...

    def answer(
        self, images: Iterable[Image.Image], prompts: Sequence[str], questions: Sequence[Question]
    ) -> np.ndarray:
        """(N, Q) float64: the probability of yes out of yes and no, for N RGB pictures and Q questions."""
        ...


def load_judge(name: str) -> Judge:
    """A judge by name. Raises JudgeError for an unknown one."""
    match name:
        case "measured":
            from reward.judges.measured import MeasuredJudge  # scikit-image takes a second to import

            return MeasuredJudge()
        case _:
            raise JudgeError(f"judge={name!r} is unknown; judges: {', '.join(JUDGES)}")
