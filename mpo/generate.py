"""Stage generate: candidates for every training prompt, from the untuned model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from mpo import MpoError
from mpo.models import load_pipeline
from mpo.progress import say, track
from mpo.recipe import read_recipe
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
    """One picture to make: the prompt, the seed of its first noise, and where it goes."""

    prompt: str
    seed: int
    file: Path


def derive_seed(*entropy: int) -> int:
    """A seed from such numbers as (seed, prompt, index) alone, so that any order of work gives the same draws."""
    (word,) = np.random.SeedSequence(entropy).generate_state(1, np.uint64)
    return int(word >> np.uint64(1))  # int64 holds 63 bits


def draw_samples(
    load: Callable[[], Any],
    samples: Sequence[Sample],
    *,
    num_inference_steps: int,
    guidance_scale: float,
    batch_size: int,
    description: str,
) -> None:
    """Make the pictures that are missing.

    Batches are cut at fixed places, since rounding depends on a batch's make-up: a batch of which any picture is
    missing is sampled whole and only the missing ones are written. `load` gives the pipeline when it is needed.
    """
    batches = [samples[i : i + batch_size] for i in range(0, len(samples), batch_size)]
    missing = [batch for batch in batches if not all(sample.file.exists() for sample in batch)]
    if not missing:
        return
    pipeline = load()
    done = len(samples) - sum(len(batch) for batch in missing)
    with track(description, total=len(samples), done=done) as advance:
        for batch in missing:
            generators = [torch.Generator().manual_seed(sample.seed) for sample in batch]
            images = pipeline(
                [sample.prompt for sample in batch],
                num_inference_steps=num_inference_steps,
                guidance_scale=guidance_scale,
                generator=generators,
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
    prompts = read_table(run.prompts, made_by="run").to_pylist()
    samples = [
        Sample(
            row["prompt"],
            derive_seed(recipe.seed, row["prompt_id"], k),
            run.candidates / f"{row['prompt_id']:06d}-{k:02d}.png",
        )
        for row in prompts
        for k in range(recipe.generate.num_candidates)
    ]
    recorded = read_table(run.candidates_table, made_by="generate").to_pylist() if run.candidates_table.exists() else []
    if recorded and not repair:
        return
    for row in recorded:
        file = run.candidates / row["file"]
        if file.exists() and sha256(file) != row["sha256"]:
            say(f"generate: {file} is damaged and will be made again")
            run.log_event("repair", file=str(file.name))
            file.unlink()
    draw_samples(
        lambda: load_pipeline(recipe.model),
        samples,
        num_inference_steps=recipe.generate.num_inference_steps,
        guidance_scale=recipe.generate.guidance_scale,
        batch_size=recipe.generate.batch_size,
        description="generate",
    )
    digests = [sha256(sample.file) for sample in samples]
    if recorded:
        changed = [row["file"] for row, digest in zip(recorded, digests, strict=True) if row["sha256"] != digest]
        if changed:
            raise MpoError(
                f"{len(changed)} repaired candidates, such as {changed[0]!r}, came out other than recorded (another machine or version?); use a new --output"
            )
        return
    per_prompt = recipe.generate.num_candidates
    columns = {
        "candidate_id": list(range(len(samples))),
        "prompt_id": [prompts[i // per_prompt]["prompt_id"] for i in range(len(samples))],
        "seed": [sample.seed for sample in samples],
        "file": [sample.file.name for sample in samples],
        "sha256": digests,
    }
    write_table(run.candidates_table, columns, CANDIDATES)
