"""Several judges as one reward: each adds its dimensions.

So a pair can be asked to be no worse by a checklist, by PickScore and by HPSv3. A question that two judges can answer is
answered by the first.

Shapes: N items, Q questions of all judges.
"""

from collections.abc import Callable, Collection, Sequence

import numpy as np

from reward.checklist import Checklist, SubDimension
from reward.errors import ChecklistError, RewardError
from reward.reward import Fail, Items, Reward

BLOCK = 64  # items that all judges look at before the next ones, so that progress is even


class JointReward(Reward):
    """Rewards of several judges as one.

    >>> reward = JointReward([VisionReward("vlm-judge", "image"), VisionReward("pickscore")], weights=[1.0, 0.3])
    """

    def __init__(self, rewards: Sequence[Reward], *, weights: Sequence[float] | None = None):
        """weights: what each reward counts in the total, above 0; None = 1 each.

        Raises ChecklistError for a reward that adds no question to those before it, and for different kinds of media.
        """
        if not rewards:
            raise RewardError("rewards is empty; give at least one")
        self.weights = [1.0] * len(rewards) if weights is None else [float(weight) for weight in weights]
        if len(self.weights) != len(rewards) or not all(0 < weight < float("inf") for weight in self.weights):
            raise RewardError(f"weights={self.weights} for {len(rewards)} rewards; give one number above 0 for each")
        self.parts: list[Reward] = []
        taken: set[str] = set()
        for place, reward in enumerate(rewards, 1):
            left = [each for each in reward.checklist.question_ids if each not in taken]
            if not left:
                raise ChecklistError(
                    f"reward {place} ({reward.fingerprint}) adds nothing: those before it answer all of its questions; remove it, or name its questions"
                )
            self.parts.append(reward if len(left) == len(reward.checklist.questions) else reward.only(left))
            taken.update(left)
        self.checklist = join_checklists([part.checklist for part in self.parts], self.weights)

    @property
    def fingerprint(self) -> str:
        return "+".join(part.fingerprint for part in self.parts)

    @property
    def batch_size(self) -> int:
        return max(part.batch_size for part in self.parts)

    def only(self, question_ids: Collection[str]) -> "JointReward":
        self.checklist.only(question_ids)  # raises for an unknown question
        kept, weights = [], []
        for part, weight in zip(self.parts, self.weights, strict=True):
            left = [each for each in part.checklist.question_ids if each in question_ids]
            if left:
                kept.append(part.only(left))
                weights.append(weight)
        return JointReward(kept, weights=weights)

    def require_prompts(self, prompts: Sequence[str]) -> None:
        for part in self.parts:
            part.require_prompts(prompts)

    def ask(self, rows: Sequence[int], items: Items, fail: Fail, advance: Callable[[], None]) -> np.ndarray:
        found = np.full((len(items.media), len(self.checklist.questions)), np.nan)
        failed: set[int] = set()

        def fail_once(row: int, error: RewardError) -> None:
            failed.add(row)
            fail(row, error)

        for start in range(0, len(rows), BLOCK):
            block = rows[start : start + BLOCK]
            column = 0
            for place, part in enumerate(self.parts, 1):
                left = [row for row in block if row not in failed]  # the others have no score, whatever else is said
                said = advance if place == len(self.parts) else _nothing
                answers = part.ask(left, items, fail_once, said)
                end = column + answers.shape[1]
                found[left, column:end] = answers[left]
                column = end
        return found


def join_checklists(checklists: Sequence[Checklist], weights: Sequence[float]) -> Checklist:
    """One checklist with the questions of all, in order; each counts in the total `weight` times as much as in its own.

    Parts of one checklist, such as its alignment asked of another judge, keep its name, and its intercept counts once. The largest
    divisor becomes that of all. Raises ChecklistError for different kinds of media, and for a question that occurs twice.
    """
    kinds = {each.kind for each in checklists}
    if len(kinds) > 1:
        raise ChecklistError(
            f"checklists {', '.join(repr(each.name) for each in checklists)} are about {' and '.join(f'{kind}s' for kind in sorted(kinds))}; join those of one kind"
        )
    divisor = max(each.divisor for each in checklists)
    intercepts: dict[tuple[str, int], float] = {}
    subdimensions = []
    for checklist, weight in zip(checklists, weights, strict=True):
        share = weight * (divisor / checklist.divisor)
        intercepts.setdefault((checklist.name, checklist.version), share * checklist.intercept)
        for sub in checklist.subdimensions:
            questions = tuple(q.model_copy(update={"weight": share * q.weight}) for q in sub.questions)
            subdimensions.append(SubDimension(name=sub.name, dimension=sub.dimension, questions=questions))
    named = list(intercepts)
    return Checklist(
        name="+".join(name for name, _ in named),
        version=named[0][1] if len(named) == 1 else 1,
        kind=checklists[0].kind,
        intercept=sum(intercepts.values()),
        divisor=divisor,
        subdimensions=tuple(subdimensions),
    )


def _nothing() -> None:
    pass
