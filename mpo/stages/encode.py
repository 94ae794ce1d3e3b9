"""Stage encode: latents and prompt embeddings of the selected pairs, computed once; of clips also their frames a second.

Shards of safetensors, each complete or absent; training reads single rows from them without loading the rest.
Latents are those of the sampling, if it kept them, else the autoencoder's mode, not a draw.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Literal

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
from mpo.run_folder.tables import read_table, rows_of
from mpo.run_folder.tensors import write_tensors
from mpo.runtime.lazily import Lazily
from mpo.runtime.pieces import Advance, Piece, Work, do_stage
from mpo.runtime.processes import this_device
from reward.media import probe_clip

BATCH = 32  # rows through a model at a time, at most


BATCH_PIXELS = 2**22  # over frames; pictures of 1024x1024: four at a time


def encode(folder: str | Path) -> None:
    """pairs.parquet, candidates/ -> encoded/{latents,prompts}-NNNNN.safetensors."""
    do_stage(work(folder), lambda: gather(folder))


def work(folder: str | Path) -> Iterator[Work]:
    """The shards."""
    yield Encoding(RunFolder(folder))


def gather(folder: str | Path) -> None:
    """Nothing: the shards are what this stage makes."""


EncodedKind = Literal["latents", "prompts"]


@dataclass(frozen=True)
class Shard:
    """Rows of one file: latents of candidates, or embeddings of prompts."""

    kind: EncodedKind
    file: Path
    ids: Sequence[int]


class Encoding(Work[Shard]):
    """Latents and prompt embeddings to be computed, a shard a piece."""

    description = "encode"

    def __init__(self, run: RunFolder):
        self.run = run
        self.recipe = read_recipe(run.recipe)
        candidate_ids, prompt_ids = encoded_ids(run)
        self._ids: dict[EncodedKind, np.ndarray] = {"latents": candidate_ids, "prompts": prompt_ids}
        self._num_latents = -(-len(candidate_ids) // SHARD)
        self.pieces = Lazily(self._num_latents + -(-len(prompt_ids) // SHARD), self._piece)

    def _piece(self, place: int) -> Piece[Shard]:
        kind: EncodedKind = "latents" if place < self._num_latents else "prompts"
        number = place if kind == "latents" else place - self._num_latents
        ids = self._ids[kind][number * SHARD : (number + 1) * SHARD]
        shard = Shard(kind, shard_file(self.run, kind, number), ids.tolist())
        return Piece(shard, len(ids), (shard.file,))

    @cached_property
    def candidates(self) -> Sequence[dict[str, Any]]:
        """Rows by candidate id."""
        return rows_of(read_table(self.run.candidates_table, made_by=candidate_stage(self.recipe)))

    @cached_property
    def prompts(self) -> Sequence[str]:
        """By prompt id."""
        rows = rows_of(read_table(self.run.prompts, made_by="run"))
        return Lazily(len(rows), lambda row: rows[row]["prompt"])

    def load(self) -> Any:
        return load_pipeline(self.recipe.model, without=("denoiser",))

    def is_done(self, piece: Piece[Shard]) -> bool:
        return holds(piece.content.file, piece.content.ids)

    def do(self, held: Any, piece: Piece[Shard], advance: Advance) -> None:
        shard = piece.content
        if self.recipe.model.offload:  # families ask an autoencoder where it is before they call it
            held.vae.to(this_device() if shard.kind == "latents" else "cpu")
        batches = self._latents(held, shard.ids) if shard.kind == "latents" else self._embeddings(held, shard.ids)
        _write_shard(shard.file, shard.ids, batches, advance)

    def words(self, piece: Piece[Shard]) -> Iterator[str]:
        shard = piece.content
        yield shard.file.name
        yield from (
            f"{i} {self.candidates[i]['sha256'] if shard.kind == 'latents' else self.prompts[i]}" for i in shard.ids
        )

    def _latents(self, pipeline: Any, ids: Sequence[int]) -> Iterator[Conditioning]:
        folder, rows = self.run.candidates, [self.candidates[i] for i in ids]
        if all(row["latents"] for row in rows):  # kept when they were sampled
            for row in rows:
                kept = read_latents(folder / row["latents"])
                yield {"latents": kept[None], **frame_rates([folder / row["file"]])}
            return
        family = find_family(pipeline)
        for files, batch in media_batches([folder / row["file"] for row in rows]):
            pixels = torch.from_numpy(np.stack(batch)).movedim(-1, -3).float() / 255
            yield {"latents": family.encode_media(pipeline, pixels), **frame_rates(files)}

    def _embeddings(self, pipeline: Any, ids: Sequence[int]) -> Iterator[Conditioning]:
        for start in range(0, len(ids), BATCH):
            words = [self.prompts[i] for i in ids[start : start + BATCH]]
            yield find_family(pipeline).encode_prompts(pipeline, words)


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
def _write_shard(file: Path, ids: Sequence[int], batches: Iterator[Conditioning], advance: Advance) -> None:
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
