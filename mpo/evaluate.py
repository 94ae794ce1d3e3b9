"""Stage evaluate: tuned against base on held-out prompts, at paired seeds, scored by the recipe's judge."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mpo import MpoError
from mpo.checkpoint import final_lora
from mpo.generate import Sample, derive_seed, draw_samples, size_of
from mpo.lora import add_lora, load_lora
from mpo.models import load_pipeline
from mpo.processes import is_main, wait
from mpo.recipe import Recipe, read_recipe
from mpo.score import checklist_metadata, load_reward, score_files, scored_checklist
from mpo.store import Run, read_table, write_json, write_table
from reward import Scores, score_answers

EVALUATION = pa.schema(
    [
        ("prompt_id", pa.int64()),
        ("seed", pa.int64()),
        ("model", pa.string()),  # "base" or "tuned"
        ("file", pa.string()),
        ("p_yes", pa.list_(pa.float64())),
        ("dimensions", pa.list_(pa.float64())),
        ("total", pa.float64()),
    ]
)
MODELS = ("base", "tuned")
TIE = 1e-9  # scores are sums of few weights: any real difference is far larger


def outcomes(tuned: np.ndarray, base: np.ndarray) -> np.ndarray:
    """Scores -> 1 where tuned wins, 1/2 at a tie, 0 where base wins; same shape."""
    difference = tuned - base
    return np.where(np.abs(difference) <= TIE, 0.5, (difference > 0).astype(np.float64))


def summarise(outcome: np.ndarray, *, num_bootstrap: int, seed: int) -> dict[str, Any]:
    """Outcomes (prompts, seeds) -> rates, and a 95 % percentile interval of the win rate by bootstrap over prompts.

    win_rate counts a tie as half a win. Prompts are resampled, not pictures: those of a prompt are not independent.
    """
    per_prompt = outcome.mean(axis=1)
    rng = np.random.default_rng(seed)
    resampled = per_prompt[rng.integers(len(per_prompt), size=(num_bootstrap, len(per_prompt)))].mean(axis=1)
    low, high = np.percentile(resampled, [2.5, 97.5])
    return {
        "win_rate": float(per_prompt.mean()),
        "tie_rate": float((outcome == 0.5).mean()),
        "loss_rate": float((outcome == 0).mean()),
        "ci95": [float(low), float(high)],
        "num_prompts": len(per_prompt),
    }


def evaluate(folder: str | Path) -> None:
    """The trained LoRA -> evaluation/samples/, evaluation.parquet, summary.json."""
    run = Run(folder)
    recipe = read_recipe(run.recipe)
    settings = recipe.evaluate
    if run.evaluation_table.exists() and run.summary.exists():
        return
    lora = final_lora(run)
    prompts = read_table(run.heldout_prompts, made_by="run").to_pylist()

    def load(model: str) -> Any:
        pipeline = load_pipeline(recipe.model)
        if model == "tuned":
            load_lora(add_lora(pipeline, recipe.train), lora)
        return pipeline

    rows, files, texts = [], [], []
    for model in MODELS:
        samples = []
        for row in prompts:
            for k in range(settings.num_seeds):
                file = run.samples / model / f"{row['prompt_id']:06d}-{k:02d}.png"
                seed = derive_seed(settings.seed, row["prompt_id"], k)
                samples.append(Sample(row["prompt"], seed, file, size_of(recipe, row["prompt_id"])))
                rows.append(
                    {
                        "prompt_id": row["prompt_id"],
                        "seed": samples[-1].seed,
                        "model": model,
                        "file": f"{model}/{file.name}",
                    }
                )
        draw_samples(
            lambda model=model: load(model),
            samples,
            num_inference_steps=settings.num_inference_steps,
            guidance_scale=settings.guidance_scale,
            batch_size=settings.batch_size,
            description=f"evaluate: {model}",
        )
        files += [sample.file for sample in samples]
        texts += [sample.prompt for sample in samples]

    parts = run.evaluation / "scores"
    scores = score_files(load_reward(recipe), files, texts, parts=parts, description="evaluate: score")
    wait()  # all have read the parts, which are deleted below
    if not is_main():
        return
    columns = {name: [row[name] for row in rows] for name in ("prompt_id", "seed", "model", "file")}
    columns |= {
        "p_yes": scores.p_yes.tolist(),
        "dimensions": scores.dimensions.tolist(),
        "total": scores.total.tolist(),
    }
    write_table(run.evaluation_table, columns, EVALUATION, checklist_metadata(scores.checklist))
    write_json(run.summary, summary_of(scores, recipe))
    shutil.rmtree(parts)


def summary_of(scores: Scores, recipe: Recipe) -> dict[str, Any]:
    """Scores of base's pictures followed by tuned's, each prompt by prompt -> {"total": {...}, "dimensions": {NAME: {...}}}."""

    def summary(values: np.ndarray) -> dict[str, Any]:
        base, tuned = values.reshape(2, -1, recipe.evaluate.num_seeds)
        rates = summarise(outcomes(tuned, base), num_bootstrap=recipe.evaluate.num_bootstrap, seed=recipe.evaluate.seed)
        return {**rates, "base_mean": float(base.mean()), "tuned_mean": float(tuned.mean())}

    return {
        "total": summary(scores.total),
        "dimensions": {name: summary(scores.dimensions[:, k]) for k, name in enumerate(scores.checklist.dimensions)},
    }


def read_evaluation(run: Run) -> tuple[list[dict[str, Any]], Scores, dict[str, Any]]:
    """evaluation.parquet's rows, their Scores, and summary.json. Raises MpoError where evaluate has not run."""
    if not run.evaluation_table.is_file() or not run.summary.is_file():
        raise MpoError(f"{run.evaluation_table} is missing; run `mpo evaluate {run.folder}` first")
    table = read_table(run.evaluation_table, made_by="evaluate")
    checklist = scored_checklist(read_recipe(run.recipe), table, run.evaluation_table)
    rows = table.to_pylist()
    p_yes = np.array([row["p_yes"] for row in rows])
    return rows, score_answers(p_yes, checklist), json.loads(run.summary.read_text("utf-8"))
