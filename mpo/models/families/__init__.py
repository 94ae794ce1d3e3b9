"""Model families: what training must know about a diffusion model; one file each, with the same five functions.

The family is found from the class of the pipeline that the model's folder or hub id names.
"""

# B items, F frames, C channels, H x W pixels; chw: the axes of one item's latents, as the model has them

import importlib
import importlib.util
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Real, Shaped
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mpo import MpoError
from mpo.sizes import Size, SizeRule

Configs = Mapping[str, Mapping[str, Any]]  # of a pipeline's "denoiser" and "vae"
Conditioning = dict[str, Shaped[Tensor, "B ..."]]  # what `predict` takes beside the noisy latents


@runtime_checkable
class Family(Protocol):
    """The five functions. A module with these names is a family; it may also have members of `FamilyOptions`."""

    def encode_prompts(self, pipeline: Any, prompts: Sequence[str]) -> Conditioning:
        """B prompts -> tensors of B rows, equal to what the pipeline itself conditions on."""
        ...

    def encode_media(self, pipeline: Any, pixels: Float[Tensor, "B *F C H W"]) -> Float[Tensor, " B *chw"]:
        """Pixels in [0, 1], of pictures (B, C, H, W) or of clips (B, F, C, H, W) -> latents as the denoiser sees them."""
        ...

    def add_noise(
        self,
        pipeline: Any,
        latents: Float[Tensor, " B *chw"],
        noise: Float[Tensor, " B *chw"],
        timesteps: Real[Tensor, " B"],
    ) -> tuple[Float[Tensor, " B *chw"], Float[Tensor, " B *chw"]]:
        """Noisy latents, and the target of the prediction."""
        ...

    def predict(
        self,
        pipeline: Any,
        noisy: Float[Tensor, " B *chw"],
        timesteps: Real[Tensor, " B"],
        conditioning: Conditioning,
    ) -> Float[Tensor, " B *chw"]:
        """The denoiser's prediction, without guidance."""
        ...

    def lora_targets(self, denoiser: Any) -> list[str]:
        """Names of the modules that a LoRA adapts unless the recipe says otherwise."""
        ...


class FamilyOptions(Protocol):
    """What a family may also have; the comments and docstrings say what applies without it."""

    EXTRA: tuple[str, tuple[str, ...]]  # an extra of this project, and the libraries of it that the pipeline imports
    FLOAT32_PARTS: tuple[str, ...]  # parts of the pipeline that are float32 whatever model.dtype says
    ONE_LENGTH_A_FORWARD: bool  # `predict` runs the network once for each length of prompts, not once in all
    # How the pipeline asks with and without the prompt: in one batch, those without first, or with it and then without it.
    # Without this `guidance_range` is refused
    GUIDANCE_PASSES: Literal["together", "in_turn"]
    # What its loop hands to `set_timesteps`: "sigmas" (an array) or "list of sigmas" in place of a number of steps, "timesteps", "mu"
    SCHEDULE_ARGUMENTS: tuple[str, ...]

    def size_rule(self, configs: Configs) -> SizeRule:
        """Which sizes the model makes; without it pictures whose sides are multiples of 8 pixels."""
        ...

    def shift_mu(self, scheduler_config: Mapping[str, Any], latent_shape: Sequence[int]) -> float:
        """The `mu` that the pipeline hands to a scheduler that shifts timesteps by resolution, for latents of a shape.

        Without it, such schedulers are refused unless the recipe gives a shift.
        """
        ...

    def unpack_latents(self, pipeline: Any, packed: Float[Tensor, "B n d"], size: Size) -> Float[Tensor, " B *chw"]:
        """Latents as the pipeline's loop has them -> as `encode_media` gives them; without it they are the same."""
        ...

    def check_lora(self, denoiser: Any) -> None:
        """Raises MpoError if a LoRA sits in a layer that the network cannot run with one."""
        ...

    def sampling_arguments(self, guidance_scale: float, num_prompts: int, fps: float | None) -> dict[str, Any]:
        """Guidance, and frames a second where the model is told, as the pipeline's call names them.

        Without it `guidance_scale` alone.
        """
        ...


