"""Stable Diffusion 3 and 3.5: `StableDiffusion3Pipeline`. A flow; three text encoders; T5 may be missing."""

from collections.abc import Mapping, Sequence
from typing import Any

from diffusers import StableDiffusion3Pipeline
from jaxtyping import Float, Real
from torch import Tensor

from mpo.models.families import Conditioning, Configs, mu_of_tokens
from mpo.models.families.stable_diffusion import encode_media
from mpo.models.noise import flow_noise as add_noise
from mpo.sizes import SizeRule

__all__ = ["add_noise", "encode_media", "encode_prompts", "lora_targets", "predict", "shift_mu", "size_rule"]

GUIDANCE_PASSES = "together"


def size_rule(configs: Configs) -> SizeRule:
    """The autoencoder's 8 pixels, times patches of 2x2."""
    return SizeRule("image", 16)


def shift_mu(scheduler_config: Mapping[str, Any], latent_shape: Sequence[int]) -> float:
    """A token for each patch of 2x2."""
    _, height, width = latent_shape
    return mu_of_tokens(scheduler_config, (height // 2) * (width // 2))


def encode_prompts(pipeline: StableDiffusion3Pipeline, prompts: Sequence[str]) -> Conditioning:
    texts: Any = list(prompts)
    embeddings: Any
    pooled: Any
    embeddings, _, pooled, _ = pipeline.encode_prompt(
        texts, texts, texts, device=pipeline.device, do_classifier_free_guidance=False
    )
    return {"encoder_hidden_states": embeddings, "pooled_projections": pooled}


def predict(
    pipeline: StableDiffusion3Pipeline,
    noisy: Float[Tensor, " B *chw"],
    timesteps: Real[Tensor, " B"],
    conditioning: Conditioning,
) -> Float[Tensor, " B *chw"]:
    return pipeline.transformer(
        hidden_states=noisy,
        timestep=timesteps,
        encoder_hidden_states=conditioning["encoder_hidden_states"],
        pooled_projections=conditioning["pooled_projections"],
    ).sample


def lora_targets(denoiser: Any) -> list[str]:
    """The attention projections of pictures and of texts."""
    return ["to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"]
