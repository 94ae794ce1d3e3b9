"""When training must stop: values that are not finite, and a model that diverges."""

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

from mpo import MpoError
from mpo.recipe import Train
from mpo.training.batches import Draw

NUM_SMOOTHED = 20  # steps over which errors are watched for growth


def refuse_divergence(
    history: Sequence[dict[str, Any]],
    settings: Train,
    draws: Sequence[Draw],
    *,
    scaled: bool,
) -> None:
    """Raises MpoError if loss or gradient is not finite, or the chosen's errors have grown too far.

    Grown: over the last steps the median error is above `max_error_ratio` times the reference's (without a reference,
    that of the first steps). An error that is not finite counts as infinite: growth if the policy's median is, and a
    failure of the model itself if the reference's is. Two medians of 0 (min-SNR gives pure noise no weight) are not growth;
    one that leaves 0 is. scaled: a loss scaler skips steps whose gradient overflows, so these are not failures.
    """
    now = history[-1]
    ids = ", ".join(str(draw.pair) for draw in draws[:8]) + (" ..." if len(draws) > 8 else "")
    remedy = "lower train.learning_rate or train.beta, or set model.dtype=float32"
    for key, words in (("loss", "loss"), *(() if scaled else (("grad_norm", "gradient norm"),))):
        if not math.isfinite(now[key]):
            raise MpoError(f"train: the {words} is {now[key]} at step {now['step'] - 1} (pairs {ids}); {remedy}")
    if len(history) < NUM_SMOOTHED:
        return
    recent = history[-NUM_SMOOTHED:]
    if not any(math.isfinite(m["grad_norm"]) for m in recent):
        raise MpoError(
            f"train: no gradient of the last {NUM_SMOOTHED} steps was finite, so none was taken; set train.mixed_precision=bf16 or model.dtype=float32"
        )
    before = (
        _median_error(recent, "reference_error")
        if "reference_error" in now
        else _median_error(history[:NUM_SMOOTHED], "chosen_error")
    )
    error = _median_error(recent, "chosen_error")
    if before == math.inf:
        raise MpoError(
            f"train: at step {now['step'] - 1} most denoising errors of the untuned model are not finite; set model.dtype=float32 or train.mixed_precision=bf16"
        )
    if error > settings.max_error_ratio * before:
        ratio = error / before if before else math.inf
        raise MpoError(
            f"train: at step {now['step'] - 1} the denoising error of the chosen is {ratio:.2f} times what it was before training (train.max_error_ratio={settings.max_error_ratio}): the model is diverging; "
            "lower train.learning_rate, or raise train.max_error_ratio to continue regardless"
        )


def _median_error(records: Sequence[dict[str, Any]], key: str) -> float:
    """In [0, inf]; NaN counts as inf, since it cannot be sorted."""
    return median(math.inf if math.isnan(record[key]) else record[key] for record in records)
