"""HiDream-I1: `HiDreamImagePipeline`. A flow; two CLIPs, T5 and all layers of a Llama read the prompt; experts in the feed-forward.

Full samples with UniPC and guidance. Dev and Fast are distilled to few steps without guidance, with a scheduler that goes to the
picture and adds new noise each time. Training is the same for all, on every noise: of a distilled network it tunes
the velocity, from which those steps start, and nothing holds it to the few noises that it was distilled for.

The pipeline scales every size to about as many pixels as the network was made for.
"""

from collections.abc import Sequence
from typing import Any

from diffusers import HiDreamImagePipeline
from jaxtyping import Float, Real
from torch import Tensor

from mpo import MpoError
from mpo.models.families import Conditioning, Configs, call_default
from mpo.models.families.stable_diffusion import encode_media
from mpo.models.noise import flow_noise as add_noise
from mpo.sizes import SizeRule

__all__ = ["add_noise", "check_lora", "encode_media", "encode_prompts", "lora_targets", "predict", "size_rule"]

SCHEDULE_ARGUMENTS = ("mu",)


def size_rule(configs: Configs) -> SizeRule:
    """The autoencoder's pixels, times patches, and the area of the pipeline's `default_sample_size`."""
    pixels = 2 ** (len(configs["vae"]["block_out_channels"]) - 1)  # a latent's side
    return SizeRule("image", configs["denoiser"]["patch_size"] * pixels, area=(128 * pixels) ** 2)


def encode_prompts(pipeline: HiDreamImagePipeline, prompts: Sequence[str]) -> Conditioning:
    """Llama's are (B, layers, n, d): the pipeline has the layers first."""
    texts: Any = list(prompts)
    length = call_default(pipeline, "max_sequence_length")
    made: Any = pipeline.encode_prompt(
        texts, device=pipeline.device, do_classifier_free_guidance=False, max_sequence_length=length
    )
    t5, _, llama, _, pooled, _ = made
    return {
        "encoder_hidden_states_t5": t5,
        "encoder_hidden_states_llama3": llama.transpose(0, 1),
        "pooled_embeds": pooled,
    }


def predict(
    pipeline: HiDreamImagePipeline,
    noisy: Float[Tensor, " B *chw"],
    timesteps: Real[Tensor, " B"],
    conditioning: Conditioning,
) -> Float[Tensor, " B *chw"]:
    """The network's own answer is the way from the noise to the picture."""
    network = pipeline.transformer
    made = network(
        hidden_states=noisy,
        timesteps=timesteps,
        encoder_hidden_states_t5=conditioning["encoder_hidden_states_t5"],
        encoder_hidden_states_llama3=conditioning["encoder_hidden_states_llama3"].transpose(0, 1),
        pooled_embeds=conditioning["pooled_embeds"],
    ).sample
    return -(_pictures(made, network.config.patch_size, *noisy.shape[-2:]) if network.training else made)


def _pictures(patches: Float[Tensor, "B c n pp"], side: int, height: int, width: int) -> Float[Tensor, "B c h w"]:
    """What the network gives in training mode, whose experts alone let gradients through, as it gives it otherwise.

    Pictures that are not square have patches without a place at the end.
    """
    rows, columns = height // side, width // side
    placed = patches[:, :, : rows * columns].unflatten(3, (side, side)).unflatten(2, (rows, columns))
    return placed.transpose(3, 4).reshape(*patches.shape[:2], height, width)


def lora_targets(denoiser: Any) -> list[str]:
    """The attention projections of pictures and of texts; the experts in the feed-forward stay as they are."""
    return [f"to_{name}{text}" for text in ("", "_t") for name in ("q", "k", "v", "out")]


def check_lora(denoiser: Any) -> None:
    if denoiser.config.force_inference_output:
        raise MpoError(
            "the model's transformer/config.json has force_inference_output=true, with which gradients pass by the experts; set it to false"
        )
