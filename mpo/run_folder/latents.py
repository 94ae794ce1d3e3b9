"""Kept latents of a sample as a file of its own, which says what it was made from, as pictures and clips do."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from mpo import MpoError
from mpo.run_folder.files import replacing
from mpo.run_folder.media import FIELD, words_of
from mpo.run_folder.tensors import write_tensors

NAME = "latents"  # of the one tensor


def write_latents(path: Path, latents: Float[Tensor, "*chw"], origin: Mapping[str, Any]) -> None:
    """One sample's latents, as the denoiser sees them, with what they were made from."""
    with replacing(path) as temporary:
        write_tensors(temporary, {NAME: latents.detach().cpu().contiguous().clone()}, {FIELD: words_of(origin)})


def read_latents(path: Path) -> Float[Tensor, "*chw"]:
    """Raises MpoError if the file is missing or damaged."""
    try:
        return load_file(path)[NAME]
    except (OSError, SafetensorError, KeyError) as error:
        raise MpoError(f"{path} cannot be read ({error}); see `mpo status` for the stage to repair") from None


def holds_origin(path: Path, origin: Mapping[str, Any]) -> bool:
    """Whether a file exists and says that it was made from this, and is complete."""
    try:
        with safe_open(str(path), framework="pt") as file:
            return (file.metadata() or {}).get(FIELD) == words_of(origin)
    except (OSError, SafetensorError):
        return False
