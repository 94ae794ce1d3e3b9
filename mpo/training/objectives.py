"""Losses: tensors in, per-pair losses out. No model, no device, no randomness."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid, relu

# B pairs; a denoising error is a mean over the other axes of latents, in [0, inf)


@dataclass(frozen=True)
class PreferenceLoss:
    """What an objective says about B pairs. Implicit rewards carry gradients; log them detached."""

    loss: Float[Tensor, " B"]
    chosen_reward: Float[Tensor, " B"]  # beta-scaled log-ratio of policy to reference, up to a constant
    rejected_reward: Float[Tensor, " B"]

    @property
    def margin(self) -> Float[Tensor, " B"]:
        return self.chosen_reward - self.rejected_reward

    @property
    def accuracy(self) -> Float[Tensor, " B"]:
        """1 if the chosen has the higher reward, 1/2 at a tie (as before the first step), else 0."""
        return (self.margin.detach().sign() + 1) / 2


def denoising_error(prediction: Float[Tensor, "B ..."], target: Float[Tensor, "B ..."]) -> Float[Tensor, " B"]:
    """Mean squared error over all axes but the first, in float32 at least."""
    dtype = torch.promote_types(prediction.dtype, torch.float32)
    return (prediction.to(dtype) - target.to(dtype)).square().flatten(1).mean(dim=1)


def safe_scale(
    prediction: Float[Tensor, "_N ..."], target: Float[Tensor, "_N ..."], *, mu: float
) -> Float[Tensor, " B"]:
    """How much of the rejected's gradient a pair may take without the chosen's error rising (arXiv 2511.03317, output space),
    for a loss that is as steep in the one error as in the other.

    B chosen, then their B rejected. With residuals r_w and r_l of a pair: (1 - mu) |r_w|^2 / (r_w . r_l) if the two point the same
    way; else infinite. mu in [0, 1): 0 allows as much as keeps the chosen's error to first order, above it
    the error must fall. Here each pair has its own scale; the paper's code has one for the batch.
    """
    dtype = torch.promote_types(prediction.dtype, torch.float32)
    chosen, rejected = (prediction.detach().to(dtype) - target.to(dtype)).flatten(1).chunk(2)
    along = (chosen * rejected).sum(dim=1)
    allowed = (1 - mu) * chosen.square().sum(dim=1) / torch.where(along > 0, along, 1.0)
    return torch.where(along > 0, allowed, torch.inf)


def with_gradient_scaled(values: Float[Tensor, " B"], scale: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """The same values; what flows back through them is scaled."""
    return values.detach() + scale * (values - values.detach())


def with_safeguard(
    loss: Callable[..., PreferenceLoss],
    policy: Float[Tensor, "2 B"],
    *reference: Float[Tensor, " B"],
    scale: Float[Tensor, " B"],
    beta: float,
) -> PreferenceLoss:
    """An objective's loss, where the rejected's gradient is scaled by `safe_scale`, at most 1, in those pairs whose loss raises the
    rejected's error.

    MaPO is steeper in the one error than in the other, which changes the scale by the ratio of the two. IPO and label smoothing
    turn round where a margin is wider than they want it: they lower the rejected's error and raise the chosen's, which scaling the
    one alone would leave to rise further.
    """
    errors = policy[0].detach().requires_grad_(), policy[1].detach().requires_grad_()
    slope_chosen, slope_rejected = torch.autograd.grad(loss(*errors, *reference, beta=beta).loss.sum(), errors)
    raised = slope_rejected < 0
    allowed = (scale * slope_chosen / torch.where(raised, -slope_rejected, 1.0)).clamp(max=1.0)
    scaled = with_gradient_scaled(policy[1], torch.where(raised, allowed, 1.0))
    return loss(policy[0], scaled, *reference, beta=beta)


@dataclass(frozen=True)
class Objective:
    """A loss of this module with its settings fixed."""

    needs_reference: bool
    # (policy_chosen, policy_rejected[, reference_chosen, reference_rejected], beta=another than the recipe's)
    loss: Callable[..., PreferenceLoss]


def find_objective(name: str, *, beta: float, label_smoothing: float = 0.0) -> Objective:
    """An objective by name, a key of METHODS. Raises KeyError for any other."""
    return {
        "dpo": Objective(True, partial(diffusion_dpo, beta=beta, label_smoothing=label_smoothing)),
        "ipo": Objective(True, partial(diffusion_ipo, beta=beta)),
        "hinge": Objective(True, partial(diffusion_hinge, beta=beta)),
        "mapo": Objective(False, partial(mapo, beta=beta)),
    }[name]


def implicit_rewards(
    policy_chosen: Float[Tensor, " B"],
    policy_rejected: Float[Tensor, " B"],
    reference_chosen: Float[Tensor, " B"],
    reference_rejected: Float[Tensor, " B"],
    *,
    beta: float,
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """(chosen, rejected): -beta/2 (e_policy - e_ref), the inside of Diffusion-DPO's sigmoid (arXiv 2311.12908, eq. 14).

    The errors are means over all but the batch axis, and a pair shares noise and timestep. The paper's T w(lambda)
    is part of beta, as in its code.
    """
    return -beta / 2 * (policy_chosen - reference_chosen), -beta / 2 * (policy_rejected - reference_rejected)


def diffusion_dpo(
    policy_chosen: Float[Tensor, " B"],
    policy_rejected: Float[Tensor, " B"],
    reference_chosen: Float[Tensor, " B"],
    reference_rejected: Float[Tensor, " B"],
    *,
    beta: float,
    label_smoothing: float = 0.0,
) -> PreferenceLoss:
    """Diffusion-DPO on denoising errors of B pairs: -logsigmoid(margin of the implicit rewards).

    Equal policy and reference give log 2; swapping chosen and rejected flips the margin's sign. label_smoothing: the
    chance in [0, 1/2) that a pair's label is wrong (conservative DPO, E. Mitchell 2023, eq. 3).
    """
    errors = policy_chosen, policy_rejected, reference_chosen, reference_rejected
    chosen, rejected = implicit_rewards(*errors, beta=beta)
    margin = chosen - rejected
    loss = -(1 - label_smoothing) * logsigmoid(margin) - label_smoothing * logsigmoid(-margin)
    return PreferenceLoss(loss, chosen, rejected)


def diffusion_ipo(
    policy_chosen: Float[Tensor, " B"],
    policy_rejected: Float[Tensor, " B"],
    reference_chosen: Float[Tensor, " B"],
    reference_rejected: Float[Tensor, " B"],
    *,
    beta: float,
) -> PreferenceLoss:
    """IPO (arXiv 2310.12036, eq. 17) on denoising errors: the gap of log-ratios is pulled to 1 / (2 beta), not beyond.

    Multiplied by beta squared, so that its size does not depend on beta: (margin - 1/2)^2, 1/4 before the first step.
    """
    errors = policy_chosen, policy_rejected, reference_chosen, reference_rejected
    chosen, rejected = implicit_rewards(*errors, beta=beta)
    return PreferenceLoss((chosen - rejected - 0.5).square(), chosen, rejected)


def diffusion_hinge(
    policy_chosen: Float[Tensor, " B"],
    policy_rejected: Float[Tensor, " B"],
    reference_chosen: Float[Tensor, " B"],
    reference_rejected: Float[Tensor, " B"],
    *,
    beta: float,
) -> PreferenceLoss:
    """The hinge of SLiC (arXiv 2305.10425) on denoising errors: max(0, 1 - margin)."""
    errors = policy_chosen, policy_rejected, reference_chosen, reference_rejected
    chosen, rejected = implicit_rewards(*errors, beta=beta)
    return PreferenceLoss(relu(1 - (chosen - rejected)), chosen, rejected)


def mapo(
    policy_chosen: Float[Tensor, " B"], policy_rejected: Float[Tensor, " B"], *, beta: float, scale: float = 1000.0
) -> PreferenceLoss:
    """MaPO (arXiv 2406.06424): e(w) - beta logsigmoid(scale [phi(e(w)) - phi(e(l))]), phi(e) = (e/2) / (exp(e/2) - 1).

    Needs no reference. beta: weight of the preference beside the error of the chosen (0.1 in the paper's code);
    scale: the number of training timesteps there. Equal errors give e + beta log 2.
    """
    chosen, rejected = scale * _phi(policy_chosen), scale * _phi(policy_rejected)
    return PreferenceLoss(policy_chosen - beta * logsigmoid(chosen - rejected), chosen, rejected)


def _phi(error: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Bernoulli's function x / (exp(x) - 1) at x = error / 2 >= 0: falls from 1 at no error to 0."""
    x = error / 2
    small = x < 1e-2  # here the quotient's derivative would be the difference of two large numbers
    taylor = 1 - x / 2 + x.square() / 12 - x.square().square() / 720
    safe = torch.where(small, 1.0, x)  # torch.where's gradient is NaN if that of the unused branch is
    quotient = safe * torch.exp(-safe) / -torch.expm1(-safe)  # exp(-x): exp(x) is infinite from x = 89 in float32
    return torch.where(small, taylor, quotient)


def with_sft(outcome: PreferenceLoss, policy_chosen: Float[Tensor, " B"], weight: float) -> PreferenceLoss:
    """Adds weight x the chosen's denoising error: keeps the model close to the pictures that it should prefer."""
    return PreferenceLoss(outcome.loss + weight * policy_chosen, outcome.chosen_reward, outcome.rejected_reward)
