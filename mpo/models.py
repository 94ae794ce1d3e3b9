"""Loading a diffusion model: a shipped one by name, a folder, or a hub id."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from diffusers import DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from mpo import MpoError
from mpo.families import family_of_class
from mpo.recipe import Model

EMBEDDED = Path(__file__).parent / "embedded" / "model"


def resolve(model: Model) -> str:
    """The folder or hub id behind a recipe's `model.path`."""
    return str(EMBEDDED) if model.path == "embedded" else model.path


def check_model(model: Model) -> None:
    """Reads the model's index alone. Raises MpoError where it is missing or of no known family."""
    try:
        index: Any = DiffusionPipeline.load_config(resolve(model), revision=model.revision)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise MpoError(
            f"model.path={model.path!r} cannot be loaded ({reason}); give 'embedded', a folder with a model_index.json, or a hub id"
        ) from None
    family_of_class(str(index["_class_name"]))


def load_pipeline(model: Model) -> Any:
    """The pipeline on this process's device, in evaluation mode, its own progress bar off."""
    check_model(model)
    try:
        with _without_chatter(model):
            pipeline = DiffusionPipeline.from_pretrained(
                resolve(model), revision=model.revision, dtype=getattr(torch, model.dtype), use_safetensors=True
            )
    except (OSError, ValueError) as error:
        raise MpoError(
            f"model.path={model.path!r} cannot be loaded ({' '.join(str(error).split())}); the folder or download is incomplete"
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(PartialState().default_device)


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
