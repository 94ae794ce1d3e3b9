"""Losses: tensors in, per-pair losses out. No model, no device, no randomness."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid


@dataclass(frozen=True)
class PreferenceLoss:
    """What an objective says of B pairs. Implicit rewards carry gradients; log them detached."""

    loss: Float[Tensor, " B"]
    chosen_reward: Float[Tensor, " B"]  # beta-scaled log-ratio of policy to reference, up to a constant
    rejected_reward: Float[Tensor, " B"]

    @property
    def margin(self) -> Float[Tensor, " B"]:
        return self.chosen_reward - self.rejected_reward

    @property
    def accuracy(self) -> Float[Tensor, " B"]:
        """1 where the chosen is rewarded more, 1/2 at a tie (as before the first step), else 0."""
        return (self.margin.detach().sign() + 1) / 2


def denoising_error(prediction: Float[Tensor, "B ..."], target: Float[Tensor, "B ..."]) -> Float[Tensor, " B"]:
    """Mean squared error over all axes but the first, in float32 at least."""
    dtype = torch.promote_types(prediction.dtype, torch.float32)
    return (prediction.to(dtype) - target.to(dtype)).square().flatten(1).mean(dim=1)


def diffusion_dpo(
    policy_chosen: Float[Tensor, " B"],
    policy_rejected: Float[Tensor, " B"],
    reference_chosen: Float[Tensor, " B"],
    reference_rejected: Float[Tensor, " B"],
    *,
    beta: float,
) -> PreferenceLoss:
    """Diffusion-DPO on denoising errors of B pairs (arXiv 2311.12908, eq. 14).

    loss = -logsigmoid(-beta/2 [(e_policy(w) - e_policy(l)) - (e_ref(w) - e_ref(l))]), the errors being means over
    all but the batch axis and a pair sharing noise and timestep. Equal policy and reference give log 2; swapping
    chosen and rejected flips the margin's sign.
    """
    chosen = -beta / 2 * (policy_chosen - reference_chosen)
    rejected = -beta / 2 * (policy_rejected - reference_rejected)
    return PreferenceLoss(-logsigmoid(chosen - rejected), chosen, rejected)
