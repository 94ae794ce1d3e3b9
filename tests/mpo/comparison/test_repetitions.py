import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mpo.comparison.repetitions import mean_of, needed, paired_difference, unpaired_difference

values = arrays(np.float64, st.integers(2, 8), elements=st.floats(0, 1))


def test_an_interval_by_hand():
    # 0.6, 0.7, 0.8: standard deviation 0.1, t(0.975, 2) = 4.3027.
    found = mean_of(np.array([0.6, 0.7, 0.8]))
    assert (found.mean, found.count) == (pytest.approx(0.7), 3)
    assert found.high - found.mean == pytest.approx(4.3027 * 0.1 / math.sqrt(3), rel=1e-4)
    assert mean_of(np.array([0.6])).low == -math.inf


def test_a_paired_difference_by_hand():
    # Differences 0.1, 0.2, 0.3: mean 0.2, deviation 0.1, t = 0.2 / (0.1 / sqrt 3) = 3.464, p = 0.0742 with 2 degrees of freedom.
    found = paired_difference(np.array([0.5, 0.6, 0.4]), np.array([0.6, 0.8, 0.7]))
    assert found.mean == pytest.approx(0.2)
    assert found.effect == pytest.approx(2.0)
    assert found.p == pytest.approx(0.0742, abs=1e-4)
    assert found.verdict == "not settled"
    assert (found.low, found.high) == (pytest.approx(0.2 - 0.2484, abs=1e-4), pytest.approx(0.2 + 0.2484, abs=1e-4))
    assert found.needed == needed(2.0) == 5


def test_welchs_difference_by_hand():
    # Means 0.5 and 0.8, variances 0.01 and 0.04, three of each: standard error sqrt(0.05 / 3), 2.94 degrees of freedom.
    first, second = np.array([0.4, 0.5, 0.6]), np.array([0.6, 0.8, 1.0])
    found = unpaired_difference(first, second)
    assert found.mean == pytest.approx(0.3)
    assert found.effect == pytest.approx(0.3 / math.sqrt(0.025))
    assert found.p == pytest.approx(0.1047, abs=1e-3)
    assert not found.paired


@pytest.mark.parametrize(("effect", "count"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)])
def test_how_many_repetitions_settle_an_effect(effect, count):
    """As tables of the power of the paired t test have it (Cohen 1988)."""
    assert needed(effect) == needed(-effect) == count


@pytest.mark.parametrize(("effect", "count"), [(0.2, 394), (0.5, 64), (0.8, 26), (1.0, 17)])
def test_how_many_of_each_of_two_independent_arms_settle_an_effect(effect, count):
    """As tables of the power of the t test for two samples have it (Cohen 1988)."""
    assert needed(effect, arms=2) == needed(-effect, arms=2) == count


def test_an_effect_of_nothing_is_never_settled():
    assert needed(0.0) is None
    assert needed(1e-4) is None
    assert needed(0.0094) == 88_831  # below the limit of 100,000
    assert needed(math.nan) is None


def test_the_count_is_what_simulation_finds():
    rng = np.random.default_rng(0)
    draws = rng.normal(1.0, 1.0, (800, 10))  # as many as the table says
    settled = [paired_difference(np.zeros(len(gaps)), gaps).verdict == "higher" for gaps in draws]
    assert np.mean(settled) == pytest.approx(0.8, abs=0.05)


@given(values, values)
def test_swapping_arms_flips_the_sign(first, second):
    size = min(len(first), len(second))
    for test in (paired_difference, unpaired_difference):
        there, back = test(first[:size], second[:size]), test(second[:size], first[:size])
        assert there.mean == pytest.approx(-back.mean)
        assert there.low == pytest.approx(-back.high) or not math.isfinite(there.low)
        assert there.needed == back.needed
        assert {there.verdict, back.verdict} in ({"not settled"}, {"higher", "lower"})


def test_one_repetition_settles_nothing():
    for test in (paired_difference, unpaired_difference):
        found = test(np.array([0.5]), np.array([0.9]))
        assert (found.mean, found.verdict, found.needed) == (pytest.approx(0.4), "not settled", None)
