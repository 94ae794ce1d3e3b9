"""How well a reward agrees with people on pairs.

- accuracy ("diff" in the papers): of the pairs in which people have a preference, the share ordered as they do. A tie
  of the reward counts as wrong.
- tau (with ties; Deutsch et al., arXiv 2305.14324, "acc_eq with tie calibration"): the share of all pairs, ties
  included, on which reward and people say the same of first, second and tie. The reward calls a tie where its margin is
  at most a threshold, which is chosen on one half of the groups and tried on the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

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
    """Of one number, a total or a dimension's score, with people."""

    name: str
    num_pairs: int
    num_ties: int  # of people
    accuracy: Interval
    tau: Interval
    threshold: float  # of the margin, for tau


def tie_threshold(margins: np.ndarray, preferred: np.ndarray) -> float:
    """The threshold eps >= 0 for which calling |margin| <= eps a tie agrees best with people; the least of such.

    margins: (P,) score of a less score of b. preferred: (P,) 1 = a, 0 = b, 1/2 = tie.
    """
    size = np.abs(margins)
    order = np.argsort(size, kind="stable")
    right_as_tie = (preferred[order] == 0.5).astype(int)
    right_as_order = (np.sign(margins[order]) == np.sign(2 * preferred[order] - 1)).astype(int)
    # With the k pairs of least margin called ties: those that are ties, and the others that are ordered right.
    gained = np.concatenate([[0], np.cumsum(right_as_tie - right_as_order)])
    ends = np.concatenate([[True], np.append(size[order][1:] != size[order][:-1], True)])  # equal margins go together
    if len(size) and size[order][0] == 0:
        ends[0] = False  # eps = 0 already calls equal scores a tie
    best = int(np.argmax(np.where(ends, gained, -np.inf)))
    return float(size[order][best - 1]) if best else 0.0


def agreement(
    name: str,
    margins: np.ndarray,
    preferred: np.ndarray,
    groups: Sequence[str],
    *,
    num_bootstrap: int = 1000,
    seed: int = 0,
) -> Agreement:
    """Agreement of (P,) margins (score of a less score of b) with (P,) preferences (1 = a, 0 = b, 1/2 = tie).

    groups: pairs of one group (a prompt) stay together in the split and in resamples. Raises RewardError for margins
    that are not finite, and for fewer than two groups.
    """
    margins, preferred = np.asarray(margins, np.float64), np.asarray(preferred, np.float64)
    if not np.isfinite(margins).all():
        raise RewardError(
            f"{name}: pair {int(np.flatnonzero(~np.isfinite(margins))[0])} has no finite margin; leave it out"
        )
    group = np.unique(list(groups), return_inverse=True)[1]
    num_groups = group.max() + 1 if len(group) else 0
    if num_groups < 2:
        raise RewardError(
            f"{name}: {num_groups} group of pairs; at least two are needed, one to choose the tie threshold on"
        )
    rng = np.random.default_rng(seed)
    choosing = np.isin(group, rng.permutation(num_groups)[: num_groups // 2])
    threshold = tie_threshold(margins[choosing], preferred[choosing])
    truth = np.sign(2 * preferred - 1)
    decided = truth != 0
    right = np.sign(margins) == truth
    said = np.where(np.abs(margins) <= threshold, 0, np.sign(margins))
    tried = ~choosing
    return Agreement(
        name=name,
        num_pairs=len(margins),
        num_ties=int((~decided).sum()),
        accuracy=_share(right[decided], group[decided], num_bootstrap, rng),
        tau=_share((said == truth)[tried], group[tried], num_bootstrap, rng),
        threshold=threshold,
    )


def _share(right: np.ndarray, group: np.ndarray, num_bootstrap: int, rng: np.random.Generator) -> Interval:
    if not len(right):
        return Interval(float("nan"), float("nan"), float("nan"))
    index = np.unique(group, return_inverse=True)[1]
    count, correct = np.bincount(index), np.bincount(index, weights=right)
    drawn = rng.integers(0, len(count), (num_bootstrap, len(count)))
    shares = correct[drawn].sum(axis=1) / count[drawn].sum(axis=1)
    low, high = np.quantile(shares, [0.025, 0.975])
    return Interval(float(right.mean()), float(low), float(high))
