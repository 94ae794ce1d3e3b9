"""Sana: `SanaPipeline`. A flow on the latents of a deep-compression autoencoder; prompts go with an instruction."""

from collections.abc import Sequence
from typing import Any

from diffusers import SanaPipeline
from jaxtyping import Float, Real
from torch import Tensor

from mpo.models.families import Conditioning, Configs, encode_masked_prompts
from mpo.models.families.stable_diffusion import encode_media, lora_targets
from mpo.models.noise import flow_noise as add_noise
from mpo.sizes import SizeRule

__all__ = ["add_noise", "encode_media", "encode_prompts", "lora_targets", "predict", "size_rule"]

GUIDANCE_PASSES = "together"


def size_rule(configs: Configs) -> SizeRule:
    """The autoencoder's 32 pixels."""
    return SizeRule("image", 32)


def encode_prompts(pipeline: SanaPipeline, prompts: Sequence[str]) -> Conditioning:
    return encode_masked_prompts(pipeline, prompts, "clean_caption", "max_sequence_length", "complex_human_instruction")


def predict(
    pipeline: SanaPipeline, noisy: Float[Tensor, " B *chw"], timesteps: Real[Tensor, " B"], conditioning: Conditioning
) -> Float[Tensor, " B *chw"]:
    config: Any = pipeline.transformer.config
    return pipeline.transformer(
        noisy,
        encoder_hidden_states=conditioning["encoder_hidden_states"],
        encoder_attention_mask=conditioning["encoder_attention_mask"],
        timestep=timesteps * config.timestep_scale,
    ).sample
