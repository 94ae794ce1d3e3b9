"""Validation within training: pictures for the validation prompts, scored by the judge, and which checkpoint is best.

arXiv 2412.21059 keeps the checkpoint with the best validation reward.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate.utils.memory import clear_device_cache

from mpo.models.lora import load_lora
from mpo.models.offloading import make_room
from mpo.models.sampling import make_samples, samples_for
from mpo.recipe import Recipe
from mpo.run_folder.files import append_line
from mpo.run_folder.tables import read_table
from mpo.runtime.processes import barrier, is_main
from mpo.scoring import score_files
from mpo.training.checkpoint_files import checkpoint_folder, lora_file
from mpo.training.setup import Training
from mpo.training.trackers import log_pictures
from mpo.training.validation_log import Validated
from reward.judging import load_reward


def is_due(recipe: Recipe, step: int) -> bool:
    """Whether a step is validated: the model as training begins, at each interval, and the last."""
    settings = recipe.validation
    return settings is not None and (step % settings.interval_steps == 0 or step >= recipe.train.num_steps)


def best_of(validated: list[Validated]) -> Validated:
    """The highest total among the trained ones; of equals, the earliest."""
    return max((v for v in validated if v.step > 0), key=lambda v: (v.total, -v.step))


def has_stalled(recipe: Recipe, validated: list[Validated]) -> bool:
    """Whether the last `patience` validations all fell short of an earlier one."""
    settings = recipe.validation
    trained = [v for v in validated if v.step > 0]
    if settings is None or settings.patience is None or not trained:
        return False
    return trained.index(best_of(trained)) < len(trained) - settings.patience


def validate(t: Training, step: int) -> Validated:
    """Sample with a step's checkpoint (step 0: as training begins, with the LoRA that the recipe starts from, if any), score, and add a line to validation.jsonl.

    The judge is loaded for it and freed again: training may need the memory.
    """
    settings = t.recipe.validation
    assert settings is not None
    folder = t.run.validation / f"step-{step:06d}"
    start = t.run.start if t.run.start.exists() else None
    lora = lora_file(checkpoint_folder(t.run, step)) if step else start
    samples = samples_for(
        read_table(t.run.validation_prompts, made_by="run").to_pylist(),
        t.recipe,
        settings,
        folder=folder,
        purpose="validation",
        seed=settings.seed,
        num_seeds=settings.num_seeds,
        lora=lora,
    )
    with weights_of(t, step, lora):
        make_samples(lambda: t.pipeline, samples, settings, description=f"validate {step}", lockstep=t.lockstep)
    make_room(t.pipeline, t.recipe.model)
    scores = score_files(
        load_reward(t.recipe.judge),
        [sample.file for sample in samples],
        [sample.prompt for sample in samples],
        parts=folder / "scores",
        description=f"validate {step}: score",
        made_by=f"mpo train {t.run.folder}",
    )
    clear_device_cache(garbage_collection=True)
    means = dict(zip(scores.checklist.dimensions, scores.dimensions.mean(axis=0).tolist(), strict=True))
    validated = Validated(step, float(scores.total.mean()), means)
    if is_main():
        append_line(t.run.validation_log, vars(validated))
    t.accelerator.log({"validation": validated.total}, step=step)
    log_pictures(t.accelerator, [(sample.prompt, sample.file) for sample in samples], step)
    barrier()
    return validated


@contextmanager
def weights_of(t: Training, step: int, lora: Path | None) -> Iterator[None]:
    """The network as the checkpoint of this step will be used, in evaluation mode; afterwards as it was."""
    if lora is not None:
        load_lora(t.denoiser, lora)
    t.denoiser.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        t.denoiser.train()
        if step:
            load_lora(t.denoiser, checkpoint_folder(t.run, step) / "lora.safetensors")
