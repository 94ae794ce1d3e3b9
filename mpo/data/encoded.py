"""The selected pairs as columns, and single rows of what encode made of them, without loading the rest.

Ids are kept as sorted arrays, 8 bytes each: a dictionary of Python's would take more than ten times as much, which counts at ten million.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch.nn.utils.rnn import pad_sequence

from mpo import MpoError
from mpo.models.families import Conditioning
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import read_table

SHARD = 512  # rows in a file


def shard_file(run: RunFolder, kind: str, shard: int) -> Path:
    return run.encoded / f"{kind}-{shard:05d}.safetensors"


@dataclass(frozen=True)
class SelectedPairs:
    """M pairs in the order of pairs.parquet: ids, each (M,) of whole numbers."""

    prompts: np.ndarray
    chosen: np.ndarray
    rejected: np.ndarray

    def __len__(self) -> int:
        return len(self.chosen)


def read_pairs(run: RunFolder) -> SelectedPairs:
    """pairs.parquet without its margins. Raises MpoError if it is missing or cannot be read."""
    names = ("prompt_id", "chosen_id", "rejected_id")
    table = read_table(run.pairs, made_by="select", columns=names)
    return SelectedPairs(*(table.column(name).to_numpy() for name in names))


def encoded_ids(run: RunFolder) -> tuple[np.ndarray, np.ndarray]:
    """The candidates and prompts that the pairs need, each in ascending order: the row order of the shards."""
    pairs = read_pairs(run)
    return np.union1d(pairs.chosen, pairs.rejected), np.unique(pairs.prompts)


def holds(file: Path, ids: Sequence[int]) -> bool:
    """Whether a shard exists, is undamaged, and has exactly these rows."""
    try:
        with safe_open(str(file), framework="pt") as shard:
            held = {int(key.partition(".")[0]) for key in shard.keys()}  # noqa: SIM118  # not a mapping
        return held == set(ids)
    except (OSError, SafetensorError, ValueError):
        return False


class EncodedPairs:
    """Reads rows of the shards. Raises MpoError if one is missing or damaged."""

    def __init__(self, run: RunFolder):
        candidate_ids, prompt_ids = encoded_ids(run)
        self._ids = {"latents": candidate_ids, "prompts": prompt_ids}
        for kind, ids in self._ids.items():
            for start in range(0, len(ids), SHARD):
                file = shard_file(run, kind, start // SHARD)
                if not holds(file, ids[start : start + SHARD].tolist()):
                    how = "damaged, or made from other pairs" if file.exists() else "missing"
                    raise MpoError(f"{file} is {how}; run `mpo encode {run.folder}`, which makes it again")
        self._open = lru_cache(maxsize=64)(
            lambda kind, shard: safe_open(str(shard_file(run, kind, shard)), framework="pt")
        )
        first = int(prompt_ids[0])
        keys = self._shard("prompts", first).keys()
        self._names = sorted(key.partition(".")[2] for key in keys if key.startswith(f"{first}."))

    def _shard(self, kind: str, id_: int) -> Any:
        """The open file that holds a row."""
        return self._open(kind, int(np.searchsorted(self._ids[kind], id_)) // SHARD)

    def shape(self, candidate_id: int) -> tuple[int, ...]:
        """Shape of the candidate's latents: (c, h, w) for most."""
        file = self._shard("latents", candidate_id)
        return tuple(file.get_slice(f"{candidate_id}.latents").get_shape())

    def latents(self, candidate_ids: Sequence[int]) -> torch.Tensor:
        """(B, ...) of candidates of one shape."""
        return torch.stack(self._rows("latents", "latents", candidate_ids))

    def fps(self, candidate_ids: Sequence[int]) -> torch.Tensor | None:
        """(B,) frames a second of clips; None for pictures."""
        first = candidate_ids[0]
        names = self._shard("latents", first).keys()
        return torch.stack(self._rows("latents", "fps", candidate_ids)) if f"{first}.fps" in names else None

    def conditioning(self, prompt_ids: Sequence[int]) -> Conditioning:
        """Each (B, ...); shorter rows are padded with zeros, which their mask leaves out."""
        return {name: pad_sequence(self._rows("prompts", name, prompt_ids), True) for name in self._names}

    def _rows(self, kind: str, name: str, ids: Sequence[int]) -> list[torch.Tensor]:
        return [self._shard(kind, i).get_tensor(f"{i}.{name}") for i in ids]
