"""Reading single rows of the encoded pairs, without loading the rest."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

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


def encoded_ids(run: RunFolder) -> tuple[list[int], list[int]]:
    """The candidates and prompts that the pairs need, each in ascending order: the row order of the shards."""
    pairs = read_table(run.pairs, made_by="select")
    candidates = np.union1d(pairs.column("chosen_id").to_numpy(), pairs.column("rejected_id").to_numpy())
    return candidates.tolist(), np.unique(pairs.column("prompt_id").to_numpy()).tolist()


def holds(file: Path, ids: Sequence[int]) -> bool:
    """Whether a shard exists, is undamaged, and has exactly these rows."""
    try:
        with safe_open(str(file), framework="pt") as shard:
            return {int(key.partition(".")[0]) for key in shard.keys()} == set(ids)  # noqa: SIM118  # not a mapping
    except (OSError, SafetensorError, ValueError):
        return False


class EncodedPairs:
    """Reads rows of the shards. Raises MpoError if one is missing or damaged."""

    def __init__(self, run: RunFolder):
        candidate_ids, prompt_ids = encoded_ids(run)
        self._shard = {
            "latents": {candidate: row // SHARD for row, candidate in enumerate(candidate_ids)},
            "prompts": {prompt: row // SHARD for row, prompt in enumerate(prompt_ids)},
        }
        for kind, ids in (("latents", candidate_ids), ("prompts", prompt_ids)):
            for start in range(0, len(ids), SHARD):
                file = shard_file(run, kind, start // SHARD)
                if not holds(file, ids[start : start + SHARD]):
                    how = "damaged, or made from other pairs" if file.exists() else "missing"
                    raise MpoError(f"{file} is {how}; run `mpo encode {run.folder}`, which makes it again")
        self._open = lru_cache(maxsize=64)(
            lambda kind, shard: safe_open(str(shard_file(run, kind, shard)), framework="pt")
        )
        first = next(iter(prompt_ids))
        keys = self._open("prompts", self._shard["prompts"][first]).keys()
        self._names = sorted(key.partition(".")[2] for key in keys if key.startswith(f"{first}."))

    def shape(self, candidate_id: int) -> tuple[int, ...]:
        """Shape of the candidate's latents: (c, h, w) for most."""
        file = self._open("latents", self._shard["latents"][candidate_id])
        return tuple(file.get_slice(f"{candidate_id}.latents").get_shape())

    def latents(self, candidate_ids: Sequence[int]) -> torch.Tensor:
        """(B, ...) of candidates of one shape."""
        return torch.stack(self._rows("latents", "latents", candidate_ids))

    def fps(self, candidate_ids: Sequence[int]) -> torch.Tensor | None:
        """(B,) frames a second of clips; None for pictures."""
        first = candidate_ids[0]
        names = self._open("latents", self._shard["latents"][first]).keys()
        return torch.stack(self._rows("latents", "fps", candidate_ids)) if f"{first}.fps" in names else None

    def conditioning(self, prompt_ids: Sequence[int]) -> Conditioning:
        """Each (B, ...); shorter rows are padded with zeros, which their mask leaves out."""
        return {name: pad_sequence(self._rows("prompts", name, prompt_ids), True) for name in self._names}

    def _rows(self, kind: str, name: str, ids: Sequence[int]) -> list[torch.Tensor]:
        return [self._open(kind, self._shard[kind][i]).get_tensor(f"{i}.{name}") for i in ids]
