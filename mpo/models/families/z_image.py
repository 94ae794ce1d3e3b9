"""Z-Image: `ZImagePipeline`. A flow; prompts of any length; the network's time is 1 without noise, and its output negated.

Z-Image-Turbo is distilled to eight steps without guidance, and this loss, of single noise levels, knows nothing of its
steps: long training wears the distillation off. Tune Z-Image itself, and load that LoRA with Turbo.
"""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import ZImagePipeline
from jaxtyping import Float, Real
from torch import Tensor

from mpo.models.families import Conditioning, padded
from mpo.models.families.stable_diffusion import encode_media, lora_targets
from mpo.models.families.stable_diffusion_3 import shift_mu, size_rule
from mpo.models.noise import flow_noise as add_noise

__all__ = [
    "add_noise",
    "encode_media",
    "encode_prompts",
    "lora_targets",
    "predict",
    "sampling_arguments",
    "shift_mu",
    "size_rule",
]

SCHEDULE_ARGUMENTS = ("list of sigmas", "mu")


def encode_prompts(pipeline: ZImagePipeline, prompts: Sequence[str]) -> Conditioning:
    texts: Any  # (n, d) each
    texts, _ = pipeline.encode_prompt(list(prompts), pipeline.device, do_classifier_free_guidance=False)
    return padded(texts)


def predict(
    pipeline: ZImagePipeline, noisy: Float[Tensor, " B *chw"], timesteps: Real[Tensor, " B"], conditioning: Conditioning
) -> Float[Tensor, " B *chw"]:
    texts = conditioning["encoder_hidden_states"]
    lengths = conditioning["encoder_hidden_states_mask"].sum(1).int().tolist()
    clips = pipeline.transformer(
        list(noisy.unsqueeze(2)),  # (c, 1, h, w) each: a clip of one frame
        (1000 - timesteps) / 1000,
        [text[:length] for text, length in zip(texts, lengths, strict=True)],
    ).sample
    return -torch.stack(clips).squeeze(2)


def sampling_arguments(guidance_scale: float, num_prompts: int, fps: float | None) -> dict[str, Any]:
    """The pipeline counts from 0 = none: its 4.0 is 5.0 here, as in every other family."""
    return {"guidance_scale": max(guidance_scale - 1, 0.0)}
