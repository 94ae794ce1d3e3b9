import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward.agreement import agreement, tie_threshold
from reward.errors import RewardError

GROUPS = [str(i) for i in range(8)]


def test_by_hand():
    margins = np.array([2.0, 1.0, -1.0, 0.1, -0.1, 0.0, 3.0, -2.0])
    preferred = np.array([1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 1.0, 0.0])
    found = agreement("total", margins, preferred, GROUPS)
    assert (found.num_pairs, found.num_ties) == (8, 3)
    assert found.accuracy.value == pytest.approx(4 / 5)  # ties of people dropped; one of five is wrong
    assert found.accuracy.low <= 4 / 5 <= found.accuracy.high
    assert tie_threshold(margins, preferred) == pytest.approx(0.1)  # 3 ties and 4 of 5 orders right: 7 of 8


def test_a_tie_of_the_reward_is_no_agreement():
    found = agreement("total", np.zeros(8), np.ones(8), GROUPS)
    assert found.accuracy.value == 0.0


def test_equal_margins_are_tied_together():
    """At |margin| 1 there are a tie and two right orders: no threshold calls only the tie a tie."""
    margins, preferred = np.array([1.0, 1.0, -1.0, 2.0]), np.array([0.5, 1.0, 0.0, 1.0])
    assert tie_threshold(margins, preferred) == 0.0


@given(st.integers(0, 10_000), st.integers(2, 30))
def test_the_threshold_is_the_best_there_is(seed, count):
    rng = np.random.default_rng(seed)
    margins = rng.integers(-3, 4, count) / 2.0
    preferred = rng.choice([0.0, 0.5, 1.0], count)

    def agrees(threshold: float) -> int:
        said = np.where(np.abs(margins) <= threshold, 0, np.sign(margins))
        return int((said == np.sign(2 * preferred - 1)).sum())

    best = max(agrees(threshold) for threshold in [0.0, *np.abs(margins)])
    assert agrees(tie_threshold(margins, preferred)) == best


@given(st.integers(0, 10_000))
def test_swapping_items_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    margins, preferred = rng.normal(size=20), rng.choice([0.0, 0.5, 1.0], 20)
    groups = [str(i // 2) for i in range(20)]
    one, other = agreement("t", margins, preferred, groups), agreement("t", -margins, 1 - preferred, groups)
    assert one.tau == other.tau
    assert (one.accuracy == other.accuracy) or np.isnan(one.accuracy.value)


def test_the_threshold_is_tried_on_groups_that_it_was_not_chosen_on():
    """Margins say nothing: a threshold chosen on the very pairs would look better than chance."""
    rng = np.random.default_rng(0)
    shares = []
    for trial in range(200):
        margins, preferred = rng.normal(size=20), rng.choice([0.0, 0.5, 1.0], 20)
        shares.append(
            agreement("t", margins, preferred, [str(i) for i in range(20)], num_bootstrap=2, seed=trial).tau.value
        )
    assert np.mean(shares) == pytest.approx(1 / 3, abs=0.03)


def test_every_pair_counts_towards_tau():
    """Two halves that each tell the other its threshold: a pair of either half that goes wrong lowers tau by 1 / 8."""
    margins = np.array([2.0, 2, 2, 2, 0.1, 0.1, 0.1, 0.1])
    preferred = np.array([1.0, 1, 1, 1, 0.5, 0.5, 0.5, 0.5])
    groups = [str(i % 4) for i in range(8)]  # each group has a clear pair and a tie, so both halves choose 0.1
    found = agreement("t", margins, preferred, groups)
    assert (found.tau.value, found.threshold) == (1.0, 0.1)
    for pair in range(4):
        wrong = margins.copy()
        wrong[pair] = -2.0
        assert agreement("t", wrong, preferred, groups).tau.value == 7 / 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"margins": np.array([1.0, 1, 1, np.nan])}, "pair 3 has the margin nan"),
        ({"margins": np.array([1.0, np.inf, 1, 1])}, "pair 1 has the margin inf"),
        ({"preferred": np.array([1.0, 1, np.nan, 1])}, r"preferred\[2\]=nan; use 1 \(a\)"),
        ({"preferred": np.array([1.0, 0.7, 1, 1])}, r"preferred\[1\]=0.7"),
        ({"groups": ["p", "q", "r", float("nan")]}, r"groups\[3\]=nan"),
        ({"groups": ["p", "q", "r"]}, "4 margins, 4 preferences and 3 groups"),
        ({"groups": ["one"] * 4}, "at least two"),
    ],
)
def test_what_cannot_be_measured_is_said(change, message):
    fields = {"margins": np.ones(4), "preferred": np.ones(4), "groups": GROUPS[:4]} | change
    with pytest.raises(RewardError, match=message):
        agreement("t", **fields)
