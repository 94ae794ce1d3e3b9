"""Stage evaluate: tuned against base on held-out prompts, at paired seeds, scored by the recipe's judge."""

import shutil
from pathlib import Path
from typing import Any

from mpo.comparison.win_rates import MODELS, summary_of
from mpo.models.loading import load_pipeline
from mpo.models.lora import add_lora, load_lora
from mpo.models.sampling import Sample, make_samples, size_of
from mpo.recipe import read_recipe
from mpo.run_folder.files import write_json
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import EVALUATION, read_table, write_table
from mpo.runtime.processes import barrier, is_main
from mpo.runtime.seeds import derive_seed
from mpo.scoring import checklist_metadata, load_reward, score_files
from mpo.training.checkpoints import final_lora


def evaluate(folder: str | Path) -> None:
    """The trained LoRA -> evaluation/samples/, evaluation.parquet, summary.json."""
    run = RunFolder(folder)
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
        make_samples(
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
    barrier()  # all have read the parts, which are deleted below
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
