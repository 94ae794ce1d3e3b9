"""Objectives where errors are very large or very small."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mpo.training.objectives import (
    denoising_error,
    diffusion_dpo,
    diffusion_hinge,
    diffusion_ipo,
    find_objective,
    mapo,
    safe_scale,
    with_safeguard,
    with_sft,
)

error = st.floats(0, 4)


beta = st.floats(0.1, 5000)


def one(value: float) -> torch.Tensor:
    return torch.tensor([value], dtype=torch.float64)


def test_by_hand():
    # beta/2 = 5; chosen improves by 0.1, rejected worsens by 0.3: margin = 5 * 0.4 = 2.
    outcome = diffusion_dpo(one(0.4), one(0.8), one(0.5), one(0.5), beta=10)
    assert outcome.chosen_reward.item() == pytest.approx(0.5)
    assert outcome.rejected_reward.item() == pytest.approx(-1.5)
    assert outcome.loss.item() == pytest.approx(math.log(1 + math.exp(-2)))
    assert outcome.accuracy.item() == 1


@given(error, error, beta)
def test_policy_equal_to_reference_gives_log_2(w, l, b):  # noqa: E741
    outcome = diffusion_dpo(one(w), one(l), one(w), one(l), beta=b)
    assert outcome.loss.item() == pytest.approx(math.log(2))
    assert outcome.accuracy.item() == 0.5


@given(error, error, error, error, beta)
def test_swapping_a_pair_flips_the_sign(pw, pl, rw, rl, b):
    a = diffusion_dpo(one(pw), one(pl), one(rw), one(rl), beta=b)
    c = diffusion_dpo(one(pl), one(pw), one(rl), one(rw), beta=b)
    assert a.margin.item() == pytest.approx(-c.margin.item())
    assert a.loss.item() - c.loss.item() == pytest.approx(-a.margin.item(), abs=1e-6)


def test_gradient_against_finite_differences():
    errors = torch.rand(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    reference = torch.rand(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.autograd.gradcheck(lambda e: diffusion_dpo(e[0], e[1], reference[0], reference[1], beta=20).loss, (errors,))


def test_error_is_a_mean_over_all_but_the_batch_axis_in_float32():
    prediction, target = torch.zeros(2, 3, 4, 5), torch.zeros(2, 3, 4, 5)
    target[1] = 2.0
    torch.testing.assert_close(denoising_error(prediction, target), torch.tensor([0.0, 4.0]))
    assert denoising_error(prediction.bfloat16(), target.bfloat16()).dtype == torch.float32
    video = torch.ones(2, 3, 4, 5, 6)
    assert denoising_error(video, video).shape == (2,)


def test_the_others_by_hand():
    # The pair of test_by_hand: margin 2.
    errors = one(0.4), one(0.8), one(0.5), one(0.5)
    assert diffusion_ipo(*errors, beta=10).loss.item() == pytest.approx(1.5**2)
    assert diffusion_hinge(*errors, beta=10).loss.item() == 0
    assert diffusion_hinge(*errors, beta=2.5).loss.item() == pytest.approx(0.5)
    smoothed = diffusion_dpo(*errors, beta=10, label_smoothing=0.1).loss.item()
    assert smoothed == pytest.approx(0.9 * math.log(1 + math.exp(-2)) + 0.1 * math.log(1 + math.exp(2)))
    # phi(0.4) = 0.2 / (e^0.2 - 1) = 0.903331, phi(0.8) = 0.4 / (e^0.4 - 1) = 0.813298; 10 times their gap: 0.900331.
    outcome = mapo(one(0.4), one(0.8), beta=0.1, scale=10)
    assert outcome.margin.item() == pytest.approx(0.900331, abs=1e-5)
    assert outcome.loss.item() == pytest.approx(0.4 + 0.1 * math.log(1 + math.exp(-0.900331)), abs=1e-6)
    assert with_sft(diffusion_hinge(*errors, beta=10), one(0.4), 0.5).loss.item() == pytest.approx(0.2)


@given(error, error, beta)
def test_before_the_first_step(w, l, b):  # noqa: E741
    same = one(w), one(l), one(w), one(l)
    assert diffusion_ipo(*same, beta=b).loss.item() == pytest.approx(0.25)
    assert diffusion_hinge(*same, beta=b).loss.item() == pytest.approx(1)
    assert diffusion_dpo(*same, beta=b, label_smoothing=0.2).loss.item() == pytest.approx(math.log(2))
    assert mapo(one(w), one(w), beta=0.1).loss.item() == pytest.approx(w + 0.1 * math.log(2))


@given(error, error, error, error, st.floats(0.1, 50))
def test_all_agree_on_which_is_rewarded_more(pw, pl, rw, rl, b):
    errors = one(pw), one(pl), one(rw), one(rl)
    margins = [f(*errors, beta=b).margin.item() for f in (diffusion_dpo, diffusion_ipo, diffusion_hinge)]
    assert margins[0] == margins[1] == margins[2]
    free = mapo(one(pw), one(pl), beta=0.1).margin.item()
    assert (free > 0) == (pw < pl) or free == pytest.approx(0, abs=1e-6)


@given(error, error, st.floats(0.01, 0.4))
def test_smoothed_labels_are_a_mixture_of_both(w, l, smoothing):  # noqa: E741
    def loss(chosen: float, rejected: float, **options: float) -> float:
        return diffusion_dpo(one(chosen), one(rejected), one(1.0), one(1.0), beta=3, **options).loss.item()

    mixed = (1 - smoothing) * loss(w, l) + smoothing * loss(l, w)
    assert loss(w, l, label_smoothing=smoothing) == pytest.approx(mixed)


def test_phi_is_smooth_at_no_error():
    errors = torch.tensor([0.0, 1e-9, 1e-5, 1e-3], dtype=torch.float64, requires_grad=True)
    rewards = mapo(errors, errors, beta=0.1, scale=1.0).chosen_reward
    torch.testing.assert_close(rewards, 1 - errors / 4, atol=1e-6, rtol=0)
    rewards.sum().backward()
    torch.testing.assert_close(errors.grad, torch.full_like(errors, -0.25), atol=1e-3, rtol=0)


@pytest.mark.parametrize("objective", [diffusion_ipo, diffusion_hinge, diffusion_dpo])
def test_gradients_against_finite_differences(objective):
    options = {"label_smoothing": 0.1} if objective is diffusion_dpo else {}
    errors = torch.rand(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    reference = torch.rand(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.autograd.gradcheck(lambda e: objective(e[0], e[1], *reference, beta=1.3, **options).loss, (errors,))
    torch.autograd.gradcheck(lambda e: mapo(e[0], e[1], beta=0.1, scale=7.0).loss, (errors,))


@pytest.mark.parametrize("name", ["dpo", "ipo", "hinge", "mapo"])
@given(w=st.floats(0.01, 2), l=st.floats(0.01, 2))
def test_descent_betters_the_chosen_and_worsens_the_rejected(name, w, l):  # noqa: E741
    """At the first step, where the policy is the reference."""
    errors = torch.tensor([w, l], dtype=torch.float64, requires_grad=True)
    objective = find_objective(name, beta=0.5)
    reference = (one(w), one(l)) if objective.needs_reference else ()
    objective.loss(errors[:1], errors[1:], *reference).loss.sum().backward()
    assert errors.grad is not None
    assert errors.grad[0] > 0
    assert errors.grad[1] <= 0
    assert errors.grad[1] < 0 or name == "mapo"  # which has underflown where the gap is wide


def test_an_unknown_objective():
    with pytest.raises(KeyError):
        find_objective("ppo", beta=1.0)


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
    if x > 300:
        return 0.0, 0.0  # exp(-300) is 1e-130
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


def test_the_safe_scale_by_hand():
    # |r_w|^2 = 4; r_w . r_l = 8, -8, 0, 2 in the four pairs.
    target = torch.zeros(8, 2, 1)
    chosen = torch.tensor([[2.0, 0.0]] * 4)
    rejected = torch.tensor([[4.0, 1.0], [-4.0, 1.0], [0.0, 5.0], [1.0, 9.0]])
    prediction = torch.cat([chosen, rejected])[..., None]
    torch.testing.assert_close(safe_scale(prediction, target, mu=0.0), torch.tensor([0.5, torch.inf, torch.inf, 2.0]))
    torch.testing.assert_close(safe_scale(prediction, target, mu=0.6), torch.tensor([0.2, torch.inf, torch.inf, 0.8]))
    assert safe_scale(prediction.bfloat16(), target, mu=0.6).dtype == torch.float32


@pytest.mark.parametrize("name", ["dpo", "ipo", "hinge", "mapo"])
@given(seed=st.integers(0, 10_000), mu=st.sampled_from([0.0, 0.3, 0.9]), size=st.sampled_from([1.0, 10.0]))
def test_a_safe_step_does_not_raise_the_chosens_error(name, seed, mu, size):
    """Where the output is the parameter itself, the first order is known: the error falls by mu times what it would alone."""
    objective = find_objective(name, beta=2.0)
    reference = (one(size**2), one(size**2)) if objective.needs_reference else ()
    generator = torch.Generator().manual_seed(seed)
    parameter = (size * torch.randn(3, dtype=torch.float64, generator=generator)).requires_grad_()
    target = size * torch.randn(2, 3, dtype=torch.float64, generator=generator)
    prediction = torch.stack([parameter, parameter])
    errors = denoising_error(prediction, target)
    scale = safe_scale(prediction, target, mu=mu)
    outcome = with_safeguard(objective.loss, errors[:, None], *reference, scale=scale, beta=2.0)
    (direction,) = torch.autograd.grad(outcome.loss.sum(), parameter, retain_graph=True)
    alone = torch.autograd.grad(denoising_error(parameter[None], target[:1]).sum(), parameter)[0]
    free_errors = errors.detach()[:, None].requires_grad_()
    free = objective.loss(*free_errors, *reference, beta=2.0)
    (slopes,) = torch.autograd.grad(free.loss.sum(), free_errors)
    if slopes[1] < 0:  # else the loss has turned round
        change = -(direction @ alone).item()  # of the chosen's error, along the step
        alone_change = -slopes[0].item() * (alone @ alone).item()
        assert change <= mu * alone_change + 1e-9 * abs(alone_change)
    assert outcome.loss.item() == pytest.approx(free.loss.item())  # the loss itself is as it was


@pytest.mark.parametrize(
    ("objective", "margin"),
    [
        (partial(diffusion_dpo, label_smoothing=0.1), 3.0),  # it turns round at log 9 = 2.2
        (diffusion_ipo, 1.0),  # at 1/2
    ],
)
def test_a_loss_that_has_turned_round_is_not_scaled(objective, margin):
    """Where it lowers the rejected's error and raises the chosen's, to scale the one would let the other rise further."""
    scale, reference = torch.tensor([0.25]), (one(1.0), one(1.0))
    for lead in (margin, 0.1):
        errors = torch.tensor(
            [[1 - lead], [1 + lead]], dtype=torch.float64, requires_grad=True
        )  # beta 1: the margin is the lead
        outcome = with_safeguard(objective, errors, *reference, scale=scale, beta=1.0)
        free = objective(*errors, *reference, beta=1.0)
        ours, plain = (torch.autograd.grad(each.loss.sum(), errors)[0].flatten() for each in (outcome, free))
        assert outcome.loss.item() == free.loss.item()
        assert ours[0] == plain[0]
        assert ours[1] == plain[1] * (0.25 if lead == 0.1 else 1.0)
        assert (plain[1] > 0) == (lead == margin)
