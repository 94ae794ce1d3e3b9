"""Loading a diffusion model: the shipped one by name, a folder, or a hub id."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from mpo import MpoError
from mpo.models import EMBEDDED
from mpo.models.families import family_of_class
from mpo.recipe import Model
from mpo.runtime.processes import this_device


def resolve(model: Model) -> str:
    """The folder or hub id behind a recipe's `model.path`."""
    return str(EMBEDDED) if model.path == "embedded" else model.path


class ModelNotFoundError(MpoError):
    """A folder or hub id that holds no pipeline, or a hub that does not answer."""


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


def load_pipeline(model: Model, *, without: Sequence[str] = (), device: str | None = None) -> Any:
    """The pipeline in evaluation mode, its own progress bar off, without a safety checker.

    without: parts that are not needed and not loaded, "denoiser" or "text_encoders". device: None = this process's.
    """
    index = load_index(model)
    family_of_class(str(index["_class_name"]))  # or an error that lists those known
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
