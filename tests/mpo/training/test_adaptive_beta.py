import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpo.training.adaptive_beta import MEMORY, beta_of_step


def steps(margin_per_beta: float, count: int, beta: float = 100.0) -> list[dict[str, float]]:
    return [{"margin": margin_per_beta * beta, "beta": beta} for _ in range(count)]


def test_without_a_target_beta_stays():
    assert beta_of_step(steps(1.0, 5), beta=100.0, gradient_factor=None) == 100.0


def test_beta_is_where_the_factor_of_the_mean_margin_is_the_target():
    beta = beta_of_step(steps(0.05, 40), beta=100.0, gradient_factor=0.2)
    assert 1 / (1 + math.exp(beta * 0.05)) == pytest.approx(0.2)
    assert beta == pytest.approx(math.log(4) / 0.05)


def test_two_steps_by_hand():
    """0.1, then 0.05 with another beta: the mean is (0.99 * 0.1 + 0.05) / 1.99 = 0.074874, and log(4) / 0.074874 = 18.515."""
    history = [{"margin": 10.0, "beta": 100.0}, {"margin": 2.0, "beta": 40.0}]
    assert beta_of_step(history, beta=100.0, gradient_factor=0.2) == pytest.approx(18.515, abs=1e-3)


@pytest.mark.parametrize("margin", [0.0, -0.2, 0.001])
def test_margins_that_are_small_or_wrong_leave_the_largest_beta(margin):
    assert beta_of_step(steps(margin, 40), beta=100.0, gradient_factor=0.2) == 100.0
    assert beta_of_step([], beta=100.0, gradient_factor=0.2) == 100.0


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=50), st.floats(0.01, 0.49))
def test_beta_never_exceeds_the_recipes_and_never_vanishes(margins, target):
    history = [{"margin": margin * 10, "beta": 10.0} for margin in margins]
    found = beta_of_step(history, beta=10.0, gradient_factor=target)
    assert 0 < found <= 10.0


def test_what_is_forgotten_weighs_less_than_a_thousandth():
    old = steps(0.1, 1) + steps(0.05, MEMORY)
    assert beta_of_step(old, beta=100.0, gradient_factor=0.2) == beta_of_step(old[1:], beta=100.0, gradient_factor=0.2)
    assert 0.99**MEMORY < 1e-3
