"""A reward on what people judged: pairs to learn weights from or compare with, and answers to compare with.

Shapes: P pairs, Q questions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from reward.agreement import Agreement, agreement
from reward.errors import RewardError
from reward.preferences import Annotation, Preference
from reward.reward import Reward
from reward.score import Scores
from reward.weights import FittedWeights, fit_weights


@dataclass(frozen=True)
class JudgedPairs:
    """P pairs and the scores of their items."""

    preferences: tuple[Preference, ...]
    a: Scores  # of P items, the first of each pair
    b: Scores  # of P items, the second
    failures: tuple[str, ...]  # why items of left-out pairs could not be scored

    @property
    def preferred(self) -> Float[np.ndarray, " P"]:
        """1 = a, 0 = b, 1/2 = a tie."""
        return np.array([each.preferred for each in self.preferences])

    @property
    def groups(self) -> list[str]:
        return [each.group for each in self.preferences]


def judge_pairs(reward: Reward, preferences: Sequence[Preference], **scoring: Any) -> JudgedPairs:
    """Scores the items of all pairs; a pair with an item that fails is left out and the reason kept.

    scoring: `progress` of `VisionReward.score`. Raises RewardError if no pair is left.
    """
    items: dict[Any, int] = {}
    media, prompts = [], []

    def place(item: Any, prompt: str) -> int:
        key = (item if isinstance(item, (str, Path, bytes)) else id(item), prompt)
        if key not in items:
            items[key] = len(media)
            media.append(item)
            prompts.append(prompt)
        return items[key]

    rows = [(place(each.a, each.prompt), place(each.b, each.prompt)) for each in preferences]
    scores = reward.score(media, prompts, on_error="record", **scoring)
    kept = [i for i, (a, b) in enumerate(rows) if a not in scores.failures and b not in scores.failures]
    if not kept:
        reason = next(iter(scores.failures.values()), "there are none")
        raise RewardError(f"no pair could be scored: {reason}")
    sides = []
    for side in (0, 1):
        chosen = [rows[i][side] for i in kept]
        sides.append(Scores(scores.checklist, scores.p_yes[chosen], scores.answers[chosen]))
    return JudgedPairs(tuple(preferences[i] for i in kept), *sides, failures=tuple(scores.failures.values()))


def fit_on_pairs(pairs: JudgedPairs, **options: Any) -> FittedWeights:
    """`fit_weights` on judged pairs, pairs of one prompt kept together."""
    return fit_weights(
        pairs.a.checklist, pairs.a.answers, pairs.b.answers, pairs.preferred, groups=pairs.groups, **options
    )


def agreements(pairs: JudgedPairs, **options: Any) -> list[Agreement]:
    """Agreement of the total with people, and of each dimension's score.

    A dimension is compared with what people said about that dimension if the file says so, else about the whole. Raises
    RewardError for a dimension in the file that is not in the checklist.
    """
    known = pairs.a.checklist.dimensions
    unknown = sorted({name for each in pairs.preferences for name in each.dimensions} - set(known))
    if unknown:
        raise RewardError(
            f"people judged the dimensions {unknown}, which are not in checklist {pairs.a.checklist.name!r}; it has: {', '.join(known)}"
        )
    found = [agreement("total", pairs.a.total - pairs.b.total, pairs.preferred, pairs.groups, **options)]
    margins = pairs.a.dimensions - pairs.b.dimensions
    for name, margin in zip(known, margins.T, strict=True):
        told = [each.dimensions.get(name) for each in pairs.preferences]
        if any(value is not None for value in told):
            rows = [i for i, value in enumerate(told) if value is not None]
            preferred = np.array([told[i] for i in rows], dtype=np.float64)
            groups = [pairs.groups[i] for i in rows]
            found.append(agreement(f"{name} (as people judged it)", margin[rows], preferred, groups, **options))
        else:
            found.append(agreement(name, margin, pairs.preferred, pairs.groups, **options))
    return found


@dataclass(frozen=True)
class Judgement:
    """How a judge answers one question, compared with people."""

    question_id: str
    balanced_accuracy: float  # mean of the shares of people's yes and of their no that it repeats
    num_yes: int  # of people's answers
    num_no: int


def judgements(reward: Reward, annotations: Sequence[Annotation], **scoring: Any) -> tuple[list[Judgement], list[str]]:
    """How a judge answers each question that people have answered, and why items failed.

    scoring: `progress` of `VisionReward.score`.
    """
    answered = {question_id for each in annotations for question_id in each.answers}
    gates = {q.gate_id for q in reward.checklist if q.id in answered and q.gate_id}
    asked = [q.id for q in reward.checklist if q.id in answered | gates]
    if not asked:
        return [], []
    examined = reward.only(asked)
    media, prompts = [each.media for each in annotations], [each.prompt for each in annotations]
    scores = examined.score(media, prompts, on_error="record", **scoring)
    found = []
    for column, question_id in enumerate(asked):
        told = {i: each.answers[question_id] for i, each in enumerate(annotations) if question_id in each.answers}
        told = {i: answer for i, answer in told.items() if i not in scores.failures}
        sides = [
            [(scores.p_yes[i, column] >= 0.5) == side for i, answer in told.items() if answer == side]
            for side in (True, False)
        ]
        if told:
            share = float(np.mean([np.mean(side) for side in sides if side]))
            found.append(Judgement(question_id, share, len(sides[0]), len(sides[1])))
    return found, list(scores.failures.values())
