"""A beta that follows the margins, so that pairs keep teaching: the gradient factor at the mean margin is led to a target.

The gradient of Diffusion-DPO's loss carries the factor sigmoid(-margin): one half before the first step, near 0 once margins
are wide, and then nothing is learnt any more. SimpleTuner's Flow-DPO adapts beta much like
this (`auto_beta`, from absolute margins and with a lower bound as well).
"""

import math
from collections.abc import Mapping, Sequence

DECAY = 0.99  # of the running mean of margins, by step: it lags behind margins that grow by about 100 steps
MEMORY = 700  # steps: what is older weighs less than a thousandth


def beta_of_step(history: Sequence[Mapping[str, float]], *, beta: float, gradient_factor: float | None) -> float:
    """The beta of the next step, from the steps before it (their `margin` and `beta`); so a resumed run has the same.

    beta: the largest, and the first. gradient_factor: the target, in (0, 1/2); None = beta as it is. While the running mean m of
    margin / beta is at most 0, or small, the largest; then the beta at which sigmoid(-beta m) is the target.
    """
    if gradient_factor is None:
        return beta
    mean, weight = 0.0, 0.0
    for step in history[-MEMORY:]:
        mean = DECAY * mean + (1 - DECAY) * step["margin"] / step["beta"]
        weight = DECAY * weight + (1 - DECAY)
    wanted = math.log((1 - gradient_factor) / gradient_factor)
    return beta if mean * beta <= wanted * weight else wanted * weight / mean
