"""When training must stop: what is not finite, and a model that comes apart."""

import math
from collections.abc import Sequence
from statistics import median

from mpo import MpoError
from mpo.recipe import Train
from mpo.training.batches import Draw

NUM_SMOOTHED = 20  # steps over which growing errors are looked for


def refuse_divergence(
    history: Sequence[dict], settings: Train, pairs: Sequence[dict], draws: Sequence[Draw], *, scaled: bool
) -> None:
    """Raises MpoError where loss or gradient is not finite, or the chosen's errors have grown too far.

    Grown: over the last steps the median error is `max_error_ratio` times the reference's (without a reference, that of
    the first steps). scaled: a loss scaler skips steps whose gradient overflows, so that they are no failure.
    """
    now = history[-1]
    ids = ", ".join(str(pairs[draw.pair]["pair_id"]) for draw in draws[:8]) + (" ..." if len(draws) > 8 else "")
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
    before = recent if settings.objective != "mapo" else history[:NUM_SMOOTHED]
    ratio = median(m["chosen_error"] for m in recent) / median(m["reference_error"] for m in before)
    if ratio > settings.max_error_ratio:
        raise MpoError(
            f"train: at step {now['step'] - 1} the denoising error of the chosen is {ratio:.2f} times what it was before training (train.max_error_ratio={settings.max_error_ratio}): the model is coming apart; "
            "lower train.learning_rate, or raise train.max_error_ratio to go on regardless"
        )
