"""AnimateDiff: `AnimateDiffPipeline`, a Stable Diffusion whose UNet also attends over frames; latents (B, c, f, h, w).

Its autoencoder is that of pictures: each frame is encoded alone.
"""

from typing import Any

import torch
from diffusers import AnimateDiffPipeline
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from jaxtyping import Float, Real
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor

from mpo import MpoError
from mpo.models.families import Conditioning, Configs, encode_latents
from mpo.models.families.stable_diffusion import encode_prompts, lora_targets
from mpo.models.noise import diffusion_noise as add_noise
from mpo.sizes import SizeRule

__all__ = ["add_noise", "check_lora", "encode_media", "encode_prompts", "lora_targets", "predict", "size_rule"]

GUIDANCE_PASSES = "together"


def size_rule(configs: Configs) -> SizeRule:
    """At most as many frames as the motion modules have positions for; clips are shown at 8 a second."""
    return SizeRule("video", 8, max_frames=configs["denoiser"]["motion_max_seq_length"], fps=8.0)


def check_lora(denoiser: Any) -> None:
    """The motion modules call their projections with `input=`, a name that peft's layers do not take.

    So such a LoRA could not be loaded by diffusers either.
    """
    for module in denoiser.modules():
        if isinstance(module, AnimateDiffTransformer3D):
            for name in ("proj_in", "proj_out"):
                if isinstance(getattr(module, name), BaseTunerLayer):
                    raise MpoError(
                        f"train.lora_targets: AnimateDiff's motion modules cannot run with a LoRA on {name}; for the layers of the picture model alone, name 'attentions.0.{name}'"
                    )


def encode_media(pipeline: Any, pixels: Float[Tensor, "B F C H W"]) -> Float[Tensor, " B *chw"]:
    chunks = pixels.flatten(0, 1).split(16)  # frames at a time: memory does not grow with the clip
    latents = torch.cat([encode_latents(pipeline.vae, chunk) for chunk in chunks])
    return latents.unflatten(0, pixels.shape[:2]).movedim(1, 2)


def predict(
    pipeline: AnimateDiffPipeline,
    noisy: Float[Tensor, " B *chw"],
    timesteps: Real[Tensor, " B"],
    conditioning: Conditioning,
) -> Float[Tensor, " B *chw"]:
    """The text is given once a clip; the network takes it once a frame."""
    text = conditioning["encoder_hidden_states"].repeat_interleave(noisy.shape[2], dim=0)
    return pipeline.unet(noisy, timesteps, encoder_hidden_states=text).sample
