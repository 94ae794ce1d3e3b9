import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mpo.comparison.win_rates import outcomes, summarise, verdict_on

scores = arrays(np.float64, (6, 2), elements=st.integers(-2, 2).map(float))


def test_outcomes_by_hand():
    np.testing.assert_array_equal(
        outcomes(np.array([1.0, 2.0, 3.0, 2.634]), np.array([0.0, 2.0, 4.0, 2.626]), tie=0.01), [1, 0.5, 0, 0.5]
    )


@given(scores, scores)
def test_rates_are_symmetric_and_add_up(tuned, base):
    there = summarise(outcomes(tuned, base, tie=0.01), num_bootstrap=50, seed=0)
    back = summarise(outcomes(base, tuned, tie=0.01), num_bootstrap=50, seed=0)
    assert there["win_rate"] == pytest.approx(1 - back["win_rate"])
    assert there["tie_rate"] == back["tie_rate"]
    assert there["win_rate"] + there["loss_rate"] + there["tie_rate"] / 2 == pytest.approx(1)
    low, high = there["ci95"]
    assert 0 <= low <= high <= 1


def test_the_interval_covers_at_its_rate():
    """Of intervals from 60 prompts with a true win rate of 0.6, about 95 % hold 0.6."""
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(400):
        low, high = summarise((rng.random((60, 1)) < 0.6).astype(float), num_bootstrap=400, seed=seed)["ci95"]
        held += low <= 0.6 <= high
    assert 0.91 <= held / 400 <= 0.985


def test_of_one_prompt_nothing_is_known():
    """However often it was won: no verdict may be built on it."""
    rates = summarise(np.ones((1, 4)), num_bootstrap=100, seed=0)
    assert (rates["win_rate"], rates["ci95"]) == (1.0, [0.0, 1.0])
    assert verdict_on(rates, rates) == "agrees"


@pytest.mark.parametrize(
    ("own", "other", "verdict"),
    [
        ([0.6, 0.8], [0.55, 0.7], "confirms"),
        ([0.6, 0.8], [0.45, 0.7], "does not confirm"),
        ([0.6, 0.8], [0.2, 0.4], "contradicts"),
        ([0.4, 0.8], [0.45, 0.7], "agrees"),
        ([0.4, 0.8], [0.55, 0.7], "sees a gain where that judge does not"),
        ([0.4, 0.8], [0.1, 0.2], "sees a loss where that judge does not"),
        ([0.1, 0.3], [0.45, 0.55], "sees no loss where that judge does"),
        ([0.1, 0.3], [0.2, 0.4], "agrees"),
        ([0.1, 0.3], [0.6, 0.8], "contradicts"),
    ],
)
def test_what_another_judge_says_of_the_gain(own, other, verdict):
    assert verdict_on({"ci95": own}, {"ci95": other}) == verdict