FAMILIES = {
    "StableDiffusionPipeline": "mpo.models.families.stable_diffusion",
    "StableDiffusionXLPipeline": "mpo.models.families.stable_diffusion_xl",
    "StableDiffusion3Pipeline": "mpo.models.families.stable_diffusion_3",
    "FluxPipeline": "mpo.models.families.flux",
    "Flux2Pipeline": "mpo.models.families.flux2",
    "Flux2KleinPipeline": "mpo.models.families.flux2",
    "SanaPipeline": "mpo.models.families.sana",
    "PixArtSigmaPipeline": "mpo.models.families.pixart_sigma",
    "QwenImagePipeline": "mpo.models.families.qwen_image",
    "QwenImage21Pipeline": "mpo.models.families.qwen_image_21",
    "ZImagePipeline": "mpo.models.families.z_image",
    "ChromaPipeline": "mpo.models.families.chroma",
    "Lumina2Pipeline": "mpo.models.families.lumina2",
    "CogView4Pipeline": "mpo.models.families.cogview4",
    "HiDreamImagePipeline": "mpo.models.families.hidream_image",
    "CogVideoXPipeline": "mpo.models.families.cogvideox",
    "AnimateDiffPipeline": "mpo.models.families.animatediff",
    "WanPipeline": "mpo.models.families.wan",
    "LTXPipeline": "mpo.models.families.ltx",
    "HunyuanVideoPipeline": "mpo.models.families.hunyuan_video",
}


def size_rule_of(family: Any, configs: Configs) -> SizeRule:
    """The sizes that a model of a family makes."""
    own = getattr(family, "size_rule", None)
    return own(configs) if own else SizeRule("image", 8)


def shift_mu(family: Any, scheduler: Any, latent_shape: Sequence[int]) -> float | None:
    """The `mu` of latents of a shape; None = the scheduler shifts all alike, or the family does not say."""
    own = getattr(family, "shift_mu", None)
    return own(scheduler.config, latent_shape) if own and scheduler.config.get("use_dynamic_shifting") else None


def mu_of_tokens(scheduler_config: Mapping[str, Any], num_tokens: int) -> float:
    """FLUX.1's formula, which most pipelines share: a straight line through two numbers of tokens."""
    from diffusers.pipelines.flux.pipeline_flux import calculate_shift  # late: it imports text encoders

    return calculate_shift(
        num_tokens,
        scheduler_config.get("base_image_seq_len", 256),
        scheduler_config.get("max_image_seq_len", 4096),
        scheduler_config.get("base_shift", 0.5),
        scheduler_config.get("max_shift", 1.15),
    )


def find_family(pipeline: Any) -> Family:
    """The family of a loaded pipeline. Raises MpoError listing those known."""
    return family_of_class(type(pipeline).__name__)


def family_of_class(class_name: str) -> Any:
    """The family of a pipeline's class. Raises MpoError listing those known, or naming what is not installed."""
    if class_name not in FAMILIES:
        raise MpoError(f"model pipeline class {class_name!r} belongs to no known family; known: {', '.join(FAMILIES)}")
    family = importlib.import_module(FAMILIES[class_name])
    extra, libraries = getattr(family, "EXTRA", ("", ()))
    absent = [name for name in libraries if importlib.util.find_spec(name) is None]
    if absent:
        raise MpoError(
            f"model.path names a {class_name}, which needs {' and '.join(absent)}; pip install 'mpo[{extra}]'"
        )
    return family


def family_name(pipeline: Any) -> str:
    """The name of the module of a loaded pipeline's family."""
    return FAMILIES[type(pipeline).__name__].rpartition(".")[2]


def denoiser_name(pipeline: Any) -> str:
    """The name of the pipeline's network that is tuned: "unet", "transformer" or "transformer_2"."""
    own = getattr(pipeline, "tuned_network", None)  # of two, as `load_pipeline` was told
    return own or ("unet" if hasattr(pipeline, "unet") else "transformer")


def denoiser_of(pipeline: Any) -> Any:
    return getattr(pipeline, denoiser_name(pipeline))


def denoisers_of(pipeline: Any) -> list[Any]:
    """The networks that a pipeline samples with: one, or of Wan 2.2 A14B two."""
    networks = [getattr(pipeline, name, None) for name in ("unet", "transformer", "transformer_2")]
    return [network for network in networks if network is not None]


