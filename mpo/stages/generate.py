"""Stage generate: candidates for every training prompt, from the untuned model, or with the LoRA that the run starts from."""

from collections.abc import Iterator
from pathlib import Path

from mpo import MpoError
from mpo.models.lora import load_with_lora
from mpo.models.sampling import Sample, Sampling, samples_for
from mpo.recipe import Generate, Recipe, read_recipe
from mpo.run_folder.files import sha256
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import CANDIDATES, read_table, write_table
from mpo.runtime.pieces import Work, do_share
from mpo.runtime.processes import is_main


def generate(folder: str | Path) -> None:
    """prompts.parquet -> candidates/, candidates.parquet. Raises MpoError as `gather` does."""
    for each in work(folder):
        do_share(each)
    if is_main():
        gather(folder)


def work(folder: str | Path) -> Iterator[Work]:
    """The batches of candidates."""
    run = RunFolder(folder)
    recipe = read_recipe(run.recipe)
    start = run.start if recipe.start else None
    yield Sampling(
        lambda: load_with_lora(recipe, start), _samples(run, recipe), _settings(recipe), description="generate"
    )


def gather(folder: str | Path) -> None:
    """candidates/ -> candidates.parquet. Raises MpoError if a candidate that was made again differs from the record."""
    run = RunFolder(folder)
    recipe = read_recipe(run.recipe)
    samples = _samples(run, recipe)
    prompts = read_table(run.prompts, made_by="run").to_pylist()
    columns = {
        "candidate_id": list(range(len(samples))),
        "prompt_id": [row["prompt_id"] for row in prompts for _ in range(_settings(recipe).num_candidates)],
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


def _samples(run: RunFolder, recipe: Recipe) -> list[Sample]:
    settings = _settings(recipe)
    return samples_for(
        read_table(run.prompts, made_by="run").to_pylist(), recipe, settings, folder=run.candidates,
        purpose="candidates", seed=recipe.seed, num_seeds=settings.num_candidates,
        lora=run.start if recipe.start else None, keep_latents=settings.keep_latents,
    )  # fmt: skip


def _settings(recipe: Recipe) -> Generate:
    if recipe.generate is None:
        raise MpoError(
            "the recipe has no section 'generate': its pictures come with its preferences; run `mpo import-pairs`"
        )
    return recipe.generate
