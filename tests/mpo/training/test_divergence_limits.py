"""When growth cannot be measured: errors of zero, and errors that are not finite."""

import math
from typing import Any

import pytest

from mpo import MpoError
from mpo.training.batches import Draw
from mpo.training.divergence import refuse_divergence
from tests.helpers.recipes import settings_of


def judge(chosen: list[float], reference: list[float], *, scaled: bool = True, **changes: Any) -> None:
    """Twenty steps of such errors, in turn; the loss is finite throughout."""
    history = [
        {
            "step": k + 1,
            "loss": 0.5,
            "grad_norm": 1.0,
            "chosen_error": chosen[k % len(chosen)],
            "reference_error": reference[k % len(reference)],
        }
        for k in range(20)
    ]
    refuse_divergence(history, settings_of(**changes), [{"pair_id": 0}], [Draw(0, 0)], scaled=scaled)


def test_two_zeros_are_no_growth_and_one_is():
    judge([0.0], [0.0])  # min-SNR gives pure noise no weight
    judge([0.0], [0.1])
    with pytest.raises(MpoError, match=r"is inf times what it was before training .*coming apart"):
        judge([0.1], [0.0])


@pytest.mark.parametrize("broken", [math.inf, math.nan])
def test_errors_that_are_not_finite_are_growth_or_a_broken_model(broken):
    with pytest.raises(MpoError, match=r"is inf times .*coming apart"):
        judge([broken], [0.1])
    for chosen in (0.1, broken):
        with pytest.raises(MpoError, match=r"errors of the untuned model are not finite; set model\.dtype=float32"):
            judge([chosen], [broken])


@pytest.mark.parametrize("broken", [math.inf, math.nan])
def test_a_few_broken_steps_among_many_change_nothing(broken):
    """A loss scaler skips them."""
    judge([broken, 0.1, 0.1, 0.1], [broken, 0.1, 0.1, 0.1])
    with pytest.raises(MpoError, match=r"4\.00 times"):
        judge([broken, 0.4, 0.4, 0.4], [0.1, 0.1, 0.1, broken])


def test_without_a_reference_the_same_holds():
    with pytest.raises(MpoError, match="not finite"):
        judge([math.inf], [math.inf], objective="mapo", beta=0.1)
    judge([0.0], [0.0], objective="mapo", beta=0.1)
