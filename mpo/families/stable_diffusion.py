"""Stable Diffusion 1.x and 2.x, epsilon and v-prediction: `StableDiffusionPipeline`."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import AutoencoderTiny, DDPMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline

from mpo import MpoError
from mpo.families import Conditioning


def encode_prompts(pipeline: StableDiffusionPipeline, prompts: Sequence[str]) -> Conditioning:
    embeddings, _ = pipeline.encode_prompt(
        list(prompts), pipeline.device, num_images_per_prompt=1, do_classifier_free_guidance=False
    )
    return {"encoder_hidden_states": embeddings}


def encode_media(pipeline: StableDiffusionPipeline, pixels: torch.Tensor) -> torch.Tensor:
    return encode_latents(pipeline.vae, pixels)


def encode_latents(vae: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Pixels (B, C, H, W) in [0, 1] -> scaled latents (B, c, h, w)."""
    encoded = vae.encode(pixels.to(vae.device, vae.dtype) * 2 - 1)
    # The mode, not a draw: encoding a picture twice gives the same latents.
    latents = encoded.latents if isinstance(vae, AutoencoderTiny) else encoded.latent_dist.mode()
    return latents * vae.config.scaling_factor


def add_noise(
    pipeline: StableDiffusionPipeline | StableDiffusionXLPipeline,
    latents: torch.Tensor,
    noise: torch.Tensor,
    timesteps: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    # The pipeline's scheduler may be one that only samples; DDPM's arithmetic is the same for all of this family.
    scheduler: Any = DDPMScheduler.from_config(pipeline.scheduler.config)
    noisy = scheduler.add_noise(latents, noise, timesteps)
    match scheduler.config.prediction_type:
        case "epsilon":
            return noisy, noise
        case "v_prediction":
            return noisy, scheduler.get_velocity(latents, noise, timesteps)
        case other:
            raise MpoError(
                f"scheduler prediction_type={other!r} cannot be trained; use a model with epsilon or v_prediction"
            )


def predict(
    pipeline: StableDiffusionPipeline, noisy: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning
) -> torch.Tensor:
    return pipeline.unet(noisy, timesteps, encoder_hidden_states=conditioning["encoder_hidden_states"]).sample


def lora_targets(pipeline: StableDiffusionPipeline | StableDiffusionXLPipeline) -> list[str]:
    return ["to_q", "to_k", "to_v", "to_out.0"]
