"""FLUX.1: `FluxPipeline`. A flow; latents go through the network in 2x2 patches; it may have distilled guidance.

Families exchange latents (B, c, h, w); they are packed into patches just before the network, and unpacked after it.
"""

from collections.abc import Sequence
from typing import Any

from diffusers import FluxPipeline
from jaxtyping import Float, Real
from torch import Tensor

from mpo.models.families import Conditioning
from mpo.models.families.stable_diffusion import encode_media
from mpo.models.families.stable_diffusion_3 import lora_targets, shift_mu, size_rule
from mpo.models.noise import flow_noise as add_noise
from mpo.sizes import Size

__all__ = [
    "add_noise",
    "encode_media",
    "encode_prompts",
    "lora_targets",
    "predict",
    "shift_mu",
    "size_rule",
    "unpack_latents",
]

SCHEDULE_ARGUMENTS = ("sigmas", "mu")


def encode_prompts(pipeline: FluxPipeline, prompts: Sequence[str]) -> Conditioning:
    embeddings: Any
    pooled: Any
    embeddings, pooled, _ = pipeline.encode_prompt(list(prompts), device=pipeline.device)
    return {"encoder_hidden_states": embeddings, "pooled_projections": pooled}


def predict(
    pipeline: FluxPipeline, noisy: Float[Tensor, " B *chw"], timesteps: Real[Tensor, " B"], conditioning: Conditioning
) -> Float[Tensor, " B *chw"]:
    """`conditioning["guidance"]` (B,) is for networks with distilled guidance."""
    batch, _, height, width = noisy.shape
    text = conditioning["encoder_hidden_states"]
    patches = pipeline.transformer(
        hidden_states=pack(pipeline, noisy),
        timestep=timesteps.to(noisy.dtype) / 1000,
        guidance=conditioning.get("guidance"),
        pooled_projections=conditioning["pooled_projections"],
        encoder_hidden_states=text,
        txt_ids=text.new_zeros(text.shape[1], 3),
        img_ids=pipeline._prepare_latent_image_ids(batch, height // 2, width // 2, noisy.device, noisy.dtype),
    ).sample
    return unpack(pipeline, patches, height, width)


def unpack_latents(pipeline: Any, packed: Float[Tensor, "B n d"], size: Size) -> Float[Tensor, " B *chw"]:
    scale = pipeline.vae_scale_factor
    return unpack(pipeline, packed, size.height // scale, size.width // scale)


def pack(pipeline: Any, latents: Float[Tensor, "B c h w"]) -> Float[Tensor, "B h*w//4 4*c"]:
    """Latents to 2x2 patches, by the pipeline's own code."""
    return pipeline._pack_latents(latents, *latents.shape)


def unpack(pipeline: Any, patches: Float[Tensor, "B n d"], height: int, width: int) -> Float[Tensor, " B *chw"]:
    """The inverse; height and width are the latents'. Qwen-Image keeps an axis of one frame before them."""
    scale = pipeline.vae_scale_factor
    return pipeline._unpack_latents(patches, height * scale, width * scale, scale)
