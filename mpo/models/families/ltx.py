"""LTX-Video: `LTXPipeline`. A flow that is shifted by length; the network is told the frames a second.

Families exchange latents (B, c, f, h, w); each of them is a token of the network. Versions 0.9.1 and later may add noise
before they decode, which training does not see.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from diffusers import LTXPipeline
from jaxtyping import Float, Real
from torch import Tensor

from mpo.models.families import Conditioning, Configs, mu_of_tokens
from mpo.models.families.stable_diffusion import lora_targets
from mpo.models.noise import flow_noise as add_noise
from mpo.sizes import Size, SizeRule

__all__ = [
    "add_noise",
    "encode_media",
    "encode_prompts",
    "lora_targets",
    "predict",
    "sampling_arguments",
    "shift_mu",
    "size_rule",
    "unpack_latents",
]

GUIDANCE_PASSES = "together"
SCHEDULE_ARGUMENTS = ("sigmas", "mu")


def size_rule(configs: Configs) -> SizeRule:
    vae = configs["vae"]
    halvings = 2 ** sum(vae["spatio_temporal_scaling"])
    scale = vae.get("spatial_compression_ratio") or vae["patch_size"] * halvings
    step = vae.get("temporal_compression_ratio") or vae["patch_size_t"] * halvings
    return SizeRule("video", scale * configs["denoiser"]["patch_size"], step, 1, fps=25.0)


def shift_mu(scheduler_config: Mapping[str, Any], latent_shape: Sequence[int]) -> float:
    """A token for each place of each latent frame."""
    _, frames, height, width = latent_shape
    return mu_of_tokens(scheduler_config, frames * height * width)


def encode_prompts(pipeline: LTXPipeline, prompts: Sequence[str]) -> Conditioning:
    encoded: Any = pipeline.encode_prompt(list(prompts), do_classifier_free_guidance=False, device=pipeline.device)
    embeddings, mask, _, _ = encoded
    return {"encoder_hidden_states": embeddings, "encoder_attention_mask": mask}


def encode_media(pipeline: Any, pixels: Float[Tensor, "B F C H W"]) -> Float[Tensor, " B *chw"]:
    vae = pipeline.vae
    latents = vae.encode(pixels.movedim(1, 2).to(vae.device, vae.dtype) * 2 - 1).latent_dist.mode()
    return pipeline._normalize_latents(latents, vae.latents_mean, vae.latents_std, vae.config.scaling_factor)


def predict(
    pipeline: LTXPipeline, noisy: Float[Tensor, " B *chw"], timesteps: Real[Tensor, " B"], conditioning: Conditioning
) -> Float[Tensor, " B *chw"]:
    """`conditioning["fps"]` (B,): the clips' frames a second."""
    frames, height, width = noisy.shape[2:]
    scale = pipeline.vae_spatial_compression_ratio
    fps = conditioning["fps"].view(-1, 1, 1, 1, 1)
    seconds: Any = pipeline.vae_temporal_compression_ratio / fps  # that a latent frame lasts
    prediction = pipeline.transformer(
        hidden_states=pipeline._pack_latents(noisy, *_patches(pipeline)),
        encoder_hidden_states=conditioning["encoder_hidden_states"],
        timestep=timesteps,
        encoder_attention_mask=conditioning["encoder_attention_mask"],
        num_frames=frames,
        height=height,
        width=width,
        rope_interpolation_scale=(seconds, scale, scale),
    ).sample
    return pipeline._unpack_latents(prediction, frames, height, width, *_patches(pipeline))


def _patches(pipeline: LTXPipeline) -> tuple[int, int]:
    """How many places of a side, and how many latent frames, are one token."""
    return pipeline.transformer.config.patch_size, pipeline.transformer.config.patch_size_t


def unpack_latents(pipeline: LTXPipeline, packed: Float[Tensor, "B n d"], size: Size) -> Float[Tensor, " B *chw"]:
    assert size.frames
    frames = (size.frames - 1) // pipeline.vae_temporal_compression_ratio + 1
    scale = pipeline.vae_spatial_compression_ratio
    return pipeline._unpack_latents(packed, frames, size.height // scale, size.width // scale, *_patches(pipeline))


def sampling_arguments(guidance_scale: float, num_prompts: int, fps: float | None) -> dict[str, Any]:
    arguments = {"guidance_scale": guidance_scale}
    return arguments if fps is None else arguments | {"frame_rate": fps}
