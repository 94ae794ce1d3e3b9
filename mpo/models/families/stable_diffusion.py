"""Stable Diffusion 1.x and 2.x, epsilon and v-prediction: `StableDiffusionPipeline`."""

from collections.abc import Sequence
from typing import Any

from diffusers import StableDiffusionPipeline
from jaxtyping import Float, Real
from torch import Tensor

from mpo.models.families import Conditioning, encode_latents
from mpo.models.noise import diffusion_noise as add_noise

__all__ = ["add_noise", "encode_media", "encode_prompts", "lora_targets", "predict"]

GUIDANCE_PASSES = "together"


def encode_prompts(pipeline: Any, prompts: Sequence[str]) -> Conditioning:
    embeddings, _ = pipeline.encode_prompt(
        list(prompts), pipeline.device, num_images_per_prompt=1, do_classifier_free_guidance=False
    )
    return {"encoder_hidden_states": embeddings}


def encode_media(pipeline: Any, pixels: Float[Tensor, "B C H W"]) -> Float[Tensor, " B *chw"]:
    return encode_latents(pipeline.vae, pixels)


def predict(
    pipeline: StableDiffusionPipeline,
    noisy: Float[Tensor, " B *chw"],
    timesteps: Real[Tensor, " B"],
    conditioning: Conditioning,
) -> Float[Tensor, " B *chw"]:
    return pipeline.unet(noisy, timesteps, encoder_hidden_states=conditioning["encoder_hidden_states"]).sample


def lora_targets(denoiser: Any) -> list[str]:
    return ["to_q", "to_k", "to_v", "to_out.0"]
