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
    """At |margin| 1 there are a tie and two right orders: calling only the tie one is not to be had."""
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


def test_what_cannot_be_measured_is_said():
    with pytest.raises(RewardError, match="pair 3"):
        agreement("t", np.array([1.0, 1, 1, np.nan]), np.ones(4), GROUPS[:4])
    with pytest.raises(RewardError, match="at least two"):
        agreement("t", np.ones(4), np.ones(4), ["one"] * 4)
