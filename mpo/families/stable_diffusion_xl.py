"""Stable Diffusion XL: `StableDiffusionXLPipeline`. Two text encoders, and the picture's size as a condition.

Noise, targets and LoRA modules are those of Stable Diffusion. Pictures have the pipeline's own size: the time ids say
that nothing was cropped or scaled, as the pipeline says by default.
"""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline

from mpo.families import Conditioning
from mpo.families.stable_diffusion import add_noise, encode_latents, lora_targets

__all__ = ["add_noise", "encode_media", "encode_prompts", "lora_targets", "predict"]


def encode_prompts(pipeline: StableDiffusionXLPipeline, prompts: Sequence[str]) -> Conditioning:
    texts: Any = list(prompts)  # typed as one text, taken as many
    embeddings, _, pooled, _ = pipeline.encode_prompt(
        texts, device=pipeline.device, num_images_per_prompt=1, do_classifier_free_guidance=False
    )
    side = pipeline.default_sample_size * pipeline.vae_scale_factor
    time_ids = torch.tensor([[side, side, 0, 0, side, side]], dtype=embeddings.dtype, device=embeddings.device)
    return {
        "encoder_hidden_states": embeddings,
        "text_embeds": pooled,
        "time_ids": time_ids.repeat(len(prompts), 1),
    }


def encode_media(pipeline: StableDiffusionXLPipeline, pixels: torch.Tensor) -> torch.Tensor:
    vae: Any = pipeline.vae
    if vae.dtype == torch.float16 and getattr(vae.config, "force_upcast", False):  # overflows in half precision
        vae.to(torch.float32)
        latents = encode_latents(vae, pixels)
        vae.to(torch.float16)
        return latents
    return encode_latents(vae, pixels)


def predict(
    pipeline: StableDiffusionXLPipeline, noisy: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning
) -> torch.Tensor:
    return pipeline.unet(
        noisy,
        timesteps,
        encoder_hidden_states=conditioning["encoder_hidden_states"],
        added_cond_kwargs={"text_embeds": conditioning["text_embeds"], "time_ids": conditioning["time_ids"]},
    ).sample
