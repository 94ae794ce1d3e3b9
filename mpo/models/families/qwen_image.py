"""Qwen-Image: `QwenImagePipeline`. A flow; prompts of any length under a mask; latents in 2x2 patches, as with FLUX.1.

Its autoencoder is made for clips: a picture is a clip of one frame, and that axis is removed before training.
"""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import QwenImagePipeline
from jaxtyping import Float, Real
from torch import Tensor

from mpo.models.families import Conditioning, call_default, masked
from mpo.models.families.flux import pack, unpack
from mpo.models.families.stable_diffusion_3 import lora_targets, shift_mu, size_rule
from mpo.models.noise import flow_noise as add_noise
from mpo.sizes import Size

__all__ = [
    "add_noise",
    "encode_clips",
    "encode_media",
    "encode_prompts",
    "lora_targets",
    "predict",
    "sampling_arguments",
    "shift_mu",
    "size_rule",
    "unpack_latents",
]

GUIDANCE_PASSES = "in_turn"
SCHEDULE_ARGUMENTS = ("sigmas", "mu")


def encode_prompts(pipeline: QwenImagePipeline, prompts: Sequence[str]) -> Conditioning:
    length = call_default(pipeline, "max_sequence_length")  # encode_prompt's own default differs
    embeddings, mask = pipeline.encode_prompt(list(prompts), device=pipeline.device, max_sequence_length=length)
    return masked(embeddings, mask)


def encode_media(pipeline: QwenImagePipeline, pixels: Float[Tensor, "B C H W"]) -> Float[Tensor, " B *chw"]:
    return encode_clips(pipeline, pixels.unsqueeze(1)).squeeze(2)


def encode_clips(pipeline: Any, pixels: Float[Tensor, "B F C H W"]) -> Float[Tensor, " B *chw"]:
    """By an autoencoder that says each channel's mean and spread, as Wan's, too."""
    vae = pipeline.vae
    latents = vae.encode(pixels.movedim(1, 2).to(vae.device, vae.dtype) * 2 - 1).latent_dist.mode()
    mean, std = (
        torch.tensor(values).view(1, -1, 1, 1, 1).to(latents)
        for values in (vae.config.latents_mean, vae.config.latents_std)
    )
    return (latents - mean) / std


def predict(
    pipeline: QwenImagePipeline,
    noisy: Float[Tensor, " B *chw"],
    timesteps: Real[Tensor, " B"],
    conditioning: Conditioning,
) -> Float[Tensor, " B *chw"]:
    batch, _, height, width = noisy.shape
    mask = conditioning["encoder_hidden_states_mask"]
    patches = pipeline.transformer(
        hidden_states=pack(pipeline, noisy),
        timestep=timesteps.to(noisy.dtype) / 1000,
        encoder_hidden_states=conditioning["encoder_hidden_states"],
        encoder_hidden_states_mask=None if mask.all() else mask,
        img_shapes=[[(1, height // 2, width // 2)]] * batch,
    ).sample
    return unpack(pipeline, patches, height, width).squeeze(2)


def unpack_latents(pipeline: Any, packed: Float[Tensor, "B n d"], size: Size) -> Float[Tensor, " B *chw"]:
    scale = pipeline.vae_scale_factor
    return unpack(pipeline, packed, size.height // scale, size.width // scale).squeeze(2)


def sampling_arguments(guidance_scale: float, num_prompts: int, fps: float | None) -> dict[str, Any]:
    """The pipeline's guidance is "true_cfg_scale", and needs a negative prompt; its authors use a blank."""
    if guidance_scale <= 1:
        return {"true_cfg_scale": 1.0}
    return {"true_cfg_scale": guidance_scale, "negative_prompt": [" "] * num_prompts}
