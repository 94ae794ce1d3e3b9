"""The LoRA on a pipeline's denoiser: adding it, its weights, reading it back."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import cast_training_params
from jaxtyping import Float
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mpo import MpoError
from mpo.models.acceleration import compile_network
from mpo.models.families import Family, denoiser_of, denoisers_of, find_family
from mpo.models.loading import load_pipeline
from mpo.models.offloading import offload_blocks
from mpo.recipe import Recipe, Train
from reward.errors import first_line


def add_lora(pipeline: Any, settings: Train) -> Any:
    """Freeze the pipeline, add a LoRA (B = 0, so that policy equals reference) to its denoiser and return that.

    The LoRA's own weights are float32 and the only ones that require gradients. The random values of A depend on the seed alone.
    """
    denoiser = denoiser_of(pipeline)
    for component in pipeline.components.values():
        if isinstance(component, torch.nn.Module):
            component.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):  # drawn on the CPU
        torch.manual_seed(settings.seed)
        inject_lora(denoiser, find_family(pipeline), settings)
    cast_training_params(denoiser, torch.float32)
    return denoiser


def inject_lora(denoiser: Any, family: Family, settings: Train) -> None:
    """Put a LoRA into the family's layers, or the recipe's.

    Raises MpoError if the model has no layers of these names, or cannot run with a LoRA on one of them.
    """
    config = lora_config(denoiser, family, settings)
    try:
        inject_adapter_in_model(config, denoiser)  # the networks of some families have no add_adapter of their own
    except ValueError as error:
        raise MpoError(
            f"train.lora_targets={sorted(config.target_modules or ())} cannot be adapted ({' '.join(str(error).split())}); name linear or convolution layers"
        ) from error
    check = getattr(family, "check_lora", None)
    if check:
        check(denoiser)


def lora_config(denoiser: Any, family: Family, settings: Train) -> LoraConfig:
    """The configuration of a LoRA on the family's layers, or the recipe's."""
    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]  # a factor like any other
        target_modules=list(settings.lora_targets or family.lora_targets(denoiser)),
    )


def read_lora(file: Path) -> dict[str, Float[Tensor, "..."]]:
    """Weights under peft's names. Raises MpoError if the file is damaged."""
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise MpoError(f"{file} cannot be read ({error}); see `mpo status` for the stage to repair") from None


def lora_state(denoiser: Any) -> dict[str, Float[Tensor, "..."]]:
    """The LoRA's weights under peft's names, on the CPU."""
    state = get_peft_model_state_dict(denoiser, save_embedding_layers=False)
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}


def load_lora(denoiser: Any, file: Path) -> None:
    """Set the weights of a LoRA that `add_lora` added. Raises MpoError if the file does not match it."""
    state = read_lora(file)
    differing = sorted(state.keys() ^ lora_state(denoiser).keys())
    if differing:
        raise MpoError(
            f"{file} and the model's LoRA differ in what they hold, such as {differing[0]!r}; it was trained on another model or train.lora_targets"
        )
    try:
        set_peft_model_state_dict(denoiser, state)
    except RuntimeError as error:  # a size mismatch
        raise MpoError(
            f"{file} does not fit the model's LoRA ({first_line(error)}); it was trained on another model or train.rank"
        ) from None


def load_with_lora(recipe: Recipe, file: Path | None, *, compiled: bool = False) -> Any:
    """The recipe's pipeline with the LoRA of a file on its denoiser; None = the untuned model.

    compiled: its denoiser, or both of two.
    """
    pipeline = load_pipeline(recipe.model)
    if file is not None:
        load_lora(add_lora(pipeline, recipe.train), file)
    if compiled:
        for network in denoisers_of(pipeline):
            compile_network(network)
    offload_blocks(pipeline, recipe.model)
    return pipeline


@contextmanager
def lora_off(denoiser: Any) -> Iterator[None]:
    """The reference: the same network without the LoRA, and without gradients."""
    layers = [module for module in denoiser.modules() if isinstance(module, BaseTunerLayer)]
    # peft's own switch also flips requires_grad, which sharded parameters refuse and compiled graphs are rebuilt for.
    for layer in layers:
        layer._disable_adapters = True
    try:
        with torch.no_grad():
            yield
    finally:
        for layer in layers:
            layer._disable_adapters = False
