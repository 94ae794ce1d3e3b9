"""From answers to scores: weighted, by dimension, readable.

R_k = sum over the questions of group k of weight x answer; total = sum over all + intercept
(arXiv 2412.21059, section 2.3). Answers are +1 yes, -1 no, 0 where a gate's answer is no; a continuous
question counts with its probability.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from reward.checklist import Checklist, load_checklist
from reward.errors import ChecklistError
from reward.judges import Judge, load_judge
from reward.media import ImageLike, read_image


@dataclass(frozen=True)
class Scores:
    """What the judge said of N items, and what it comes to."""

    checklist: Checklist
    p_yes: np.ndarray  # (N, Q) float64 in [0, 1]
    answers: np.ndarray  # (N, Q) float64: +1, -1, 0 gated off; a continuous question's probability

    @property
    def dimensions(self) -> np.ndarray:
        """(N, D) in the order of `checklist.dimensions`."""
        return self.by("dimension")

    @property
    def subdimensions(self) -> np.ndarray:
        """(N, S) in the order of `checklist.subdimension_names`."""
        return self.by("subdimension")

    @property
    def total(self) -> np.ndarray:
        """(N,)"""
        return self.answers @ self.checklist.weights + self.checklist.intercept

    def by(self, grain) -> np.ndarray:
        """(N, K): the weighted answers summed within each group of a grain (dimension, subdimension, question)."""
        _, members = self.checklist.groups(grain)
        return (self.answers * self.checklist.weights) @ members.T.astype(np.float64)


def score_answers(p_yes: np.ndarray, checklist: Checklist) -> Scores:
    """Probabilities (N, Q) in [0, 1] -> Scores. Raises ValueError on a wrong shape, a NaN or a value outside."""
    p_yes = np.asarray(p_yes, dtype=np.float64)
    if p_yes.ndim != 2 or p_yes.shape[1] != len(checklist.questions):
        raise ValueError(
            f"p_yes has shape {p_yes.shape}; checklist {checklist.name!r} needs (N, {len(checklist.questions)})"
        )
    if not ((p_yes >= 0) & (p_yes <= 1)).all():
        row, column = np.argwhere(~((p_yes >= 0) & (p_yes <= 1)))[0]
        raise ValueError(
            f"p_yes[{row}, {column}]={p_yes[row, column]} is no probability; the judge must answer within [0, 1]"
        )
    yes = p_yes >= 0.5
    answers = np.where(yes, 1.0, -1.0)
    gated_off = (checklist.gate_index >= 0) & ~yes[:, checklist.gate_index]
    answers[gated_off] = 0.0
    return Scores(checklist, p_yes, np.where(checklist.continuous, p_yes, answers))


class VisionReward:
    """A judge and a checklist: `score(pictures, prompts)`.

    >>> reward = VisionReward("measured", "image", questions="answerable")
    >>> reward.score(["cat.png"], ["a red circle on a white background"]).total
    """

    def __init__(
        self, judge: str | Judge, checklist: str | Checklist = "image", *, questions: str | Sequence[str] = "all"
    ):
        """`questions`: "all", "answerable" (those that the judge says it can answer) or a list of question ids.

        Raises ValueError (JudgeError, ChecklistError) on an unknown judge, checklist or question, and where
        the judge cannot answer a question that was asked for.
        """
        self.judge = load_judge(judge) if isinstance(judge, str) else judge
        whole = load_checklist(checklist) if isinstance(checklist, str) else checklist
        if questions == "all":
            self.checklist = whole
        elif questions == "answerable":
            self.checklist = whole.only([q.id for q in whole if self.judge.can_answer(q)])
        elif isinstance(questions, str):
            raise ChecklistError(
                f"questions={questions!r} is unknown; use 'all', 'answerable' or a list of question ids"
            )
        else:
            self.checklist = whole.only(questions)
        self.judge.require(self.checklist.questions)

    def score(
        self, media: Sequence[ImageLike], prompts: Sequence[str], *, on_item: Callable[[], object] | None = None
    ) -> Scores:
        """N pictures (files or PIL images) and their prompts -> Scores of N rows.

        `on_item` is called after each item, for a progress bar. Raises MediaError or JudgeError naming the item.
        """
        if len(media) != len(prompts):
            raise ValueError(f"{len(media)} pictures but {len(prompts)} prompts; give one prompt for each picture")

        def pictures() -> Iterator:
            for item in media:
                yield read_image(item)
                if on_item:
                    on_item()

        return score_answers(self.judge.answer(pictures(), prompts, self.checklist.questions), self.checklist)
