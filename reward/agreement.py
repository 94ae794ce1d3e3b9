"""How well a reward agrees with people on pairs.

- accuracy ("diff" in the papers): the share of pairs ordered as people do, out of those with a preference. A tie
  of the reward counts as wrong.
- tau (with ties; Deutsch et al., arXiv 2305.14324, "acc_eq with tie calibration"): the share of all pairs, ties
  included, on which reward and people agree: first, second or tie. The reward calls a tie if its margin is
  at most a threshold. The groups are split into two halves; each half is judged with the threshold that fits the other
  half best, so that all pairs count and none influences its own threshold.

Shapes: P pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from reward.errors import RewardError


@dataclass(frozen=True)
class Interval:
    """A share with its 95 % bootstrap interval over groups."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class Agreement:
    """How well one number, a total or a dimension's score, agrees with people."""

    name: str
    num_pairs: int
    num_ties: int  # of people
    accuracy: Interval
    tau: Interval
    threshold: float  # the best margin up to which to call a tie, over all pairs; tau itself uses those of the halves


def tie_threshold(margins: Float[np.ndarray, " P"], preferred: Float[np.ndarray, " P"]) -> float:
    """The smallest threshold eps >= 0 at which calling |margin| <= eps a tie agrees best with people.

    margins: score of a minus score of b. preferred: 1 = a, 0 = b, 1/2 = tie.
    """
    size = np.abs(margins)
    order = np.argsort(size, kind="stable")
    right_as_tie = (preferred[order] == 0.5).astype(int)
    right_as_order = (np.sign(margins[order]) == np.sign(2 * preferred[order] - 1)).astype(int)
    # With the k smallest margins called ties: pairs that are ties, and others that are ordered right.
    gained = np.concatenate([[0], np.cumsum(right_as_tie - right_as_order)])
    ends = np.concatenate([[True], np.append(size[order][1:] != size[order][:-1], True)])  # equal margins go together
    if len(size) and size[order][0] == 0:
        ends[0] = False  # eps = 0 already calls equal scores a tie
    best = int(np.argmax(np.where(ends, gained, -np.inf)))
    return float(size[order][best - 1]) if best else 0.0


def agreement(
    name: str,
    margins: Float[np.ndarray, " P"],
    preferred: Float[np.ndarray, " _P"],
    groups: Sequence[Any],
    *,
    num_bootstrap: int = 1000,
    seed: int = 0,
) -> Agreement:
    """Agreement of margins (score of a minus score of b) with preferences (1 = a, 0 = b, 1/2 = tie).

    groups: strings; pairs of one group (a prompt) stay together in the halves and in resamples. Raises RewardError for
    margins that are not finite, other preferences, groups that are not strings, different lengths, and fewer than two groups.
    """
    margins, preferred = np.asarray(margins, np.float64), np.asarray(preferred, np.float64)
    _check(name, margins, preferred, groups)
    group = np.unique(list(groups), return_inverse=True)[1]
    num_groups = group.max() + 1 if len(group) else 0
    if num_groups < 2:
        raise RewardError(
            f"{name}: {num_groups} group of pairs; at least two are needed, so that a tie threshold can be chosen on one and used on the other"
        )
    rng = np.random.default_rng(seed)
    first_half = np.isin(group, rng.permutation(num_groups)[: num_groups // 2])
    threshold = np.where(
        first_half,
        tie_threshold(margins[~first_half], preferred[~first_half]),
        tie_threshold(margins[first_half], preferred[first_half]),
    )
    truth = np.sign(2 * preferred - 1)
    decided = truth != 0
    ordered_right = np.sign(margins) == truth
    called = np.where(np.abs(margins) <= threshold, 0, np.sign(margins))
    return Agreement(
        name=name,
        num_pairs=len(margins),
        num_ties=int((~decided).sum()),
        accuracy=share(ordered_right[decided], group[decided], num_bootstrap, rng),
        tau=share(called == truth, group, num_bootstrap, rng),
        threshold=tie_threshold(margins, preferred),
    )


def _check(name: str, margins: np.ndarray, preferred: np.ndarray, groups: Sequence[Any]) -> None:
    if not len(margins) == len(preferred) == len(groups):
        raise RewardError(
            f"{name}: {len(margins)} margins, {len(preferred)} preferences and {len(groups)} groups; give one of each for a pair"
        )
    for pair in np.flatnonzero(~np.isfinite(margins)):
        raise RewardError(f"{name}: pair {pair} has the margin {margins[pair]}, which is not finite; leave it out")
    for pair in np.flatnonzero(~np.isin(preferred, (0.0, 0.5, 1.0))):
        raise RewardError(f"{name}: preferred[{pair}]={preferred[pair]}; use 1 (a), 0 (b) or 0.5 (tie)")
    for pair, group in enumerate(groups):
        if not isinstance(group, str):
            raise RewardError(
                f"{name}: groups[{pair}]={group!r} is not a text; name the prompt that the pair belongs to"
            )


def share(right: np.ndarray, group: np.ndarray, num_bootstrap: int, rng: np.random.Generator) -> Interval:
    """How many of P are right (P,) bool, with an interval over their groups (P,) numbers; NaN if P = 0."""
    if not len(right):
        return Interval(float("nan"), float("nan"), float("nan"))
    index = np.unique(group, return_inverse=True)[1]
    count, correct = np.bincount(index), np.bincount(index, weights=right)
    resampled = rng.integers(0, len(count), (num_bootstrap, len(count)))
    shares = correct[resampled].sum(axis=1) / count[resampled].sum(axis=1)
    low, high = np.quantile(shares, [0.025, 0.975])
    return Interval(float(right.mean()), float(low), float(high))
