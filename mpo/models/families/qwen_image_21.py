"""Qwen-Image 2.1: `QwenImage21Pipeline`. A flow; words and picture are one sequence; latents are not in patches.

The network places the picture behind the longest prompt of a batch. So prompts of different lengths go through it apart, each as if
sampled alone. Its autoencoder has a fourth channel, opacity: pictures are encoded as opaque.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import QwenImage21Pipeline
from jaxtyping import Float, Real
from torch import Tensor

from mpo.models.families import Conditioning, Configs, by_length, masked, mu_of_tokens
from mpo.models.families.qwen_image import encode_clips, sampling_arguments
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

SCHEDULE_ARGUMENTS = ("sigmas", "mu")
ONE_LENGTH_A_FORWARD = True


def size_rule(configs: Configs) -> SizeRule:
    """The network reads the words' places in groups of 2x2 latents, each of 16 pixels."""
    return SizeRule("image", 32)


def shift_mu(scheduler_config: Mapping[str, Any], latent_shape: Sequence[int]) -> float:
    """A token for each place of the latents."""
    _, height, width = latent_shape
    return mu_of_tokens(scheduler_config, height * width)


def encode_prompts(pipeline: QwenImage21Pipeline, prompts: Sequence[str]) -> Conditioning:
    embeddings, mask, _ = pipeline.encode_prompt(list(prompts), device=pipeline.device)
    return masked(embeddings, mask)


def encode_media(pipeline: QwenImage21Pipeline, pixels: Float[Tensor, "B C H W"]) -> Float[Tensor, " B *chw"]:
    opaque = torch.cat([pixels, torch.ones_like(pixels[:, :1])], dim=1)
    return encode_clips(pipeline, opaque.unsqueeze(1)).squeeze(2)


def predict(
    pipeline: QwenImage21Pipeline,
    noisy: Float[Tensor, " B *chw"],
    timesteps: Real[Tensor, " B"],
    conditioning: Conditioning,
) -> Float[Tensor, " B *chw"]:
    _, _, height, width = noisy.shape

    def forward(rows: list[int], length: int) -> Tensor:
        slots = torch.ones(len(rows), length + height * width // 4, dtype=torch.bool)
        slots[:, :length] = False  # words; the picture goes after them
        predicted = pipeline.transformer(
            hidden_states=noisy[rows].flatten(2).mT,
            timestep=timesteps[rows].to(noisy.dtype) / 1000,
            encoder_hidden_states=conditioning["encoder_hidden_states"][rows, :length],
            img_shapes=[[(1, height, width)]] * len(rows),
            img_mask=slots.to(mask.device),
        ).sample
        return predicted[:, -height * width :].mT.unflatten(2, (height, width))

    mask = conditioning["encoder_hidden_states_mask"]
    return by_length(mask, forward)


def unpack_latents(pipeline: Any, packed: Float[Tensor, "B n d"], size: Size) -> Float[Tensor, " B *chw"]:
    scale = pipeline.vae_scale_factor
    return packed.mT.unflatten(2, (size.height // scale, size.width // scale))
