"""Tensors as files that others may read."""

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

_UMASK = os.umask(0)  # it can only be read by setting it
os.umask(_UMASK)


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """A safetensors file with the permissions of any new file: the library's own are for its owner alone."""
    save_file(dict(tensors), path, None if metadata is None else dict(metadata))
    path.chmod(0o666 & ~_UMASK)
