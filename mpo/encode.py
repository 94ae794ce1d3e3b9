"""Stage encode: latents and prompt embeddings of the selected pairs, computed once.

Shards of safetensors, each whole or absent; training reads single rows from them without loading the rest.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from mpo import MpoError
from mpo.families import Conditioning, find_family
from mpo.models import load_pipeline
from mpo.progress import track
from mpo.recipe import read_recipe
from mpo.store import Run, read_table, replacing
from reward.media import read_image

SHARD = 512  # rows in a file
BATCH = 32  # rows through a model at a time


def encode(folder: str | Path) -> None:
    """pairs.parquet, candidates/ -> encoded/{latents,prompts}-NNNNN.safetensors."""
    run = Run(folder)
    recipe = read_recipe(run.recipe)
    candidate_ids, prompt_ids = encoded_ids(run)
    work = [("latents", shard, candidate_ids[shard * SHARD :][:SHARD]) for shard in range(_num_shards(candidate_ids))]
    work += [("prompts", shard, prompt_ids[shard * SHARD :][:SHARD]) for shard in range(_num_shards(prompt_ids))]
    missing = [(kind, shard, ids) for kind, shard, ids in work if not shard_file(run, kind, shard).exists()]
    if not missing:
        return
    files = {
        row["candidate_id"]: run.candidates / row["file"]
        for row in read_table(run.candidates_table, made_by="generate").to_pylist()
    }
    prompts = {row["prompt_id"]: row["prompt"] for row in read_table(run.prompts, made_by="run").to_pylist()}
    pipeline = load_pipeline(recipe.model)
    family = find_family(pipeline)

    def latents(ids: Sequence[int]) -> Conditioning:
        pictures = np.stack([np.asarray(read_image(files[i])) for i in ids])
        pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
        return {"latents": family.encode_media(pipeline, pixels)}

    def embeddings(ids: Sequence[int]) -> Conditioning:
        return family.encode_prompts(pipeline, [prompts[i] for i in ids])

    total = len(candidate_ids) + len(prompt_ids)
    with track("encode", total=total, done=total - sum(len(ids) for _, _, ids in missing)) as advance:
        for kind, shard, ids in missing:
            _write_shard(shard_file(run, kind, shard), ids, latents if kind == "latents" else embeddings, advance)


@torch.no_grad()
def _write_shard(
    file: Path, ids: Sequence[int], encode_batch: Callable[[Sequence[int]], Conditioning], advance: Callable[..., None]
) -> None:
    batches = []
    for start in range(0, len(ids), BATCH):
        batches.append({name: tensor.cpu() for name, tensor in encode_batch(ids[start : start + BATCH]).items()})
        advance(len(ids[start : start + BATCH]))
    tensors = {name: torch.cat([batch[name] for batch in batches]).contiguous() for name in batches[0]}
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            row = int((~tensor.flatten(1).isfinite()).any(dim=1).nonzero()[0])
            raise MpoError(f"encode: {name} of id {ids[row]} is not finite; set model.dtype=float32")
    with replacing(file) as temporary:
        save_file(tensors, temporary)


def _num_shards(ids: Sequence[int]) -> int:
    return -(-len(ids) // SHARD)


def shard_file(run: Run, kind: str, shard: int) -> Path:
    return run.encoded / f"{kind}-{shard:05d}.safetensors"


def encoded_ids(run: Run) -> tuple[list[int], list[int]]:
    """The candidates and prompts that the pairs need, each in ascending order: the row order of the shards."""
    pairs = read_table(run.pairs, made_by="select")
    candidates = np.union1d(pairs.column("chosen_id").to_numpy(), pairs.column("rejected_id").to_numpy())
    return candidates.tolist(), np.unique(pairs.column("prompt_id").to_numpy()).tolist()


class EncodedPairs:
    """Reads rows of the shards. Raises MpoError where one is missing."""

    def __init__(self, run: Run):
        candidate_ids, prompt_ids = encoded_ids(run)
        self._row = {
            "latents": {candidate: row for row, candidate in enumerate(candidate_ids)},
            "prompts": {prompt: row for row, prompt in enumerate(prompt_ids)},
        }
        for kind, rows in self._row.items():
            for shard in range(_num_shards(list(rows))):
                if not shard_file(run, kind, shard).exists():
                    raise MpoError(f"{shard_file(run, kind, shard)} is missing; run `mpo encode {run.folder}` first")
        self._open = lru_cache(maxsize=64)(
            lambda kind, shard: safe_open(str(shard_file(run, kind, shard)), framework="pt")
        )

    def latents(self, candidate_ids: Sequence[int]) -> torch.Tensor:
        """(B, c, h, w)"""
        return self._rows("latents", candidate_ids)["latents"]

    def conditioning(self, prompt_ids: Sequence[int]) -> Conditioning:
        return self._rows("prompts", prompt_ids)

    def _rows(self, kind: str, ids: Sequence[int]) -> Conditioning:
        places = [divmod(self._row[kind][i], SHARD) for i in ids]
        names = self._open(kind, places[0][0]).keys()
        return {
            name: torch.stack([self._open(kind, shard).get_slice(name)[row] for shard, row in places]) for name in names
        }