def denoiser_config(pipeline: Any) -> Mapping[str, Any]:
    """Its configuration, which `load_pipeline` leaves here if it was told not to load the denoiser."""
    denoiser = denoiser_of(pipeline)
    return pipeline.denoiser_config if denoiser is None else denoiser.config


def encode_latents(vae: Any, pixels: Float[Tensor, "B C *F H W"]) -> Float[Tensor, " B *chw"]:
    """Pixels in [0, 1] -> latents, shifted and scaled as the denoiser sees them."""
    encoded = vae.encode(pixels.to(vae.device, vae.dtype) * 2 - 1)
    # The mode, not a sample: encoding a picture twice gives the same latents.
    if hasattr(encoded, "latent_dist"):
        latents = encoded.latent_dist.mode()
    else:
        latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent
    return (latents - (getattr(vae.config, "shift_factor", None) or 0)) * vae.config.scaling_factor


def call_default(pipeline: Any, argument: str) -> Any:
    """The default of an argument of the pipeline's call."""
    return default_of(type(pipeline), argument)


def default_of(pipeline_class: Any, argument: str) -> Any:
    return inspect.signature(pipeline_class.__call__).parameters[argument].default


def encode_masked_prompts(pipeline: Any, prompts: Sequence[str], *arguments: str) -> Conditioning:
    """Embeddings and their mask, by the pipeline's own encoder, with these arguments at the defaults of its call."""
    defaults = {argument: call_default(pipeline, argument) for argument in arguments}
    embeddings, mask, _, _ = pipeline.encode_prompt(
        list(prompts), do_classifier_free_guidance=False, device=pipeline.device, **defaults
    )
    return {"encoder_hidden_states": embeddings, "encoder_attention_mask": mask}


def masked(embeddings: Float[Tensor, "B n d"], mask: Real[Tensor, "B n"] | None) -> Conditioning:
    """Embeddings with their mask. mask: None = the pipeline's sign that all prompts are equally long."""
    if mask is None:
        mask = torch.ones(embeddings.shape[:2], dtype=torch.long, device=embeddings.device)
    return {"encoder_hidden_states": embeddings, "encoder_hidden_states_mask": mask}


def padded(rows: Sequence[Float[Tensor, "_ d"]]) -> Conditioning:
    """Embeddings of prompts of any lengths -> (B, n, d), filled up with zeros on the right, and the mask that leaves these out."""
    masks = [torch.ones(len(row), dtype=torch.long, device=row.device) for row in rows]
    return {
        "encoder_hidden_states": pad_sequence(list(rows), batch_first=True),
        "encoder_hidden_states_mask": pad_sequence(masks, batch_first=True),
    }


def by_length(mask: Real[Tensor, "B n"], forward: Callable[[list[int], int], Tensor]) -> Float[Tensor, " B *chw"]:
    """Predictions for prompts that must not go through the network beside longer ones.

    forward: (rows of one length, that length) -> their predictions. mask: 1 for each prompt's own tokens.
    """
    lengths = mask.sum(dim=1).tolist()
    predictions: dict[int, Tensor] = {}
    for length in sorted(set(lengths)):
        rows = [row for row, own in enumerate(lengths) if own == length]
        predictions |= dict(zip(rows, forward(rows, int(length)), strict=True))
    return torch.stack([predictions[row] for row in range(len(lengths))])


def sampling_arguments(
    pipeline: Any, *, guidance_scale: float, num_prompts: int, size: Size | None, fps: float | None = None
) -> dict[str, Any]:
    """Guidance and size as the pipeline's call names them. size: None = the pipeline's own. fps: of clips."""
    family: Any = find_family(pipeline)
    own = getattr(family, "sampling_arguments", None)
    arguments = own(guidance_scale, num_prompts, fps) if own else {"guidance_scale": guidance_scale}
    if size is not None:
        arguments |= {"width": size.width, "height": size.height}
        if size.frames is not None:
            arguments["num_frames"] = size.frames
        if "use_resolution_binning" in inspect.signature(type(pipeline).__call__).parameters:
            arguments["use_resolution_binning"] = False  # it would make another size, and scale the picture
    return arguments
