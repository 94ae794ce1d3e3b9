"""Objectives where errors are very large or very small."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mpo.training.objectives import find_objective, mapo


def reward_and_slope(error: float, dtype: torch.dtype) -> tuple[float, float]:
    """MaPO's phi of an error, and its derivative as autograd has it."""
    errors = torch.tensor([error], dtype=dtype, requires_grad=True)
    reward = mapo(errors, torch.ones(1, dtype=dtype), beta=0.1, scale=1.0).chosen_reward
    (slope,) = torch.autograd.grad(reward, errors)
    return reward.item(), slope.item()


def exact(error: float) -> tuple[float, float]:
    """Phi and its derivative in float64, by series below 1e-3 and by the closed form else."""
    x = error / 2
    if x < 1e-3:
        return 1 - x / 2 + x * x / 12, (-1 / 2 + x / 6 - x**3 / 180) / 2
    if x > 500:
        return 0.0, 0.0  # exp(-500) is 1e-217
    d = math.expm1(x)
    return x / d, (1 / d - x * math.exp(x) / d**2) / 2


@given(st.floats(0, 1e6))
def test_mapos_reward_and_its_derivative_are_exact_at_any_error(error):
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 2e-4)):
        reward, slope = reward_and_slope(error, dtype)
        expected = exact(error)
        assert reward == pytest.approx(expected[0], abs=tolerance)
        assert slope == pytest.approx(expected[1], abs=tolerance)


@pytest.mark.parametrize("error", [0.0, 1e-12, 0.019, 0.0199999, 0.0200001, 0.5, 40.0, 200.0, 1400.0, 1e6])
def test_mapos_derivative_against_finite_differences(error):
    """About 0.02 the series hands over to the closed form."""
    step = 1e-4 * max(error, 1e-2)
    low, high = (reward_and_slope(error + sign * step, torch.float64)[0] for sign in (-1, 1))
    slope = reward_and_slope(error, torch.float64)[1]
    assert slope == pytest.approx((high - low) / (2 * step), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", ["dpo", "ipo", "hinge", "mapo"])
@given(w=st.floats(0, 1e6), l=st.floats(0, 1e6), beta=st.floats(1e-3, 5000))
def test_losses_and_gradients_are_finite_at_any_error(name, w, l, beta):  # noqa: E741
    objective = find_objective(name, beta=beta)
    errors = torch.tensor([[w], [l]], requires_grad=True)  # float32, as in training
    reference = (torch.tensor([1e6]), torch.tensor([0.0])) if objective.needs_reference else ()
    loss = objective.loss(*errors, *reference).loss
    loss.sum().backward()
    assert loss.isfinite().all()
    assert errors.grad is not None
    assert errors.grad.isfinite().all()
