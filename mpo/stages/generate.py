"""Stage generate: candidates for every training prompt, from the untuned model, or with the LoRA that the run starts from."""

from pathlib import Path

from mpo import MpoError
from mpo.models.lora import load_with_lora
from mpo.models.sampling import make_samples, samples_for
from mpo.recipe import read_recipe
from mpo.run_folder.files import sha256
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import CANDIDATES, read_table, write_table
from mpo.runtime.processes import is_main


def generate(folder: str | Path) -> None:
    """prompts.parquet -> candidates/, candidates.parquet.

    Raises MpoError if a candidate that is made again differs from the record.
    """
    run = RunFolder(folder)
    recipe = read_recipe(run.recipe)
    settings = recipe.generate
    if settings is None:
        raise MpoError(
            "the recipe has no section 'generate': its pictures come with its preferences; run `mpo import-pairs`"
        )
    prompts = read_table(run.prompts, made_by="run").to_pylist()
    start = run.start if recipe.start else None
    samples = samples_for(
        prompts, recipe, settings, folder=run.candidates, purpose="candidates", seed=recipe.seed,
        num_seeds=settings.num_candidates, lora=start, keep_latents=settings.keep_latents,
    )  # fmt: skip
    make_samples(lambda: load_with_lora(recipe, start), samples, settings, description="generate")
    if not is_main():
        return
    columns = {
        "candidate_id": list(range(len(samples))),
        "prompt_id": [row["prompt_id"] for row in prompts for _ in range(settings.num_candidates)],
        "seed": [sample.seed for sample in samples],
        "file": [sample.file.name for sample in samples],
        "sha256": [sha256(sample.file) for sample in samples],
        "latents": [sample.latents and sample.latents.name for sample in samples],
        "latents_sha256": [sample.latents and sha256(sample.latents) for sample in samples],
    }
    if run.candidates_table.exists():
        recorded = read_table(run.candidates_table, made_by="generate").to_pylist()
        changed = [
            row[name]
            for k, row in enumerate(recorded)
            for name, digest in (("file", "sha256"), ("latents", "latents_sha256"))
            if row[digest] != columns[digest][k]
        ]
        if changed:
            raise MpoError(
                f"{len(changed)} candidates, such as {changed[0]!r}, differ from their record (another machine or version?); run `mpo generate {run.folder} --redo` to make all of them again"
            )
    else:
        write_table(run.candidates_table, columns, CANDIDATES)
