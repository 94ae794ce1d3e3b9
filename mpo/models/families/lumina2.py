"""Lumina-Image 2.0: `Lumina2Pipeline`. A flow whose network has the time and the sign of its prediction the other way round.

Gemma 2 reads the prompt after the pipeline's own instruction. Truncating and normalising guidance is the pipeline's affair:
training is without guidance.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from diffusers import Lumina2Pipeline
from jaxtyping import Float, Real
from torch import Tensor

from mpo.models.families import Conditioning, encode_masked_prompts, mu_of_tokens
from mpo.models.families.stable_diffusion import encode_media, lora_targets
from mpo.models.families.stable_diffusion_3 import size_rule
from mpo.models.noise import flow_noise as add_noise

__all__ = ["add_noise", "encode_media", "encode_prompts", "lora_targets", "predict", "shift_mu", "size_rule"]

GUIDANCE_PASSES = "in_turn"
SCHEDULE_ARGUMENTS = ("sigmas", "mu")


def shift_mu(scheduler_config: Mapping[str, Any], latent_shape: Sequence[int]) -> float:
    """The pipeline takes the number of channels for the number of tokens; what it samples with is what counts here."""
    return mu_of_tokens(scheduler_config, latent_shape[0])


def encode_prompts(pipeline: Lumina2Pipeline, prompts: Sequence[str]) -> Conditioning:
    return encode_masked_prompts(pipeline, prompts, "max_sequence_length")


def predict(
    pipeline: Lumina2Pipeline,
    noisy: Float[Tensor, " B *chw"],
    timesteps: Real[Tensor, " B"],
    conditioning: Conditioning,
) -> Float[Tensor, " B *chw"]:
    """The network's own answer is the way from the noise to the picture, at a time that is 1 where the noise ends."""
    return -pipeline.transformer(
        hidden_states=noisy,
        timestep=1 - timesteps / 1000,
        encoder_hidden_states=conditioning["encoder_hidden_states"],
        encoder_attention_mask=conditioning["encoder_attention_mask"],
    ).sample
