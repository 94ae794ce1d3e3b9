"""One file with a pipeline in its authors' layout, as people have them."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from mpo.export.original_layout import in_original_layout


def save_as_one_file(pipeline: Any, file: Path) -> None:
    save_file(in_original_layout(pipeline), file)


def picture(pipeline: Any, prompt: str) -> torch.Tensor:
    """(1, 3, H, W) in [0, 1], two steps from a fixed noise."""
    generator = torch.Generator().manual_seed(3)
    return pipeline(prompt, num_inference_steps=2, generator=generator, output_type="pt").images
