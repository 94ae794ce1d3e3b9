"""The reference's denoising errors, kept: two numbers a draw, reused over epochs, resumed runs and other settings.

They depend on the untuned model, the pairs and the draws, not on the objective, beta, the optimizer or the LoRA. A
folder holds those of one such combination and is refused for another.
"""

import hashlib
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mpo import MpoError
from mpo.models.families import find_family
from mpo.recipe import Recipe
from mpo.run_folder.files import append_line, read_json, sha256, write_json
from mpo.run_folder.manifest import digests
from mpo.run_folder.paths import RunFolder
from mpo.runtime.processes import barrier, broadcast_from_main, is_main
from mpo.training.batches import Draw

# The settings of training that a draw depends on.
DRAWS = ("seed", "timestep_sampling", "timestep_mean", "timestep_std", "timestep_range", "timestep_shift")


ROUNDING = ("mixed_precision", "distilled_guidance")


def describe(recipe: Recipe, run: RunFolder, pipeline: Any, denoiser: Any) -> dict[str, Any]:
    """What reference errors depend on, as JSON. Called before a LoRA has been trained."""
    scheduler = pipeline.scheduler
    config = {name: value for name, value in scheduler.config.items() if not name.startswith("_")}
    return {
        "family": find_family(pipeline).__name__,
        "pipeline": type(pipeline).__name__,
        "denoiser": fingerprint(denoiser),
        "scheduler": {"class": type(scheduler).__name__, **json.loads(json.dumps(config, default=str))},
        "pairs": sha256(run.pairs),
        "latents and embeddings": digests(run, [run.encoded]),  # what the autoencoder and the text encoders made
        "dtype": recipe.model.dtype,
        "train": {name: recipe.train.model_dump(mode="json")[name] for name in (*DRAWS, *ROUNDING)},
    }


def fingerprint(denoiser: torch.nn.Module) -> str:
    """A digest of the frozen weights: name, shape and about 4,096 evenly spread values of each."""
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
    """(pair, repetition) -> errors of chosen and rejected. A line of JSON for each batch; incomplete lines are ignored."""

    def __init__(self, folder: str | Path, description: dict[str, Any]):
        """Opens or makes the folder. Every process calls it; the main one reads and writes.

        Raises MpoError if the folder holds the errors of something else, or damaged ones.
        """
        self.folder = Path(folder)
        held = self.folder / "description.json"
        if is_main() and not held.exists() and not self._file.exists():
            write_json(held, description)
        barrier()
        other = _read_description(held)
        if other is None or other.keys() != description.keys():
            raise MpoError(
                f"train.reference_cache: {held} is {'damaged' if held.exists() else 'missing'}, so it is unknown what the errors beside it are of; delete the folder {self.folder}, and they are computed again"
            )
        differing = [name for name in description if other.get(name) != description[name]]
        if differing:
            raise MpoError(
                f"train.reference_cache={str(folder)!r} holds errors of another {' and '.join(differing)}; use another folder, or delete it"
            )
        # All processes know the same errors, even if another run writes to the folder meanwhile.
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
        """Errors of B kept draws, the chosen's above the rejected's."""
        return torch.tensor([self._errors[draw] for draw in draws], dtype=torch.float32, device=device).T

    def put(self, draws: Sequence[Draw], errors: Float[Tensor, "2 B"]) -> None:
        """Keep the errors of B draws; errors that are kept already stay."""
        rows = errors.T.tolist()
        _keep(self._errors, draws, rows)
        if is_main() and errors.isfinite().all():  # infinite errors stop this training, and must not stop the next
            entry = {"draws": [[draw.pair, draw.repetition] for draw in draws], "errors": rows}
            append_line(self._file, entry | {"crc32": _checksum(entry)})


def _read_description(file: Path) -> dict[str, Any] | None:
    """None = it is missing or damaged."""
    try:
        return read_json(file)
    except MpoError:
        return None


def _checksum(entry: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps([entry.get("draws"), entry.get("errors")]).encode())


def _read_errors(file: Path) -> dict[Draw, tuple[float, float]]:
    errors: dict[Draw, tuple[float, float]] = {}
    for number, line in enumerate(file.read_bytes().splitlines() if file.exists() else (), 1):
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # half a line of a killed run: its draws are computed again
        if not isinstance(entry, dict) or entry.get("crc32") != _checksum(entry):
            raise MpoError(
                f"{file}, line {number}, is damaged: it does not match its checksum; delete the line, and its errors are computed again"
            )
        _keep(errors, [Draw(*draw) for draw in entry["draws"]], entry["errors"])
    return errors


def _keep(errors: dict[Draw, tuple[float, float]], draws: Sequence[Draw], rows: Sequence[Sequence[float]]) -> None:
    for draw, (chosen, rejected) in zip(draws, rows, strict=True):
        errors.setdefault(draw, (chosen, rejected))
