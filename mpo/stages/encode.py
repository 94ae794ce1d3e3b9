"""Stage encode: latents and prompt embeddings of the selected pairs, computed once; of clips also their frames a second.

Shards of safetensors, each complete or absent; training reads single rows from them without loading the rest.
Latents are those of the sampling, if it kept them, else the autoencoder's mode, not a draw.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from mpo import MpoError
from mpo.data.encoded import SHARD, encoded_ids, holds, shard_file
from mpo.models.families import Conditioning, find_family
from mpo.models.loading import load_pipeline
from mpo.recipe import candidate_stage, read_recipe
from mpo.run_folder.files import replacing
from mpo.run_folder.latents import read_latents
from mpo.run_folder.media import kind_of, read_pixels
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import read_table
from mpo.run_folder.tensors import write_tensors
from mpo.runtime.processes import shard_of_rank
from mpo.runtime.progress import track
from reward.media import probe_clip

BATCH = 32  # rows through a model at a time, at most


BATCH_PIXELS = 2**22  # over frames; pictures of 1024x1024: four at a time


def encode(folder: str | Path) -> None:
    """pairs.parquet, candidates/ -> encoded/{latents,prompts}-NNNNN.safetensors."""
    run = RunFolder(folder)
    recipe = read_recipe(run.recipe)
    candidate_ids, prompt_ids = encoded_ids(run)
    work = [("latents", shard, candidate_ids[shard * SHARD :][:SHARD]) for shard in range(_num_shards(candidate_ids))]
    work += [("prompts", shard, prompt_ids[shard * SHARD :][:SHARD]) for shard in range(_num_shards(prompt_ids))]
    missing = [
        (kind, shard, ids) for kind, shard, ids in shard_of_rank(work) if not holds(shard_file(run, kind, shard), ids)
    ]
    if not missing:
        return
    candidates = {
        row["candidate_id"]: row
        for row in read_table(run.candidates_table, made_by=candidate_stage(recipe)).to_pylist()
    }
    prompts = {row["prompt_id"]: row["prompt"] for row in read_table(run.prompts, made_by="run").to_pylist()}
    pipeline = load_pipeline(recipe.model, without=("denoiser",))
    family = find_family(pipeline)

    def latents(ids: Sequence[int]) -> Iterator[Conditioning]:
        if all(candidates[i]["latents"] for i in ids):  # kept when they were sampled
            for i in ids:
                kept = read_latents(run.candidates / candidates[i]["latents"])
                yield {"latents": kept[None], **frame_rates([run.candidates / candidates[i]["file"]])}
            return
        for files, batch in media_batches([run.candidates / candidates[i]["file"] for i in ids]):
            pixels = torch.from_numpy(np.stack(batch)).movedim(-1, -3).float() / 255
            yield {"latents": family.encode_media(pipeline, pixels), **frame_rates(files)}

    def embeddings(ids: Sequence[int]) -> Iterator[Conditioning]:
        for start in range(0, len(ids), BATCH):
            yield family.encode_prompts(pipeline, [prompts[i] for i in ids[start : start + BATCH]])

    with track("encode", total=sum(len(ids) for _, _, ids in missing)) as advance:
        for kind, shard, ids in missing:
            batches = latents(ids) if kind == "latents" else embeddings(ids)
            _write_shard(shard_file(run, kind, shard), ids, batches, advance)


def media_batches(files: Sequence[Path]) -> Iterator[tuple[list[Path], list[np.ndarray]]]:
    """Files in order with their pictures (H, W, 3) or clips (F, H, W, 3), in batches of one size that fit through an autoencoder."""
    held: list[Path] = []
    batch: list[np.ndarray] = []
    for file in files:
        pixels = read_pixels(file)
        full = (len(batch) + 1) * pixels.size // 3 > BATCH_PIXELS or len(batch) == BATCH
        if batch and (full or pixels.shape != batch[0].shape):
            yield held, batch
            held, batch = [], []
        held.append(file)
        batch.append(pixels)
    yield held, batch


def frame_rates(files: Sequence[Path]) -> Conditioning:
    """Frames a second of B clips, (B,), which some networks are told; nothing for pictures."""
    if kind_of(files[0]) == "image":
        return {}
    return {"fps": torch.tensor([probe_clip(file).fps for file in files])}


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
        write_tensors(temporary, tensors)


def _num_shards(ids: Sequence[int]) -> int:
    return -(-len(ids) // SHARD)
