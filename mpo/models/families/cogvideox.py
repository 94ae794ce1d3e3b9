"""CogVideoX 2b, 5b and 1.5: `CogVideoXPipeline`. v-prediction at zero terminal SNR; latents (B, f, c, h, w).

The autoencoder makes one latent frame of the first frame, and one of each four that follow.
"""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import CogVideoXPipeline
from jaxtyping import Float, Real
from torch import Tensor

from mpo.models.families import Conditioning, Configs, call_default, denoiser_config, encode_latents
from mpo.models.families.stable_diffusion import lora_targets
from mpo.models.noise import diffusion_noise as add_noise
from mpo.sizes import SizeRule

__all__ = ["add_noise", "encode_media", "encode_prompts", "lora_targets", "predict", "size_rule"]

GUIDANCE_PASSES = "together"


def size_rule(configs: Configs) -> SizeRule:
    """Frames 8k + 1: with an even number of latent frames the decoder gives more frames than were asked for.

    CogVideoX 1.5, whose patches span two latent frames, was trained at 16 frames a second, the others at 8.
    """
    vae, denoiser = configs["vae"], configs["denoiser"]
    scale = 2 ** (len(vae["block_out_channels"]) - 1)
    step = 2 * int(vae["temporal_compression_ratio"])
    return SizeRule("video", scale * denoiser["patch_size"], step, 1, fps=16.0 if denoiser.get("patch_size_t") else 8.0)


def encode_prompts(pipeline: CogVideoXPipeline, prompts: Sequence[str]) -> Conditioning:
    length = call_default(pipeline, "max_sequence_length")
    embeddings: Any
    embeddings, _ = pipeline.encode_prompt(
        list(prompts), do_classifier_free_guidance=False, max_sequence_length=length, device=pipeline.device
    )
    return {"encoder_hidden_states": embeddings}


def encode_media(pipeline: Any, pixels: Float[Tensor, "B F C H W"]) -> Float[Tensor, " B *chw"]:
    """CogVideoX 1.5 takes an even number of latent frames: the first comes twice, as in its authors' training.

    Its pipeline drops that one before it decodes.
    """
    latents = encode_latents(pipeline.vae, pixels.movedim(1, 2)).movedim(1, 2)
    patch = denoiser_config(pipeline).get("patch_size_t")
    missing = -latents.shape[1] % patch if patch else 0
    return torch.cat([latents[:, :1]] * missing + [latents], dim=1)


def predict(
    pipeline: CogVideoXPipeline,
    noisy: Float[Tensor, " B *chw"],
    timesteps: Real[Tensor, " B"],
    conditioning: Conditioning,
) -> Float[Tensor, " B *chw"]:
    config: Any = pipeline.transformer.config
    _, frames, _, height, width = noisy.shape
    rotary = None
    if config.use_rotary_positional_embeddings:
        scale = pipeline.vae_scale_factor_spatial
        rotary = pipeline._prepare_rotary_positional_embeddings(height * scale, width * scale, frames, noisy.device)
    return pipeline.transformer(
        hidden_states=noisy,
        encoder_hidden_states=conditioning["encoder_hidden_states"],
        timestep=timesteps,
        image_rotary_emb=rotary,
    ).sample
