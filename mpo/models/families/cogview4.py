"""CogView 4: `CogView4Pipeline`. A flow; GLM reads the prompt; the picture's size is a condition, as for Stable Diffusion XL.

Prompts have no mask: the pipeline pads those of a batch to the longest, and all to a multiple of 16 tokens, from the left, and
both networks read the padding. So each prompt is encoded by itself, as if it was sampled alone, and prompts of
different lengths go through the network apart.

The pipeline shifts the noise, not the timesteps that the network is told: those stay whole numbers, evenly spaced.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import CogView4Pipeline
from jaxtyping import Float, Real
from torch import Tensor

from mpo.models.families import Conditioning, by_length, padded
from mpo.models.families.stable_diffusion import encode_media, lora_targets
from mpo.models.families.stable_diffusion_3 import size_rule
from mpo.models.noise import flow_noise as add_noise
from mpo.models.noise import sampling_shift

__all__ = ["add_noise", "encode_media", "encode_prompts", "lora_targets", "predict", "shift_mu", "size_rule"]

SCHEDULE_ARGUMENTS = ("timesteps", "sigmas", "mu")
ONE_LENGTH_A_FORWARD = True


def shift_mu(scheduler_config: Mapping[str, Any], latent_shape: Sequence[int]) -> float:
    """With the square root of the number of tokens, one for each patch of 2x2."""
    from diffusers.pipelines.cogview4.pipeline_cogview4 import calculate_shift  # late, as FLUX.1's

    _, height, width = latent_shape
    return calculate_shift(
        (height * width) // 4,
        scheduler_config.get("base_image_seq_len", 256),
        scheduler_config.get("base_shift", 0.25),
        scheduler_config.get("max_shift", 0.75),
    )


def encode_prompts(pipeline: CogView4Pipeline, prompts: Sequence[str]) -> Conditioning:
    return padded(
        [
            pipeline.encode_prompt(prompt, device=pipeline.device, do_classifier_free_guidance=False)[0][0]
            for prompt in prompts
        ]
    )


def predict(
    pipeline: CogView4Pipeline,
    noisy: Float[Tensor, " B *chw"],
    timesteps: Real[Tensor, " B"],
    conditioning: Conditioning,
) -> Float[Tensor, " B *chw"]:
    text = conditioning["encoder_hidden_states"]
    size = text.new_tensor([side * pipeline.vae_scale_factor for side in noisy.shape[-2:]])
    told = _told_timesteps(pipeline.scheduler, timesteps, noisy.shape[1:])

    def forward(rows: list[int], length: int) -> Tensor:
        sizes = size.expand(len(rows), 2)
        return pipeline.transformer(
            hidden_states=noisy[rows],
            encoder_hidden_states=text[rows, :length],
            timestep=told[rows],
            original_size=sizes,
            target_size=sizes,
            crop_coords=torch.zeros_like(sizes),
        ).sample

    return by_length(conditioning["encoder_hidden_states_mask"], forward)


def _told_timesteps(scheduler: Any, timesteps: Real[Tensor, " B"], latent_shape: Sequence[int]) -> Float[Tensor, " B"]:
    """What the pipeline tells the network at a noise of timesteps / 1000: the timestep before the shift, a whole number."""
    a = sampling_shift(scheduler, shift_mu(scheduler.config, latent_shape))
    share = timesteps / 1000
    return (1000 * share / (a - (a - 1) * share)).round()
