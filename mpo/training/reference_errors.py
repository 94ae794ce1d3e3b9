"""The reference's denoising errors, kept: two numbers a draw, reused over epochs, resumptions and other settings.

They depend on the untuned model, the pairs and the draws, not on the objective, beta, the optimizer or the LoRA. A
folder holds those of one such combination and is refused for another.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from jaxtyping import Float
from torch import Tensor

from mpo import MpoError
from mpo.recipe import Recipe
from mpo.run_folder.files import sha256, write_json
from mpo.run_folder.paths import RunFolder
from mpo.runtime.processes import barrier, broadcast_from_main, is_main
from mpo.training.batches import Draw

# The settings of training that a draw depends on.
DRAWS = ("seed", "timestep_sampling", "timestep_mean", "timestep_std", "timestep_range", "timestep_shift")


ROUNDING = ("mixed_precision", "distilled_guidance")


def describe(recipe: Recipe, run: RunFolder, pipeline: Any, denoiser: Any) -> dict[str, Any]:
    """What reference errors depend on, as JSON. Called before a LoRA has been trained."""
    return {
        "pipeline": type(pipeline).__name__,
        "denoiser": fingerprint(denoiser),
        "pairs": sha256(run.pairs),
        "candidates": sha256(run.candidates_table),
        "prompts": sha256(run.prompts),
        "dtype": recipe.model.dtype,
        "train": {name: recipe.train.model_dump(mode="json")[name] for name in (*DRAWS, *ROUNDING)},
    }


def fingerprint(denoiser: torch.nn.Module) -> str:
    """A digest of the frozen weights: of each its name, its shape and some 4,096 values spread evenly over it."""
    digest = hashlib.sha256()
    for name, parameter in sorted(denoiser.named_parameters()):
        if "lora_" in name:
            continue
        flat = parameter.detach().flatten()
        sample = flat[:: max(1, flat.numel() // 4096)].to("cpu", torch.float32)
        digest.update(f"{name.replace('.base_layer', '')} {tuple(parameter.shape)}\n".encode())
        digest.update(sample.contiguous().numpy().tobytes())
    return digest.hexdigest()


class ReferenceErrors:
    """(pair, repetition) -> errors of chosen and rejected. A line of JSON for each batch, whole or ignored."""

    def __init__(self, folder: str | Path, description: dict[str, Any]):
        """Opens or makes the folder; called by every process, of which the main one reads and keeps.

        Raises MpoError for another's folder.
        """
        self.folder = Path(folder)
        held = self.folder / "description.json"
        if is_main() and not held.exists():
            write_json(held, description)
        barrier()
        other = json.loads(held.read_text("utf-8"))
        differing = [name for name in description if other.get(name) != description[name]]
        if differing:
            raise MpoError(
                f"train.reference_cache={str(folder)!r} holds errors of another {' and '.join(differing)}; use another folder, or delete it"
            )
        # All processes know the same, also where another run writes to the folder meanwhile.
        self._errors: dict[Draw, tuple[float, float]] = broadcast_from_main(
            _read_errors(self._file) if is_main() else None
        )

    @property
    def _file(self) -> Path:
        return self.folder / "errors.jsonl"

    def __len__(self) -> int:
        return len(self._errors)

    def __contains__(self, draw: Draw) -> bool:
        return draw in self._errors

    def get(self, draws: Sequence[Draw], device: Any) -> Float[Tensor, "2 B"]:
        """Errors of B draws that are kept, the chosen's above the rejected's."""
        return torch.tensor([self._errors[draw] for draw in draws], dtype=torch.float32, device=device).T

    def put(self, draws: Sequence[Draw], errors: Float[Tensor, "2 B"]) -> None:
        """Keep the errors of B draws; what is kept already stays."""
        rows = errors.T.tolist()
        _keep(self._errors, draws, rows)
        if is_main() and errors.isfinite().all():  # others stop the training, and should not stop the next
            entry = {"draws": [[draw.pair, draw.repetition] for draw in draws], "errors": rows}
            with self._file.open("a+b") as file:
                line = json.dumps(entry).encode() + b"\n"
                file.write(b"\n" + line if _ends_in_half_a_line(file) else line)


def _ends_in_half_a_line(file: BinaryIO) -> bool:
    if not file.seek(0, os.SEEK_END):
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"


def _read_errors(file: Path) -> dict[Draw, tuple[float, float]]:
    errors: dict[Draw, tuple[float, float]] = {}
    for line in file.read_bytes().splitlines() if file.exists() else ():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue  # half a line of a killed run
        _keep(errors, [Draw(*draw) for draw in entry["draws"]], entry["errors"])
    return errors


def _keep(errors: dict[Draw, tuple[float, float]], draws: Sequence[Draw], rows: Sequence[Sequence[float]]) -> None:
    for draw, (chosen, rejected) in zip(draws, rows, strict=True):
        errors.setdefault(draw, (chosen, rejected))
