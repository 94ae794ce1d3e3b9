"""FLUX.2: `Flux2Pipeline` and klein's `Flux2KleinPipeline`. A flow; a language model's inner layers are the condition.

Latents (B, 4c, h/2, w/2): the autoencoder's in patches of 2x2, on the scale of its batch norm. dev has distilled guidance.
klein in four steps is distilled, has no guidance, and loses its few steps in long training: tune its base, and load that
LoRA with it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from diffusers import Flux2KleinPipeline, Flux2Pipeline
from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu
from jaxtyping import Float, Real
from torch import Tensor

from mpo.models.families import Conditioning, default_of
from mpo.models.families.stable_diffusion_3 import lora_targets as double_stream_targets
from mpo.models.families.stable_diffusion_3 import size_rule
from mpo.models.noise import flow_noise as add_noise
from mpo.sizes import Size

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

Flux2 = Flux2Pipeline | Flux2KleinPipeline


def shift_mu(scheduler_config: Mapping[str, Any], latent_shape: Sequence[int]) -> float:
    """The pipeline's own, at its default number of steps; it depends on that, too."""
    _, height, width = latent_shape
    return compute_empirical_mu(height * width, num_steps=default_of(Flux2Pipeline, "num_inference_steps"))


def encode_prompts(pipeline: Flux2, prompts: Sequence[str]) -> Conditioning:
    embeddings, _ = pipeline.encode_prompt(list(prompts), device=pipeline.device)
    return {"encoder_hidden_states": embeddings}


def encode_media(pipeline: Flux2, pixels: Float[Tensor, "B C H W"]) -> Float[Tensor, " B *chw"]:
    vae = pipeline.vae
    no_generator: Any = None  # it takes the mode, and draws nothing
    return pipeline._encode_vae_image(pixels.to(vae.device, vae.dtype) * 2 - 1, generator=no_generator)


def predict(
    pipeline: Flux2, noisy: Float[Tensor, " B *chw"], timesteps: Real[Tensor, " B"], conditioning: Conditioning
) -> Float[Tensor, " B *chw"]:
    """`conditioning["guidance"]` (B,) is for networks with distilled guidance."""
    text = conditioning["encoder_hidden_states"]
    tokens = pipeline.transformer(
        hidden_states=pipeline._pack_latents(noisy),
        timestep=timesteps.to(noisy.dtype) / 1000,
        guidance=conditioning.get("guidance"),
        encoder_hidden_states=text,
        txt_ids=pipeline._prepare_text_ids(text).to(text.device),
        img_ids=pipeline._prepare_latent_ids(noisy).to(noisy.device),
    ).sample
    return _unpack(tokens, *noisy.shape[2:])


def unpack_latents(pipeline: Any, packed: Float[Tensor, "B n d"], size: Size) -> Float[Tensor, " B *chw"]:
    patch = 2 * pipeline.vae_scale_factor
    return _unpack(packed, size.height // patch, size.width // patch)


def _unpack(tokens: Float[Tensor, "B n d"], height: int, width: int) -> Float[Tensor, " B *chw"]:
    """The inverse of the pipeline's `_pack_latents`; its own goes by positions, which costs a wait for the GPU."""
    return tokens.movedim(1, 2).unflatten(2, (height, width))


def lora_targets(denoiser: Any) -> list[str]:
    """The attention projections of pictures and of texts, and of blocks of one stream the layers that hold theirs."""
    single = [f"single_transformer_blocks.{i}.attn.to_out" for i in range(len(denoiser.single_transformer_blocks))]
    return [*double_stream_targets(denoiser), "to_qkv_mlp_proj", *single]  # "attn.to_out" alone would be a list's name
