"""Stage encode: latents and prompt embeddings of the selected pairs, computed once.

Shards of safetensors, each whole or absent; training reads single rows from them without loading the rest.
Latents are the autoencoder's mode, not a draw.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn.utils.rnn import pad_sequence

from mpo import MpoError
from mpo.families import Conditioning, find_family
from mpo.models import load_pipeline
from mpo.processes import share
from mpo.progress import track
from mpo.recipe import maker, read_recipe
from mpo.store import Run, read_table, replacing
from reward.media import read_image

SHARD = 512  # rows in a file
BATCH = 32  # rows through a model at a time, at most
BATCH_PIXELS = 2**22  # pictures of 1024x1024: four at a time


def encode(folder: str | Path) -> None:
    """pairs.parquet, candidates/ -> encoded/{latents,prompts}-NNNNN.safetensors."""
    run = Run(folder)
    recipe = read_recipe(run.recipe)
    candidate_ids, prompt_ids = encoded_ids(run)
    work = [("latents", shard, candidate_ids[shard * SHARD :][:SHARD]) for shard in range(_num_shards(candidate_ids))]
    work += [("prompts", shard, prompt_ids[shard * SHARD :][:SHARD]) for shard in range(_num_shards(prompt_ids))]
    missing = [(kind, shard, ids) for kind, shard, ids in share(work) if not shard_file(run, kind, shard).exists()]
    if not missing:
        return
    files = {
        row["candidate_id"]: run.candidates / row["file"]
        for row in read_table(run.candidates_table, made_by=maker(recipe)).to_pylist()
    }
    prompts = {row["prompt_id"]: row["prompt"] for row in read_table(run.prompts, made_by="run").to_pylist()}
    pipeline = load_pipeline(recipe.model, without=("denoiser",))
    family = find_family(pipeline)

    def latents(ids: Sequence[int]) -> Iterator[Conditioning]:
        for batch in picture_batches([files[i] for i in ids]):
            pixels = torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2).float() / 255
            yield {"latents": family.encode_media(pipeline, pixels)}

    def embeddings(ids: Sequence[int]) -> Iterator[Conditioning]:
        for start in range(0, len(ids), BATCH):
            yield family.encode_prompts(pipeline, [prompts[i] for i in ids[start : start + BATCH]])

    with track("encode", total=sum(len(ids) for _, _, ids in missing)) as advance:
        for kind, shard, ids in missing:
            batches = latents(ids) if kind == "latents" else embeddings(ids)
            _write_shard(shard_file(run, kind, shard), ids, batches, advance)


def picture_batches(files: Sequence[Path]) -> Iterator[list[np.ndarray]]:
    """Pictures (H, W, 3) in order, neighbours of one size together, as many as fit through an autoencoder."""
    batch: list[np.ndarray] = []
    for file in files:
        picture = np.asarray(read_image(file))
        full = (len(batch) + 1) * picture.shape[0] * picture.shape[1] > BATCH_PIXELS or len(batch) == BATCH
        if batch and (full or picture.shape != batch[0].shape):
            yield batch
            batch = []
        batch.append(picture)
    yield batch


@torch.no_grad()
def _write_shard(file: Path, ids: Sequence[int], batches: Iterator[Conditioning], advance: Callable[..., None]) -> None:
    """A tensor for each row and name, "ID.NAME": rows may differ in shape."""
    tensors: Conditioning = {}
    remaining = iter(ids)
    for batch in batches:
        size = len(next(iter(batch.values())))
        for row, i in enumerate(islice(remaining, size)):
            for name, values in batch.items():
                tensors[f"{i}.{name}"] = values[row].cpu().contiguous().clone()
                if not values[row].isfinite().all():
                    raise MpoError(f"encode: {name} of id {i} is not finite; set model.dtype=float32")
        advance(size)
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
