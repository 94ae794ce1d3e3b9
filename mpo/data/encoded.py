"""Reading single rows of the encoded pairs, without loading the rest."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
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


class EncodedPairs:
    """Reads rows of the shards. Raises MpoError where one is missing."""

    def __init__(self, run: RunFolder):
        candidate_ids, prompt_ids = encoded_ids(run)
        self._shard = {
            "latents": {candidate: row // SHARD for row, candidate in enumerate(candidate_ids)},
            "prompts": {prompt: row // SHARD for row, prompt in enumerate(prompt_ids)},
        }
        for kind, shards in self._shard.items():
            for shard in sorted(set(shards.values())):
                if not shard_file(run, kind, shard).exists():
                    raise MpoError(f"{shard_file(run, kind, shard)} is missing; run `mpo encode {run.folder}` first")
        self._open = lru_cache(maxsize=64)(
            lambda kind, shard: safe_open(str(shard_file(run, kind, shard)), framework="pt")
        )
        first = next(iter(prompt_ids))
        keys = self._open("prompts", self._shard["prompts"][first]).keys()
        self._names = sorted(key.partition(".")[2] for key in keys if key.startswith(f"{first}."))

    def shape(self, candidate_id: int) -> tuple[int, ...]:
        """Of the candidate's latents: (c, h, w)."""
        file = self._open("latents", self._shard["latents"][candidate_id])
        return tuple(file.get_slice(f"{candidate_id}.latents").get_shape())

    def latents(self, candidate_ids: Sequence[int]) -> torch.Tensor:
        """(B, c, h, w) of candidates of one shape."""
        return torch.stack(self._rows("latents", "latents", candidate_ids))

    def conditioning(self, prompt_ids: Sequence[int]) -> Conditioning:
        """Each (B, ...); rows of different lengths are filled up with zeros, which their mask leaves out."""
        return {name: pad_sequence(self._rows("prompts", name, prompt_ids), True) for name in self._names}

    def _rows(self, kind: str, name: str, ids: Sequence[int]) -> list[torch.Tensor]:
        return [self._open(kind, self._shard[kind][i]).get_tensor(f"{i}.{name}") for i in ids]
