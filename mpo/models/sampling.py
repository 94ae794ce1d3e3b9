"""Pictures from a pipeline, in batches that come out the same however the work is cut."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from mpo.models.families import sampling_arguments
from mpo.recipe import Recipe
from mpo.run_folder.files import replacing
from mpo.runtime.processes import all_reduce_max, barrier, shard_of_rank
from mpo.runtime.progress import track


@dataclass(frozen=True)
class Sample:
    """One picture to make: the prompt, the seed of its first noise, where it goes, and its size."""

    prompt: str
    seed: int
    file: Path
    size: tuple[int, int] | None = None  # (width, height) in pixels; None = the pipeline's own


def size_of(recipe: Recipe, prompt_id: int) -> tuple[int, int] | None:
    """The size of a prompt's pictures: the recipe's sizes in turn."""
    sizes = recipe.model.sizes
    return sizes[prompt_id % len(sizes)] if sizes else None


def make_samples(
    load: Callable[[], Any],
    samples: Sequence[Sample],
    *,
    num_inference_steps: int,
    guidance_scale: float,
    batch_size: int,
    description: str,
    lockstep: bool = False,
) -> None:
    """Make the pictures that are missing, this process its share; returns when all processes have.

    Batches are cut at fixed places, since rounding depends on a batch's make-up: a batch of which any picture is
    missing is sampled whole and only the missing ones are written. `load` gives the pipeline when it is needed.
    lockstep: all processes sample equally many batches, as they must where each forward gathers weights from all.
    """
    batches = []
    for _, alike in groupby(sorted(samples, key=lambda sample: sample.size or ()), key=lambda sample: sample.size):
        same = list(alike)
        batches += [same[i : i + batch_size] for i in range(0, len(same), batch_size)]
    missing = [batch for batch in shard_of_rank(batches) if not all(sample.file.exists() for sample in batch)]
    if lockstep:  # who has less to do makes something again, and keeps what is there
        missing += batches[:1] * (all_reduce_max(len(missing)) - len(missing))
    if missing:
        _sample(load(), missing, num_inference_steps, guidance_scale, description)
    barrier()


def _sample(
    pipeline: Any, batches: list[list[Sample]], num_inference_steps: int, guidance_scale: float, description: str
) -> None:
    with track(description, total=sum(len(batch) for batch in batches)) as advance:
        for batch in batches:
            arguments = sampling_arguments(
                pipeline, guidance_scale=guidance_scale, num_prompts=len(batch), size=batch[0].size
            )
            generators = [torch.Generator().manual_seed(sample.seed) for sample in batch]
            images = pipeline(
                [sample.prompt for sample in batch],
                num_inference_steps=num_inference_steps,
                generator=generators,
                **arguments,
            ).images
            for sample, image in zip(batch, images, strict=True):
                if not sample.file.exists():
                    with replacing(sample.file) as temporary:
                        image.save(temporary, format="PNG")
            advance(len(batch))
