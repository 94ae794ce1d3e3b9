"""Loading a diffusion model: a shipped one by name, a folder, or a hub id."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from mpo import MpoError
from mpo.families import family_of_class
from mpo.lora import inject_lora
from mpo.noise import check_scheduler
from mpo.processes import this_device
from mpo.recipe import Model, Recipe
from mpo.speed import check_attention

EMBEDDED = Path(__file__).parent / "embedded" / "model"


def resolve(model: Model) -> str:
    """The folder or hub id behind a recipe's `model.path`."""
    return str(EMBEDDED) if model.path == "embedded" else model.path


class ModelNotFoundError(MpoError):
    """A folder or hub id that holds no pipeline, or a hub that does not answer."""


def check_model(recipe: Recipe) -> None:
    """Reads the model's small files alone: its index, and how its scheduler and denoiser are configured.

    Raises MpoError where the model is missing, of no known family, or cannot be trained as the recipe says, and
    ModelNotFoundError where the files are not to be had.
    """
    model = recipe.model
    index = load_index(model)
    family = _family(index)
    multiple = size_multiple(index)
    for width, height in model.sizes or ():
        if width % multiple or height % multiple:
            raise MpoError(
                f"model.sizes holds {[width, height]}: {index['_class_name']} takes multiples of {multiple}; use {[max(1, round(side / multiple)) * multiple for side in (width, height)]}"
            )
    name = "transformer" if "transformer" in index else "unet"
    scheduler_class, denoiser_class = (getattr(diffusers, index[part][1]) for part in ("scheduler", name))
    with _readable(model):
        scheduler = scheduler_class.from_pretrained(resolve(model), subfolder="scheduler", revision=model.revision)
        config = denoiser_class.load_config(resolve(model), subfolder=name, revision=model.revision)
    check_scheduler(scheduler, recipe.train)
    distilled_guidance(recipe, config)
    with torch.device("meta"):  # its layers, without their weights
        denoiser = denoiser_class.from_config(config)
        check_attention(denoiser, recipe.train)
        inject_lora(denoiser, family, recipe.train)


def size_multiple(index: Mapping[str, Any]) -> int:
    """Of what number of pixels the model's pictures take multiples. Raises MpoError where the family is unknown."""
    return getattr(_family(index), "SIZE_MULTIPLE", 8)


def _family(index: Mapping[str, Any]) -> Any:
    return family_of_class(str(index["_class_name"]))


def load_index(model: Model) -> dict[str, Any]:
    """The pipeline's class, and its parts' classes by name. Raises ModelNotFoundError."""
    with _readable(model):
        index: Any = DiffusionPipeline.load_config(resolve(model), revision=model.revision)
    return dict(index)


@contextmanager
def _readable(model: Model) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The `local_dir_use_symlinks` argument")  # of a call that diffusers makes
            yield
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelNotFoundError(
            f"model.path={model.path!r} cannot be loaded ({reason}); give 'embedded', a folder with a model_index.json, or a hub id"
        ) from None


def distilled_guidance(recipe: Recipe, denoiser_config: Mapping[str, Any]) -> float | None:
    """The guidance that a network with distilled guidance is trained at; None for others."""
    given = recipe.train.distilled_guidance
    if not denoiser_config.get("guidance_embeds", False):
        if given is not None:
            raise MpoError(f"train.distilled_guidance={given}: this model has no guidance distilled in; remove it")
        return None
    if given is None and recipe.generate is None:
        raise MpoError(
            "train.distilled_guidance is missing, and there is no generate.guidance_scale to take; give it a value"
        )
    return recipe.generate.guidance_scale if given is None and recipe.generate else given


def load_pipeline(model: Model, *, without: Sequence[str] = (), device: str | None = None) -> Any:
    """The pipeline in evaluation mode, its own progress bar off, without a safety checker.

    without: parts that are not needed and not loaded, "denoiser" or "text_encoders". device: None = this process's.
    """
    index = load_index(model)
    _family(index)  # or an error that lists those known
    names = [name for name in index if not name.startswith("_")]
    groups = {
        "denoiser": [name for name in names if name in ("unet", "transformer")],
        "text_encoders": [name for name in names if name.startswith(("text_encoder", "tokenizer"))],
    }
    absent: dict[str, Any] = {name: None for group in without for name in groups[group]}
    if "safety_checker" in names:  # paints pictures black, which would then be judged and trained on
        absent |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    try:
        with _without_chatter(model):
            pipeline = DiffusionPipeline.from_pretrained(
                resolve(model),
                revision=model.revision,
                dtype=getattr(torch, model.dtype),
                use_safetensors=True,
                **absent,
            )
    except (OSError, ValueError) as error:
        raise MpoError(
            f"model.path={model.path!r} cannot be loaded ({' '.join(str(error).split())}); the folder or download is incomplete"
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device or this_device())


@contextmanager
def _without_chatter(model: Model) -> Iterator[None]:
    """No progress bars of the libraries' own; for the embedded model no warning that its autoencoder is a small one."""
    verbosity = diffusers_logging.get_verbosity()
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    if model.path == "embedded":
        diffusers_logging.set_verbosity_error()
    try:
        yield
    finally:
        diffusers_logging.set_verbosity(verbosity)
        diffusers_logging.enable_progress_bar()
        transformers_logging.enable_progress_bar()
