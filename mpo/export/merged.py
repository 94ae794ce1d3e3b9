"""A whole model with the LoRA in its weights: a diffusers folder, or for Stable Diffusion 1 and SDXL one file."""

from pathlib import Path
from typing import Any

from mpo import MpoError
from mpo.export.layers import Lora
from mpo.export.original_layout import in_original_layout
from mpo.models.families import denoiser_of
from mpo.run_folder.tensors import write_tensors

ONE_FILE = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")


def merge(pipeline: Any, lora: Lora) -> None:
    """Add the LoRA to the denoiser's weights, in place: the sum is taken in float32, the result in the weights' precision.

    Raises MpoError if the denoiser has no such layer, or one of another shape.
    """
    denoiser = denoiser_of(pipeline)
    layers = dict(denoiser.named_modules())
    for name, layer in lora.items():
        weight = getattr(layers.get(name), "weight", None)
        delta = layer.delta
        if weight is None or weight.shape != delta.shape:
            raise MpoError(
                f"the LoRA's layer {name!r} of shape {list(delta.shape)} does not fit the model; it was trained on another"
            )
        weight.data = (weight.data.float() + delta.to(weight.device)).to(weight.dtype)


def check_one_file(pipeline: Any) -> None:
    """Raises MpoError if a pipeline cannot be written as one file."""
    name = type(pipeline).__name__
    if name not in ONE_FILE:
        raise MpoError(f"--output: a merged {name} is a folder, not one file; name a folder")
    if name == "StableDiffusionPipeline" and pipeline.text_encoder.config.hidden_act == "gelu":
        raise MpoError(
            "--output: Stable Diffusion 2 cannot be one file: diffusers keeps its text encoder without the last layer; name a folder"
        )


def write_one_file(path: Path, pipeline: Any) -> None:
    """The pipeline's weights in their authors' layout."""
    write_tensors(path, in_original_layout(pipeline), {"format": "pt"})
