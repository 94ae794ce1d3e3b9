"""PixArt-Sigma: `PixArtSigmaPipeline`. Epsilon; the network also predicts a variance, which is not trained."""

from collections.abc import Sequence

from diffusers import PixArtSigmaPipeline
from jaxtyping import Float, Real
from torch import Tensor

from mpo.models.families import Conditioning, Configs, encode_masked_prompts
from mpo.models.families.stable_diffusion import encode_media, lora_targets
from mpo.models.noise import diffusion_noise as add_noise
from mpo.sizes import SizeRule

__all__ = ["add_noise", "encode_media", "encode_prompts", "lora_targets", "predict", "size_rule"]

GUIDANCE_PASSES = "together"
EXTRA = (
    "pixart",
    ("bs4", "ftfy"),
)  # without them the pipeline samples and encodes other captions than it was trained on


def size_rule(configs: Configs) -> SizeRule:
    """The autoencoder's 8 pixels, times patches of 2x2."""
    return SizeRule("image", 16)


def encode_prompts(pipeline: PixArtSigmaPipeline, prompts: Sequence[str]) -> Conditioning:
    return encode_masked_prompts(pipeline, prompts, "clean_caption", "max_sequence_length")


def predict(
    pipeline: PixArtSigmaPipeline,
    noisy: Float[Tensor, " B *chw"],
    timesteps: Real[Tensor, " B"],
    conditioning: Conditioning,
) -> Float[Tensor, " B *chw"]:
    prediction = pipeline.transformer(
        noisy,
        encoder_hidden_states=conditioning["encoder_hidden_states"],
        encoder_attention_mask=conditioning["encoder_attention_mask"],
        timestep=timesteps,
        added_cond_kwargs={"resolution": None, "aspect_ratio": None},
    ).sample
    return prediction[:, : noisy.shape[1]]
