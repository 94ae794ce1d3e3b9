"""Validation within training: pictures for the validation prompts, scored by the judge; which checkpoint is the best.

arXiv 2412.21059 keeps the checkpoint with the best validation reward.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache

from mpo.models.lora import load_lora
from mpo.models.sampling import Sample, make_samples, size_of
from mpo.recipe import Recipe
from mpo.run_folder.files import read_lines
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import read_table
from mpo.runtime.processes import barrier, is_main
from mpo.runtime.seeds import derive_seed
from mpo.scoring import load_reward, score_files
from mpo.training.checkpoints import checkpoint_folder, lora_file


@dataclass(frozen=True)
class Validated:
    """One line of validation.jsonl."""

    step: int  # 0 = the untuned model
    total: float  # mean over pictures
    dimensions: dict[str, float]


def read_validations(run: RunFolder) -> list[Validated]:
    return [Validated(**record) for record in read_lines(run.validation_log)]


def is_due(recipe: Recipe, step: int) -> bool:
    """Whether a step is validated: the untuned model, every so many steps, and the last."""
    settings = recipe.validation
    return settings is not None and (step % settings.interval_steps == 0 or step == recipe.train.num_steps)


def best_of(validated: list[Validated]) -> Validated:
    """The highest total among the trained; the earlier of equals."""
    return max((v for v in validated if v.step > 0), key=lambda v: (v.total, -v.step))


def has_stalled(recipe: Recipe, validated: list[Validated]) -> bool:
    """Whether the last `patience` validations all fell short of an earlier one."""
    settings = recipe.validation
    trained = [v for v in validated if v.step > 0]
    if settings is None or settings.patience is None or not trained:
        return False
    return trained.index(best_of(trained)) < len(trained) - settings.patience


def validate(
    run: RunFolder, recipe: Recipe, pipeline: Any, denoiser: Any, step: int, *, lockstep: bool = False
) -> Validated:
    """Sample with the checkpoint of a step (at 0 without one), score, and add a line to validation.jsonl.

    The judge is loaded for it and let go again: training may need the memory.
    in_step: for a denoiser whose weights are spread over the processes.
    """
    settings = recipe.validation
    assert settings is not None
    samples = [
        Sample(
            row["prompt"],
            derive_seed(settings.seed, row["prompt_id"], k),
            run.validation / f"step-{step:06d}" / f"{row['prompt_id']:06d}-{k:02d}.png",
            size_of(recipe, row["prompt_id"]),
        )
        for row in read_table(run.validation_prompts, made_by="run").to_pylist()
        for k in range(settings.num_seeds)
    ]
    with _weights_of(run, denoiser, step):
        make_samples(
            lambda: pipeline,
            samples,
            num_inference_steps=settings.num_inference_steps,
            guidance_scale=settings.guidance_scale,
            batch_size=settings.batch_size,
            description=f"validate: step {step}",
            lockstep=lockstep,
        )
    scores = score_files(
        load_reward(recipe),
        [sample.file for sample in samples],
        [sample.prompt for sample in samples],
        parts=run.validation / f"step-{step:06d}" / "scores",
        description=f"validate: step {step}, score",
    )
    clear_device_cache(garbage_collection=True)
    means = dict(zip(scores.checklist.dimensions, scores.dimensions.mean(axis=0).tolist(), strict=True))
    validated = Validated(step, float(scores.total.mean()), means)
    if is_main():
        with run.validation_log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(vars(validated)) + "\n")
    barrier()
    return validated


@contextmanager
def _weights_of(run: RunFolder, denoiser: Any, step: int) -> Iterator[None]:
    """The network as the checkpoint of this step will be used, in evaluation mode; afterwards as it was."""
    folder = checkpoint_folder(run, step)
    if step:
        load_lora(denoiser, lora_file(folder))
    denoiser.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        denoiser.train()
        if step:
            load_lora(denoiser, folder / "lora.safetensors")
