"""The LoRA as A1111 and Forge read it: by sd-scripts' names, of SDXL by diffusers' after the same prefix. Flux is for Forge alone."""

from collections.abc import Callable

from torch import Tensor

from mpo import MpoError
from mpo.export.comfyui import UNET, in_words_of
from mpo.export.layers import Lora
from mpo.export.names import STREAM_FUSIONS, STREAM_LAYERS, STREAM_RULES, Naming

NAMINGS = {
    "stable_diffusion": UNET,
    "stable_diffusion_xl": UNET,
    "flux": Naming("lora_unet_", rules=STREAM_RULES, fusions=STREAM_FUSIONS, known=STREAM_LAYERS, underscores=True),
}


def check_family(family: str) -> None:
    """Raises MpoError if the form is not used for a family, named as its module in `mpo.models.families`."""
    if family not in NAMINGS:
        raise MpoError(
            f"--format=kohya: sd-scripts, A1111 and Forge have no {family} in this form; use --format=comfyui or diffusers"
        )


def to_tensors(lora: Lora, family: str, num_outputs: Callable[[str], int]) -> dict[str, Tensor]:
    """Layers -> tensors by sd-scripts' names, with alpha = rank. num_outputs: of a layer, by diffusers' name.

    Raises MpoError for a family or a layer that the form does not have.
    """
    check_family(family)
    return in_words_of(NAMINGS[family], lora, num_outputs, program="sd-scripts")
