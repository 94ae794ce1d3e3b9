"""When growth cannot be measured: errors of zero, and errors that are not finite."""

import math
from typing import Any

import pytest

from mpo import MpoError
from mpo.stages.train import train
from mpo.training.batches import Draw
from mpo.training.divergence import refuse_divergence
from tests.helpers.recipes import settings_of
from tests.helpers.runs import log_of, trainable


def metrics(loss: float = 0.7, error: float = 0.1, grad_norm: float = 1.0, step: int = 1) -> dict:
    return {"step": step, "loss": loss, "chosen_error": error, "reference_error": 0.1, "grad_norm": grad_norm}


def test_a_model_that_comes_apart_is_stopped():
    draws = [Draw(3, 0)]
    healthy = [metrics(step=k) for k in range(40)]
    refuse_divergence(healthy, settings_of(), draws, scaled=False)
    growing = [*healthy, *(metrics(error=0.35, step=40 + k) for k in range(20))]
    with pytest.raises(
        MpoError, match=r"error of the chosen is 3.50 times .*max_error_ratio=3.0.*lower train.learning_rate"
    ):
        refuse_divergence(growing, settings_of(), draws, scaled=False)
    refuse_divergence(growing, settings_of(max_error_ratio=4.0), draws, scaled=False)
    refuse_divergence([*healthy, metrics(error=9.0)], settings_of(), draws, scaled=False)  # one bad batch
    with pytest.raises(MpoError, match=r"gradient norm is nan at step 0 \(pairs 3\)"):
        refuse_divergence([metrics(grad_norm=float("nan"))], settings_of(), draws, scaled=False)
    overflown = [metrics(grad_norm=float("inf"))] * 20
    refuse_divergence(overflown[:19], settings_of(), draws, scaled=True)
    with pytest.raises(MpoError, match="no gradient of the last 20 steps was finite"):
        refuse_divergence(overflown, settings_of(), draws, scaled=True)


def test_without_a_reference_the_first_steps_are_the_measure():
    def grown(by: float) -> list[dict]:
        errors = [0.1] * 20 + [0.1 * by] * 20
        return [{"step": 1, "loss": 0.7, "chosen_error": error, "grad_norm": 1.0} for error in errors]

    settings = settings_of(objective="mapo")
    refuse_divergence(grown(2.0), settings, [Draw(0, 0)], scaled=False)
    with pytest.raises(MpoError, match=r"4\.00 times"):
        refuse_divergence(grown(4.0), settings, [Draw(0, 0)], scaled=False)


def test_a_far_too_high_rate_is_stopped_in_a_real_run(finished, fields, tmp_path):
    fields["train"] |= {
        "num_steps": 60,
        "checkpoint_interval_steps": 60,
        "learning_rate": 3.0,
        "batch_size": 2,
        "micro_batch_size": 2,
    }
    run = trainable(finished, tmp_path / "run", fields)
    with pytest.raises(MpoError, match=r"diverging|is nan|is inf"):
        train(run.folder)
    assert len(log_of(run)) < 60


def judge(chosen: list[float], reference: list[float] | None = None, *, scaled: bool = True, **changes: Any) -> None:
    """Twenty steps of such errors, in turn; the loss is finite throughout."""
    history = [
        {
            "step": k + 1,
            "loss": 0.5,
            "grad_norm": 1.0,
            "chosen_error": chosen[k % len(chosen)],
            **({"reference_error": reference[k % len(reference)]} if reference else {}),
        }
        for k in range(20)
    ]
    refuse_divergence(history, settings_of(**changes), [Draw(0, 0)], scaled=scaled)


def test_two_zeros_are_no_growth_and_one_is():
    judge([0.0], [0.0])  # min-SNR gives pure noise no weight
    judge([0.0], [0.1])
    with pytest.raises(MpoError, match=r"is inf times what it was before training .*diverging"):
        judge([0.1], [0.0])


@pytest.mark.parametrize("broken", [math.inf, math.nan])
def test_errors_that_are_not_finite_are_growth_or_a_broken_model(broken):
    with pytest.raises(MpoError, match=r"is inf times .*diverging"):
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
        judge([math.inf], objective="mapo", beta=0.1)
    judge([0.0], objective="mapo", beta=0.1)
