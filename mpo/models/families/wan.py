"""Wan 2.1 and 2.2: `WanPipeline`. A flow; prompts padded with zeros; latents (B, c, f, h, w) in patches of 1x2x2.

Wan 2.2 A14B has two networks: the one for high noise (`transformer`) hands over at `boundary_ratio` to the one for low
noise (`transformer_2`). A run tunes one of them; the recipe's `model.expert` says which.
"""

from collections.abc import Sequence
from typing import Any

from diffusers import WanPipeline
from jaxtyping import Float, Real
from torch import Tensor

from mpo.models.families import Conditioning, Configs, call_default, denoiser_of
from mpo.models.families.qwen_image import encode_clips as encode_media
from mpo.models.families.stable_diffusion import lora_targets
from mpo.models.noise import flow_noise as add_noise
from mpo.sizes import SizeRule

__all__ = ["add_noise", "encode_media", "encode_prompts", "lora_targets", "predict", "size_rule"]

GUIDANCE_PASSES = "in_turn"
EXTRA = ("wan", ("ftfy",))  # without it the pipeline samples and encodes other captions than it was trained on
FLOAT32_PARTS = ("vae",)  # as its authors run it, whatever the precision of the rest


def size_rule(configs: Configs) -> SizeRule:
    """Wan 2.2 5B, whose autoencoder has 16 pixels a latent, was trained at 24 frames a second, the others at 16."""
    vae, (_, patch, _) = configs["vae"], configs["denoiser"]["patch_size"]
    scale, step = vae.get("scale_factor_spatial", 8), vae.get("scale_factor_temporal", 4)  # Wan 2.1's file has neither
    return SizeRule("video", scale * patch, step, 1, fps=24.0 if scale == 16 else 16.0)


def encode_prompts(pipeline: WanPipeline, prompts: Sequence[str]) -> Conditioning:
    length = call_default(pipeline, "max_sequence_length")  # encode_prompt's own default differs
    embeddings, _ = pipeline.encode_prompt(
        list(prompts), do_classifier_free_guidance=False, max_sequence_length=length, device=pipeline.device
    )
    return {"encoder_hidden_states": embeddings}


def predict(
    pipeline: WanPipeline, noisy: Float[Tensor, " B *chw"], timesteps: Real[Tensor, " B"], conditioning: Conditioning
) -> Float[Tensor, " B *chw"]:
    """Wan 2.2 5B takes a timestep for each token. Latents come in the autoencoder's precision."""
    transformer = denoiser_of(pipeline)
    config: Any = pipeline.config
    if config.expand_timesteps:
        _, _, frames, height, width = noisy.shape
        timesteps = timesteps[:, None].expand(-1, frames * (height // 2) * (width // 2))
    return transformer(
        hidden_states=noisy.to(transformer.dtype),
        timestep=timesteps,
        encoder_hidden_states=conditioning["encoder_hidden_states"].to(transformer.dtype),
    ).sample
