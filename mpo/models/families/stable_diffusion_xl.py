"""Stable Diffusion XL: `StableDiffusionXLPipeline`. Two text encoders, and the picture's size as a condition.

The time ids say that a picture was neither cropped nor scaled, as the pipeline says by default.
"""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline
from jaxtyping import Float, Real
from torch import Tensor

from mpo.models.families import Conditioning, encode_latents
from mpo.models.families.stable_diffusion import lora_targets
from mpo.models.noise import diffusion_noise as add_noise

__all__ = ["add_noise", "encode_media", "encode_prompts", "lora_targets", "predict"]

GUIDANCE_PASSES = "together"


def encode_prompts(pipeline: StableDiffusionXLPipeline, prompts: Sequence[str]) -> Conditioning:
    texts: Any = list(prompts)  # typed as one text, but a list works
    embeddings, _, pooled, _ = pipeline.encode_prompt(
        texts, device=pipeline.device, num_images_per_prompt=1, do_classifier_free_guidance=False
    )
    return {"encoder_hidden_states": embeddings, "text_embeds": pooled}


def encode_media(pipeline: StableDiffusionXLPipeline, pixels: Float[Tensor, "B C H W"]) -> Float[Tensor, " B *chw"]:
    vae: Any = pipeline.vae
    overflows = vae.dtype == torch.float16 and getattr(vae.config, "force_upcast", False)
    if overflows:
        vae.to(torch.float32)
    latents = encode_latents(vae, pixels)
    if overflows:
        vae.to(torch.float16)
        latents = latents.to(torch.float16)
    if getattr(vae.config, "latents_mean", None) and getattr(vae.config, "latents_std", None):  # of some fine-tunes
        mean, std = (
            latents.new_tensor(each).view(1, -1, 1, 1) for each in (vae.config.latents_mean, vae.config.latents_std)
        )
        latents = (latents - mean * vae.config.scaling_factor) / std
    return latents


def predict(
    pipeline: StableDiffusionXLPipeline,
    noisy: Float[Tensor, " B *chw"],
    timesteps: Real[Tensor, " B"],
    conditioning: Conditioning,
) -> Float[Tensor, " B *chw"]:
    height, width = (side * pipeline.vae_scale_factor for side in noisy.shape[-2:])
    time_ids = noisy.new_tensor([[height, width, 0, 0, height, width]]).repeat(len(noisy), 1)
    return pipeline.unet(
        noisy,
        timesteps,
        encoder_hidden_states=conditioning["encoder_hidden_states"],
        added_cond_kwargs={"text_embeds": conditioning["text_embeds"], "time_ids": time_ids},
    ).sample
