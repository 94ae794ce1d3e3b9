"""HunyuanVideo: `HunyuanVideoPipeline`. A flow with distilled guidance; latents (B, c, f, h, w) in patches of 1x2x2.

A language model reads the prompt within an instruction; CLIP gives one vector more.
"""

from collections.abc import Sequence
from typing import Any

from diffusers import HunyuanVideoPipeline
from jaxtyping import Float, Real
from torch import Tensor

from mpo.models.families import Conditioning, Configs, encode_latents
from mpo.models.families.stable_diffusion_3 import lora_targets
from mpo.models.noise import flow_noise as add_noise
from mpo.sizes import SizeRule

__all__ = ["add_noise", "encode_media", "encode_prompts", "lora_targets", "predict", "size_rule"]

SCHEDULE_ARGUMENTS = ("sigmas",)


def size_rule(configs: Configs) -> SizeRule:
    vae, denoiser = configs["vae"], configs["denoiser"]
    multiple = vae["spatial_compression_ratio"] * denoiser["patch_size"]
    return SizeRule("video", multiple, vae["temporal_compression_ratio"], 1, fps=24.0)


def encode_prompts(pipeline: HunyuanVideoPipeline, prompts: Sequence[str]) -> Conditioning:
    encoded: Any = pipeline.encode_prompt(list(prompts), device=pipeline.device)
    embeddings, pooled, mask = encoded
    return {
        "encoder_hidden_states": embeddings,
        "encoder_attention_mask": mask,
        "pooled_projections": pooled,
    }


def encode_media(pipeline: Any, pixels: Float[Tensor, "B F C H W"]) -> Float[Tensor, " B *chw"]:
    return encode_latents(pipeline.vae, pixels.movedim(1, 2))


def predict(
    pipeline: HunyuanVideoPipeline,
    noisy: Float[Tensor, " B *chw"],
    timesteps: Real[Tensor, " B"],
    conditioning: Conditioning,
) -> Float[Tensor, " B *chw"]:
    """`conditioning["guidance"]` (B,) is for networks with distilled guidance."""
    guidance = conditioning.get("guidance")
    return pipeline.transformer(
        hidden_states=noisy,
        timestep=timesteps.to(noisy.dtype),
        encoder_hidden_states=conditioning["encoder_hidden_states"],
        encoder_attention_mask=conditioning["encoder_attention_mask"].to(noisy.dtype),
        pooled_projections=conditioning["pooled_projections"],
        guidance=None if guidance is None else guidance.to(noisy.dtype) * 1000,
    ).sample
