"""Stage evaluate: tuned against base on held-out prompts, at paired seeds, by the recipe's judge and by others."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mpo.comparison.guards import guards
from mpo.comparison.win_rates import MODELS, summary_of
from mpo.models.lora import load_with_lora
from mpo.models.sampling import Sample, make_samples, samples_for
from mpo.recipe import Recipe, read_recipe
from mpo.run_folder.files import delete, write_json
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import EVALUATION, read_table, write_table
from mpo.runtime.processes import barrier, is_main
from mpo.scoring import score_files
from mpo.training.checkpoint_files import result_file
from reward import Scores
from reward.judging import Judging, load_reward


def evaluate(folder: str | Path) -> None:
    """The trained LoRA -> evaluation/samples/, evaluation.parquet, summary.json."""
    run = RunFolder(folder)
    recipe = read_recipe(run.recipe)
    samples = [(model, sample) for model in MODELS for sample in _make_pictures(run, recipe, model)]
    scores = _scored(run, recipe.judge, samples, parts=run.evaluation_score_parts, description="evaluate: score")
    others = [
        _scored(
            run,
            [judging],
            samples,
            parts=run.evaluation_score_parts / f"judge-{place}",
            description=f"evaluate: score by {judging.name}",
        )
        for place, judging in enumerate(recipe.evaluate.judges, 1)
    ]
    barrier()  # all must have read the parts, which are deleted below
    if not is_main():
        return
    prompts = read_table(run.heldout_prompts, made_by="run").to_pylist()
    columns = {
        "prompt_id": [row["prompt_id"] for _ in MODELS for row in prompts for _ in range(recipe.evaluate.num_seeds)],
        "seed": [sample.seed for _, sample in samples],
        "model": [model for model, _ in samples],
        "file": [f"{model}/{sample.file.name}" for model, sample in samples],
    }
    _write_scores(run.evaluation_table, columns, scores)
    delete(run.judge_tables)
    for place, by_other in enumerate(others, 1):
        _write_scores(run.judge_tables / f"{place}.parquet", columns, by_other)
    guarded = guards(
        [sample.file for _, sample in samples],
        scores.checklist.kind,
        num_seeds=recipe.evaluate.num_seeds,
        num_bootstrap=recipe.evaluate.num_bootstrap,
        seed=recipe.evaluate.seed,
    )
    by_others = [
        {"name": judging.name, "checklist": by_other.checklist.fingerprint, **summary_of(by_other, recipe)}
        for judging, by_other in zip(recipe.evaluate.judges, others, strict=True)
    ]
    write_json(run.summary, {**summary_of(scores, recipe), "judges": by_others, "guards": guarded})
    delete(run.evaluation_score_parts)


def _scored(
    run: RunFolder,
    judgings: Sequence[Judging],
    samples: Sequence[tuple[str, Sample]],
    *,
    parts: Path,
    description: str,
) -> Scores:
    return score_files(
        load_reward(judgings),
        [sample.file for _, sample in samples],
        [sample.prompt for _, sample in samples],
        parts=parts,
        description=description,
        made_by=f"mpo evaluate {run.folder}",
    )


def _write_scores(path: Path, columns: Mapping[str, Any], scores: Scores) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scored = {"p_yes": scores.p_yes.tolist(), "dimensions": scores.dimensions.tolist(), "total": scores.total.tolist()}
    write_table(path, {**columns, **scored}, EVALUATION, scores.checklist.metadata)


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
    make_samples(lambda: load_with_lora(recipe, lora), samples, recipe.evaluate, description=f"evaluate: {model}")
    return samples
