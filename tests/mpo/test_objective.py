import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mpo.objective import denoising_error, diffusion_dpo

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
