import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mpo import MpoError
from mpo.comparison.dominance import (
    by_dimension,
    by_dominance,
    by_total,
    find_pairs,
    find_strategy,
    num_worse,
    preferred_pairs,
)
from reward import load_checklist

N, K = 12, 3


# Few distinct values, so that ties are common.
group_scores = arrays(np.float64, (N, K), elements=st.integers(-2, 2).map(float))


prompt_ids = st.lists(st.integers(0, 3), min_size=N, max_size=N).map(lambda ids: np.sort(np.array(ids)))


margins = st.sampled_from([0.0, 0.5, 1.0, 2.5])


def brute_force(ids, groups, margin):
    total = groups.sum(axis=1)
    return {
        (i, j)
        for i in range(N)
        for j in range(N)
        if ids[i] == ids[j] and all(groups[i] >= groups[j]) and total[i] - total[j] > margin
    }


@given(prompt_ids, group_scores, margins)
def test_dominance_equals_its_definition(ids, groups, margin):
    pairs = find_pairs(by_dominance, ids, groups, groups.sum(axis=1), min_margin=margin, per_prompt=None)
    assert set(zip(pairs.chosen, pairs.rejected, strict=True)) == brute_force(ids, groups, margin)


@given(prompt_ids, group_scores, margins)
def test_dominating_pairs_are_a_part_of_total_pairs_and_confound_nothing(ids, groups, margin):
    total = groups.sum(axis=1)
    dominating = find_pairs(by_dominance, ids, groups, total, min_margin=margin, per_prompt=None)
    plain = find_pairs(by_total, ids, groups, total, min_margin=margin, per_prompt=None)
    assert set(zip(dominating.chosen, dominating.rejected, strict=True)) <= set(
        zip(plain.chosen, plain.rejected, strict=True)
    )
    assert num_worse(dominating, groups, tie=0.0) == 0
    assert num_worse(plain, groups, tie=0.0) == len(plain) - len(dominating)


def test_what_evaluation_calls_a_tie_is_no_veto():
    """The second is better in all that a person could see; its first group lies lower by less than a tie."""
    groups = np.array([[1.005, 0.0], [1.0, 2.0]])
    found = find_pairs(
        find_strategy("dominance", load_checklist("image")), np.zeros(2, int), groups, groups.sum(axis=1),
        min_margin=0.0, per_prompt=None,
    )  # fmt: skip
    assert (found.chosen.tolist(), found.rejected.tolist()) == ([1], [0])
    assert num_worse(found, groups, tie=0.01) == 0
    assert num_worse(found, groups, tie=0.0) == 1


@pytest.mark.parametrize("strategy", ["dominance", "total", "dimension:alignment"])
def test_what_evaluation_calls_a_tie_is_no_preference(strategy):
    """At margin 0 a lead that nobody sees, or that only the rounding of sums makes, gives no pair; the next larger does."""
    checklist = load_checklist("image")
    groups = np.array([[0.0, 0.0], [0.005, 0.0], [0.1 + 0.2, 0.0], [0.3, 0.0], [0.32, 0.0]])
    total = groups.sum(axis=1)
    for margin, expected in (
        (0.0, {(a, b) for a in (2, 3, 4) for b in (0, 1)} | {(4, 2), (4, 3)}),
        (0.3, {(4, 0), (4, 1)}),
    ):
        found = preferred_pairs(checklist, strategy, np.zeros(5, int), groups, total, margin=margin)
        assert set(zip(found.chosen.tolist(), found.rejected.tolist(), strict=True)) == expected


@given(prompt_ids, group_scores)
def test_dominance_is_a_strict_partial_order(ids, groups):
    pairs = find_pairs(by_dominance, ids, groups, groups.sum(axis=1), min_margin=0.0, per_prompt=None)
    above = set(zip(pairs.chosen.tolist(), pairs.rejected.tolist(), strict=True))
    assert all((j, i) not in above for i, j in above)
    assert all((i, k) in above for i, j in above for jj, k in above if j == jj)


@given(prompt_ids, group_scores, st.integers(1, 4))
def test_the_widest_of_each_prompt_are_kept(ids, groups, per_prompt):
    total = groups.sum(axis=1)
    every = find_pairs(by_total, ids, groups, total, min_margin=0.0, per_prompt=None)
    kept = find_pairs(by_total, ids, groups, total, min_margin=0.0, per_prompt=per_prompt)
    for prompt in np.unique(ids):
        leads = np.sort(every.margin[ids[every.chosen] == prompt])[::-1]
        np.testing.assert_array_equal(np.sort(kept.margin[ids[kept.chosen] == prompt])[::-1], leads[:per_prompt])


@given(group_scores, st.permutations(range(N)))
def test_the_order_of_candidates_does_not_matter(groups, order):
    ids, order = np.zeros(N, int), np.array(order)
    a = find_pairs(by_dominance, ids, groups, groups.sum(axis=1), min_margin=0.0, per_prompt=None)
    b = find_pairs(by_dominance, ids, groups[order], groups[order].sum(axis=1), min_margin=0.0, per_prompt=None)
    assert set(zip(a.chosen, a.rejected, strict=True)) == set(zip(order[b.chosen], order[b.rejected], strict=True))


def test_strategies_by_name():
    checklist = load_checklist("image")
    groups, total = np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([1.0, 2.0])
    assert find_strategy("total", checklist)(groups, total)[1, 0] == 1.0
    assert by_dimension(0)(groups, total)[0, 1] == 1.0
    assert find_strategy("dominance", checklist)(groups, total)[1, 0] == -np.inf
    with pytest.raises(MpoError, match="alignment, composition"):
        find_strategy("dimension:beauty", checklist)


@settings(deadline=None)
@given(st.integers(0, 5))
def test_no_candidates_no_pairs(size):
    pairs = find_pairs(
        by_dominance, np.arange(size), np.zeros((size, K)), np.zeros(size), min_margin=0.0, per_prompt=None
    )
    assert len(pairs) == 0
