"""Which of two candidates to prefer.

x dominates y iff R_k(x) >= R_k(y) for every group k of the granularity, and total(x) - total(y) > margin
(arXiv 2412.21059, section 3); differences too small to count are ties. Plain total-score pairs (`total`) and single dimensions (`dimension:NAME`) share
the same interface. Pairs are formed among candidates of one prompt only.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from mpo import MpoError
from reward import Checklist

# Group scores (..., N, K) and totals (..., N) -> margins (..., N, N): [i, j] = by how much candidate i is preferred to
# j; -inf where it is not.
Strategy = Callable[[np.ndarray, np.ndarray], np.ndarray]


TIE = 0.01  # of the weighted sum
ROUNDING = 1e-9  # of sums of weights: far above what float64 loses, far below a tie


def tie_threshold(checklist: Checklist) -> float:
    """Scores that differ by no more than this are a tie.

    A yes/no answer moves a sum by twice its weight, at least 0.017 with the published weights, so it always counts. A
    continuous answer (text alignment) moves it by any amount, mostly too little for a person to see; and
    two sums that look the same at two decimals differ by less.
    """
    return TIE / checklist.divisor


def _difference(values: np.ndarray) -> np.ndarray:
    """(..., N) -> (..., N, N): [i, j] = value of i minus value of j."""
    return values[..., :, None] - values[..., None, :]


def by_dominance(groups: np.ndarray, total: np.ndarray, *, tie: float = 0.0) -> np.ndarray:
    """The margin in total, if no group is worse by more than a tie."""
    no_worse = np.ones((*total.shape, total.shape[-1]), bool)
    for k in range(groups.shape[-1]):  # one group at a time: memory stays at (..., N, N)
        no_worse &= groups[..., :, None, k] >= groups[..., None, :, k] - tie
    return np.where(no_worse, _difference(total), -np.inf)


def by_total(groups: np.ndarray, total: np.ndarray) -> np.ndarray:
    """The margin in total, whatever the groups do."""
    return _difference(total)


def by_dimension(index: int) -> Strategy:
    """The margin in one group, whatever the others do."""
    return lambda groups, total: _difference(groups[..., index])


def find_strategy(strategy: str, checklist: Checklist) -> Strategy:
    """The strategy of a recipe's `select.strategy`. Raises MpoError for a dimension that the checklist lacks."""
    if strategy == "dominance":
        return partial(by_dominance, tie=tie_threshold(checklist))
    if strategy == "total":
        return by_total
    name = strategy.removeprefix("dimension:")
    if name not in checklist.dimensions:
        raise MpoError(
            f"select.strategy={strategy!r}: no such dimension among the questions asked; dimensions: {', '.join(checklist.dimensions)}"
        )
    return by_dimension(checklist.dimensions.index(name))


@dataclass(frozen=True)
class Pairs:
    """M pairs: rows of the candidates' arrays, and the margin of the chosen."""

    chosen: np.ndarray  # (M,) int
    rejected: np.ndarray  # (M,) int
    margin: np.ndarray  # (M,) float

    def __len__(self) -> int:
        return len(self.chosen)

    def take(self, index: np.ndarray) -> "Pairs":
        return Pairs(self.chosen[index], self.rejected[index], self.margin[index])


def find_pairs(
    strategy: Strategy,
    prompt_ids: np.ndarray,
    groups: np.ndarray,
    total: np.ndarray,
    *,
    min_margin: float,
    per_prompt: int | None,
) -> Pairs:
    """All pairs (i, j) of one prompt whose margin exceeds `min_margin`; at most the widest `per_prompt` of each prompt.

    prompt_ids (N,) grouped (equal ones adjacent); groups (N, K); total (N,). Sorted by prompt, and by falling margin
    within one; equal margins keep the candidates' order.
    """
    starts = np.flatnonzero(np.r_[True, prompt_ids[1:] != prompt_ids[:-1]]) if len(prompt_ids) else np.empty(0, int)
    sizes = np.diff(np.r_[starts, len(prompt_ids)])
    chosen, rejected, margins = [], [], []
    for size in np.unique(sizes):  # prompts with the same number of candidates are compared together
        rows = starts[sizes == size][:, None] + np.arange(size)  # (P, n)
        matrix = strategy(groups[rows], total[rows]).reshape(len(rows), -1)
        kept = matrix > min_margin
        if per_prompt is not None:
            order = np.argsort(np.where(kept, -matrix, np.inf), axis=1, kind="stable")[:, :per_prompt]
            widest = np.zeros_like(kept)
            np.put_along_axis(widest, order, True, axis=1)
            kept &= widest
        prompt, place = np.nonzero(kept)
        first, second = np.divmod(place, size)
        chosen.append(rows[prompt, first])
        rejected.append(rows[prompt, second])
        margins.append(matrix[prompt, place])
    if not chosen:
        return Pairs(np.empty(0, int), np.empty(0, int), np.empty(0))
    pairs = Pairs(np.concatenate(chosen), np.concatenate(rejected), np.concatenate(margins))
    return pairs.take(np.lexsort((pairs.rejected, pairs.chosen, -pairs.margin, prompt_ids[pairs.chosen])))


def preferred_pairs(
    checklist: Checklist,
    strategy: str,
    prompt_ids: np.ndarray,
    groups: np.ndarray,
    total: np.ndarray,
    *,
    margin: float,
    per_prompt: int | None = None,
) -> Pairs:
    """`find_pairs` by a recipe's words: a strategy's name, and a margin that must be exceeded, as must a tie.

    A lead that equals the larger of the two but for the rounding of sums does not exceed it. Raises as `find_strategy` does.
    """
    least = max(margin, tie_threshold(checklist)) + ROUNDING
    chosen_by = find_strategy(strategy, checklist)
    return find_pairs(chosen_by, prompt_ids, groups, total, min_margin=least, per_prompt=per_prompt)


def num_worse(pairs: Pairs, dimensions: np.ndarray, *, tie: float) -> int:
    """How many pairs have a chosen worse than the rejected in some dimension, by more than a tie; dimensions (N, D)."""
    return int((dimensions[pairs.chosen] < dimensions[pairs.rejected] - tie).any(axis=1).sum())
