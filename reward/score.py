"""From answers to scores: weighted, by dimension, readable.

R_k = sum over the questions of group k of weight x answer; total = sum over all + intercept
(arXiv 2412.21059, section 2.3), both divided by the checklist's divisor. Answers are +1 yes, -1 no, 0 if their gate's
answer is no; a continuous question counts as its probability, a scorer's number as it is.

Shapes: N items, Q questions, D dimensions, S sub-dimensions, K groups of a granularity. An axis with an underscore (_Q)
comes from the caller: the function checks it and says what is wrong.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float

from reward.checklist import Checklist, Question
from reward.errors import ChecklistError

Granularity = Literal["dimension", "subdimension", "question"]


@dataclass(frozen=True)
class Scores:
    """The judge's answers about N items, and their scores. A failed item's row is all NaN."""

    checklist: Checklist
    p_yes: Float[np.ndarray, "N Q"]  # in [0, 1]; a scorer's number
    answers: Float[np.ndarray, "N Q"]  # +1, -1, 0 gated off; a continuous question's probability; a scorer's number
    failures: Mapping[int, str] = field(default_factory=dict)  # row -> why it has no score

    @property
    def dimensions(self) -> Float[np.ndarray, "N D"]:
        """In the order of `checklist.dimensions`."""
        return self.by("dimension")

    @property
    def subdimensions(self) -> Float[np.ndarray, "N S"]:
        """In the order of `checklist.subdimension_names`."""
        return self.by("subdimension")

    @property
    def total(self) -> Float[np.ndarray, " N"]:
        return self.contributions.sum(axis=1) + self.checklist.intercept / self.checklist.divisor

    def dimension(self, name: str) -> Float[np.ndarray, " N"]:
        """One dimension's scores, by its name. Raises ChecklistError for an unknown one."""
        names = self.checklist.dimensions
        if name not in names:
            raise ChecklistError(
                f"dimension={name!r} is not in checklist {self.checklist.name!r}; it has: {', '.join(names)}"
            )
        return self.dimensions[:, names.index(name)]

    @property
    def contributions(self) -> Float[np.ndarray, "N Q"]:
        """What each answer adds to the total."""
        return self.answers * self.checklist.weights / self.checklist.divisor

    def by(self, granularity: Granularity | str) -> Float[np.ndarray, "N K"]:
        """The contributions summed within each group of a granularity (dimension, subdimension, question)."""
        _, members = self.checklist.groups(granularity)
        # Not a matrix product: BLAS sums a row in an order that depends on its place; equal answers must score equal.
        contributions = self.contributions
        sums = [contributions[:, of].sum(axis=1) for of in members]
        return np.stack(sums, axis=1) if sums else np.zeros((len(contributions), 0))  # none: only gates are asked


def score_answers(p_yes: Float[np.ndarray, "N _Q"], checklist: Checklist) -> Scores:
    """Probabilities in [0, 1], and scorers' numbers -> Scores.

    Raises ValueError for a wrong shape, a probability outside, and a number that is not finite.
    """
    p_yes = np.asarray(p_yes, dtype=np.float64)
    if p_yes.ndim != 2 or p_yes.shape[1] != len(checklist.questions):
        raise ValueError(
            f"p_yes has shape {p_yes.shape}; checklist {checklist.name!r} needs (N, {len(checklist.questions)})"
        )
    possible = np.where(checklist.values, np.isfinite(p_yes), (p_yes >= 0) & (p_yes <= 1))
    for row, column in np.argwhere(~possible):
        of, within = ("finite", "numbers") if checklist.values[column] else ("a probability", "within [0, 1]")
        raise ValueError(f"p_yes[{row}, {column}]={p_yes[row, column]} is not {of}; the judge must answer {within}")
    yes = p_yes >= 0.5
    answers = np.where(yes, 1.0, -1.0)
    gated_off = (checklist.gate_index >= 0) & ~yes[:, checklist.gate_index]
    answers[gated_off] = 0.0
    return Scores(checklist, p_yes, np.where(checklist.continuous | checklist.values, p_yes, answers))


@dataclass(frozen=True)
class Contribution:
    """One question's part in a score, or in the gap between two."""

    question: Question
    dimension: str
    answer: float  # +1, -1, 0, a continuous question's probability, or a scorer's number
    other_answer: float | None  # the other item's answer in a comparison; None = there is no other
    difference: float  # what the question adds to the total, or to the gap


@dataclass(frozen=True)
class Comparison:
    """Two items for one prompt. Gaps are a's score minus b's."""

    preferred: Literal["a", "b", "tie"]
    margin: float
    dimension_margins: dict[str, float]
    contributions: tuple[Contribution, ...]  # largest first; questions that make no difference are left out
