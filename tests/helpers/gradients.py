"""One gradient of a LoRA on each family's own small networks."""

from collections.abc import Callable
from typing import Any

import torch

from mpo.models.families import denoiser_of, find_family
from mpo.models.lora import add_lora
from tests.helpers.pipelines import SMALL, build
from tests.helpers.recipes import TRAIN_PROMPTS, settings_of
from tests.helpers.video_pipelines import VIDEO_BUILDERS, build_video

# One of each family.
ONE_EACH = [
    "stable_diffusion", "stable_diffusion_xl", "stable_diffusion_3", "flux", "flux2", "sana", "pixart_sigma", "qwen_image",
    "qwen_image_21", "z_image", "chroma", "lumina2", "cogview4", "hidream_image", "cogvideox_5b", "animatediff", "wan", "ltx",
    "hunyuan_video",
]  # fmt: skip


def nothing(pipeline: Any) -> None:
    """Leave a pipeline as it is."""


def lora_gradient(
    name: str,
    *,
    before: Callable[[Any], Any] = nothing,
    after: Callable[[Any], Any] = nothing,
    checkpointing: bool = False,
) -> tuple[torch.Tensor, Any]:
    """The gradient of all the LoRA's weights after one forward, and the pipeline. before, after: done to it around adding a LoRA."""
    pipeline = build(name) if name in SMALL else build_video(name)
    family, denoiser = find_family(pipeline), denoiser_of(pipeline)
    before(pipeline)
    add_lora(pipeline, settings_of(rank=4, alpha=4.0)).train()
    if checkpointing:
        denoiser.enable_gradient_checkpointing()
    after(pipeline)
    with torch.no_grad():
        conditioning = family.encode_prompts(pipeline, TRAIN_PROMPTS[:2])
        if name in SMALL:
            shape = SMALL[name].latent_shape
        else:
            size = VIDEO_BUILDERS[name].sizes[0]
            clips = torch.zeros(1, size.frames or 1, 3, size.height, size.width)
            shape = family.encode_media(pipeline, clips).shape[1:]
    noisy = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    extra = {"guidance": torch.ones(2), "fps": torch.full((2,), 8.0)}
    predicted = family.predict(pipeline, noisy, torch.tensor([300, 700]), {**conditioning, **extra})
    predicted.float().square().mean().backward()
    gradients = [p.grad.flatten() for p in denoiser.parameters() if p.requires_grad and p.grad is not None]
    return torch.cat(gradients), pipeline
