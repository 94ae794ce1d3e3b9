"""Model families: what training must know about a diffusion model; one file each, with the same five functions.

The family is found from the class of the pipeline that the model's folder or hub id names.
"""

# B items, C channels, H x W pixels, c channels of latents, hw: their other axes, height and width for pictures

import importlib
import importlib.util
import inspect
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float, Real, Shaped
from torch import Tensor

from mpo import MpoError

Conditioning = dict[str, Shaped[Tensor, "B ..."]]  # what `predict` takes beside the noisy latents


@runtime_checkable
class Family(Protocol):
    """The five functions. A module with these names is a family; it may also have members of `FamilyOptions`."""

    def encode_prompts(self, pipeline: Any, prompts: Sequence[str]) -> Conditioning:
        """B prompts -> tensors of B rows, equal to what the pipeline itself conditions on."""
        ...

    def encode_media(self, pipeline: Any, pixels: Float[Tensor, "B C H W"]) -> Float[Tensor, "B c *hw"]:
        """Pixels in [0, 1] -> latents as the denoiser sees them."""
        ...

    def add_noise(
        self,
        pipeline: Any,
        latents: Float[Tensor, "B c *hw"],
        noise: Float[Tensor, "B c *hw"],
        timesteps: Real[Tensor, " B"],
    ) -> tuple[Float[Tensor, "B c *hw"], Float[Tensor, "B c *hw"]]:
        """Noisy latents, and the target of the prediction."""
        ...

    def predict(
        self,
        pipeline: Any,
        noisy: Float[Tensor, "B c *hw"],
        timesteps: Real[Tensor, " B"],
        conditioning: Conditioning,
    ) -> Float[Tensor, "B c *hw"]:
        """The denoiser's prediction, without guidance."""
        ...

    def lora_targets(self, denoiser: Any) -> list[str]:
        """Names of the modules that a LoRA adapts unless the recipe says otherwise."""
        ...


class FamilyOptions(Protocol):
    """What a family may also have; the comments and docstrings say what applies without it."""

    SIZE_MULTIPLE: int  # pixels that divide width and height; without it 8, an autoencoder's
    EXTRA: tuple[str, tuple[str, ...]]  # an extra of this project, and the libraries of it that the pipeline imports

    def num_tokens(self, latent_shape: Sequence[int]) -> int:
        """How many tokens latents of a shape (c, ...) become in the network.

        Schedulers that shift timesteps by resolution need it. Without it, they are refused unless the recipe gives a shift.
        """
        ...

    def sampling_arguments(self, guidance_scale: float, num_prompts: int) -> dict[str, Any]:
        """Guidance as the pipeline's call names it; without it `guidance_scale`."""
        ...


FAMILIES = {
    "StableDiffusionPipeline": "mpo.models.families.stable_diffusion",
    "StableDiffusionXLPipeline": "mpo.models.families.stable_diffusion_xl",
    "StableDiffusion3Pipeline": "mpo.models.families.stable_diffusion_3",
    "FluxPipeline": "mpo.models.families.flux",
    "SanaPipeline": "mpo.models.families.sana",
    "PixArtSigmaPipeline": "mpo.models.families.pixart_sigma",
    "QwenImagePipeline": "mpo.models.families.qwen_image",
}


def count_tokens(family: Any, latent_shape: Sequence[int]) -> int | None:
    """Tokens that latents of a shape (c, ...) become; None = the family does not say."""
    own = getattr(family, "num_tokens", None)
    return own(latent_shape) if own else None


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


def denoiser_name(pipeline: Any) -> str:
    """The name of the pipeline's network that is tuned: "unet" or "transformer"."""
    return "unet" if hasattr(pipeline, "unet") else "transformer"


def denoiser_of(pipeline: Any) -> Any:
    return getattr(pipeline, denoiser_name(pipeline))


def encode_latents(vae: Any, pixels: Float[Tensor, "B C H W"]) -> Float[Tensor, "B c *hw"]:
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
    return inspect.signature(type(pipeline).__call__).parameters[argument].default


def encode_masked_prompts(pipeline: Any, prompts: Sequence[str], *arguments: str) -> Conditioning:
    """Embeddings and their mask, by the pipeline's own encoder, with these arguments at the defaults of its call."""
    defaults = {argument: call_default(pipeline, argument) for argument in arguments}
    embeddings, mask, _, _ = pipeline.encode_prompt(
        list(prompts), do_classifier_free_guidance=False, device=pipeline.device, **defaults
    )
    return {"encoder_hidden_states": embeddings, "encoder_attention_mask": mask}


def sampling_arguments(
    pipeline: Any, *, guidance_scale: float, num_prompts: int, size: tuple[int, int] | None
) -> dict[str, Any]:
    """Guidance and size as the pipeline's call names them. size: (width, height) in pixels; None = the pipeline's own."""
    family: Any = find_family(pipeline)
    own = getattr(family, "sampling_arguments", None)
    arguments = own(guidance_scale, num_prompts) if own else {"guidance_scale": guidance_scale}
    if size is not None:
        arguments |= {"width": size[0], "height": size[1]}
        if "use_resolution_binning" in inspect.signature(type(pipeline).__call__).parameters:
            arguments["use_resolution_binning"] = False  # it would make another size, and scale the picture
    return arguments
