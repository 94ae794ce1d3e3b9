"""Stage evaluate: tuned against base on held-out prompts, at paired seeds, scored by the recipe's judge."""

from pathlib import Path
from typing import Any

from mpo.comparison.win_rates import MODELS, summary_of
from mpo.models.loading import load_pipeline
from mpo.models.lora import add_lora, load_lora
from mpo.models.sampling import Sample, make_samples, samples_for
from mpo.recipe import Recipe, read_recipe
from mpo.run_folder.files import delete, write_json
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import EVALUATION, read_table, write_table
from mpo.runtime.processes import barrier, is_main
from mpo.scoring import checklist_metadata, score_files
from mpo.training.checkpoint_files import result_file
from reward.judging import load_reward


def evaluate(folder: str | Path) -> None:
    """The trained LoRA -> evaluation/samples/, evaluation.parquet, summary.json."""
    run = RunFolder(folder)
    recipe = read_recipe(run.recipe)
    samples = [(model, sample) for model in MODELS for sample in _make_pictures(run, recipe, model)]
    scores = score_files(
        load_reward(recipe.judge),
        [sample.file for _, sample in samples],
        [sample.prompt for _, sample in samples],
        parts=run.evaluation_score_parts,
        description="evaluate: score",
        made_by=f"mpo evaluate {run.folder}",
    )
    barrier()  # all must have read the parts, which are deleted below
    if not is_main():
        return
    prompts = read_table(run.heldout_prompts, made_by="run").to_pylist()
    columns = {
        "prompt_id": [row["prompt_id"] for _ in MODELS for row in prompts for _ in range(recipe.evaluate.num_seeds)],
        "seed": [sample.seed for _, sample in samples],
        "model": [model for model, _ in samples],
        "file": [f"{model}/{sample.file.name}" for model, sample in samples],
        "p_yes": scores.p_yes.tolist(),
        "dimensions": scores.dimensions.tolist(),
        "total": scores.total.tolist(),
    }
    write_table(run.evaluation_table, columns, EVALUATION, checklist_metadata(scores.checklist))
    write_json(run.summary, summary_of(scores, recipe))
    delete(run.evaluation_score_parts)


def _make_pictures(run: RunFolder, recipe: Recipe, model: str) -> list[Sample]:
    """The pictures of one model, "base" or "tuned"."""
    lora = result_file(run) if model == "tuned" else None
    samples = samples_for(
        read_table(run.heldout_prompts, made_by="run").to_pylist(),
        recipe,
        recipe.evaluate,
        folder=run.samples / model,
        purpose="evaluation",
        seed=recipe.evaluate.seed,
        num_seeds=recipe.evaluate.num_seeds,
        lora=lora,
    )

    def load() -> Any:
        pipeline = load_pipeline(recipe.model)
        if lora is not None:
            load_lora(add_lora(pipeline, recipe.train), lora)
        return pipeline

    make_samples(load, samples, recipe.evaluate, description=f"evaluate: {model}")
    return samples
