"""Chroma: `ChromaPipeline`. FLUX.1's network without a pooled text and without distilled guidance; prompts of any length under a mask.

The pipeline hands the mask over in the text encoder's precision, so that attention adds it to its scores: padding gets a
smaller weight, not none. That is what people sample with, so training does the same.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from diffusers import ChromaPipeline
from jaxtyping import Float, Real
from torch import Tensor

from mpo.models.families import Conditioning
from mpo.models.families.flux import pack, unpack, unpack_latents
from mpo.models.families.stable_diffusion import encode_media
from mpo.models.families.stable_diffusion_3 import lora_targets, shift_mu, size_rule
from mpo.models.noise import flow_noise as add_noise

__all__ = [
    "add_noise",
    "encode_media",
    "encode_prompts",
    "lora_targets",
    "predict",
    "shift_mu",
    "size_rule",
    "unpack_latents",
]

GUIDANCE_PASSES = "in_turn"
SCHEDULE_ARGUMENTS = ("sigmas", "mu")


def encode_prompts(pipeline: ChromaPipeline, prompts: Sequence[str]) -> Conditioning:
    embeddings: Any
    mask: Any
    embeddings, _, mask, *_ = pipeline.encode_prompt(
        list(prompts), device=pipeline.device, do_classifier_free_guidance=False
    )
    return {"encoder_hidden_states": embeddings, "encoder_attention_mask": mask}


def predict(
    pipeline: ChromaPipeline, noisy: Float[Tensor, " B *chw"], timesteps: Real[Tensor, " B"], conditioning: Conditioning
) -> Float[Tensor, " B *chw"]:
    batch, _, height, width = noisy.shape
    text, patches = conditioning["encoder_hidden_states"], pack(pipeline, noisy)
    mask = pipeline._prepare_attention_mask(
        batch, patches.shape[1], noisy.dtype, conditioning["encoder_attention_mask"]
    )
    with _mask_when_checkpointing(pipeline.transformer, mask):
        patches = pipeline.transformer(
            hidden_states=patches,
            timestep=timesteps.to(noisy.dtype) / 1000,
            encoder_hidden_states=text,
            txt_ids=text.new_zeros(text.shape[1], 3),
            img_ids=pipeline._prepare_latent_image_ids(batch, height // 2, width // 2, noisy.device, noisy.dtype),
            attention_mask=mask,
        ).sample
    return unpack(pipeline, patches, height, width)


@contextmanager
def _mask_when_checkpointing(transformer: Any, mask: Any) -> Iterator[None]:
    """Hands the mask to the blocks of one stream, which diffusers (0.42) leaves without it if gradients are checkpointed."""
    own: Callable[..., Any] | None = getattr(transformer, "_gradient_checkpointing_func", None)
    if own is None:
        yield
        return

    def with_mask(block: Any, *arguments: Any) -> Any:
        left_out = type(block).__name__ == "ChromaSingleTransformerBlock" and len(arguments) == 3
        return own(block, *arguments, *([mask] if left_out else []))

    transformer._gradient_checkpointing_func = with_mask
    try:
        yield
    finally:
        transformer._gradient_checkpointing_func = own
