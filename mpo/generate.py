"""Stage generate: candidates for every training prompt, from the untuned model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from mpo import MpoError
from mpo.families import sampling_arguments
from mpo.models import load_pipeline
from mpo.processes import is_main, largest, share, wait
from mpo.progress import say, track
from mpo.recipe import Recipe, read_recipe
from mpo.store import Run, read_table, replacing, sha256, write_table

CANDIDATES = pa.schema(
    [
        ("candidate_id", pa.int64()),
        ("prompt_id", pa.int64()),
        ("seed", pa.int64()),
        ("file", pa.string()),
        ("sha256", pa.string()),
    ]
)


@dataclass(frozen=True)
class Sample:
    """One picture to make: the prompt, the seed of its first noise, where it goes, and its size."""

    prompt: str
    seed: int
    file: Path
    size: tuple[int, int] | None = None  # (width, height) in pixels; None = the pipeline's own


def derive_seed(*entropy: int) -> int:
    """A seed from such numbers as (seed, prompt, index) alone, so that any order of work gives the same draws."""
    (word,) = np.random.SeedSequence(entropy).generate_state(1, np.uint64)
    return int(word >> np.uint64(1))  # int64 holds 63 bits


def size_of(recipe: Recipe, prompt_id: int) -> tuple[int, int] | None:
    """The size of a prompt's pictures: the recipe's sizes in turn."""
    sizes = recipe.model.sizes
    return sizes[prompt_id % len(sizes)] if sizes else None


def draw_samples(
    load: Callable[[], Any],
    samples: Sequence[Sample],
    *,
    num_inference_steps: int,
    guidance_scale: float,
    batch_size: int,
    description: str,
    in_step: bool = False,
) -> None:
    """Make the pictures that are missing, this process its share; returns when all processes have.

    Batches are cut at fixed places, since rounding depends on a batch's make-up: a batch of which any picture is
    missing is sampled whole and only the missing ones are written. `load` gives the pipeline when it is needed.
    in_step: all processes sample equally many batches, as they must where each forward gathers weights from all.
    """
    batches = []
    for _, alike in groupby(sorted(samples, key=lambda sample: sample.size or ()), key=lambda sample: sample.size):
        same = list(alike)
        batches += [same[i : i + batch_size] for i in range(0, len(same), batch_size)]
    missing = [batch for batch in share(batches) if not all(sample.file.exists() for sample in batch)]
    if in_step:  # who has less to do makes something again, and keeps what is there
        missing += batches[:1] * (largest(len(missing)) - len(missing))
    if missing:
        _draw(load(), missing, num_inference_steps, guidance_scale, description)
    wait()


def _draw(
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


def generate(folder: str | Path, *, repair: bool = False) -> None:
    """prompts.parquet -> candidates/, candidates.parquet.

    With `repair`, pictures that no longer match their recorded digest are deleted and made again.
    """
    run = Run(folder)
    recipe = read_recipe(run.recipe)
    settings = recipe.generate
    if settings is None:
        raise MpoError("the recipe has no section 'generate': its pictures come with its preferences; run `mpo gather`")
    prompts = read_table(run.prompts, made_by="run").to_pylist()
    samples = [
        Sample(
            row["prompt"],
            derive_seed(recipe.seed, row["prompt_id"], k),
            run.candidates / f"{row['prompt_id']:06d}-{k:02d}.png",
            size_of(recipe, row["prompt_id"]),
        )
        for row in prompts
        for k in range(settings.num_candidates)
    ]
    recorded = read_table(run.candidates_table, made_by="generate").to_pylist() if run.candidates_table.exists() else []
    if recorded and not repair:
        return
    for row in recorded if is_main() else ():
        file = run.candidates / row["file"]
        if file.exists() and sha256(file) != row["sha256"]:
            say(f"generate: {file} is damaged and will be made again")
            run.log_event("repair", file=str(file.name))
            file.unlink()
    wait()
    draw_samples(
        lambda: load_pipeline(recipe.model),
        samples,
        num_inference_steps=settings.num_inference_steps,
        guidance_scale=settings.guidance_scale,
        batch_size=settings.batch_size,
        description="generate",
    )
    if not is_main():
        return
    digests = [sha256(sample.file) for sample in samples]
    if recorded:
        changed = [row["file"] for row, digest in zip(recorded, digests, strict=True) if row["sha256"] != digest]
        if changed:
            raise MpoError(
                f"{len(changed)} repaired candidates, such as {changed[0]!r}, came out other than recorded (another machine or version?); use a new --output"
            )
        return
    per_prompt = settings.num_candidates
    columns = {
        "candidate_id": list(range(len(samples))),
        "prompt_id": [prompts[i // per_prompt]["prompt_id"] for i in range(len(samples))],
        "seed": [sample.seed for sample in samples],
        "file": [sample.file.name for sample in samples],
        "sha256": digests,
    }
    write_table(run.candidates_table, columns, CANDIDATES)
