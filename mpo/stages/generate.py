"""Stage generate: candidates for every training prompt, from the untuned model, or with the LoRA that the run starts from."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from mpo import MpoError
from mpo.models.lora import load_with_lora
from mpo.models.sampling import Sampling, prompts_a_folder, samples_for
from mpo.recipe import Generate, Recipe, read_recipe
from mpo.run_folder.files import delete
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import CANDIDATE_FILES, CANDIDATES, read_table, rows_of, write_batches
from mpo.runtime.pieces import do_stage


def generate(folder: str | Path) -> None:
    """prompts.parquet -> candidates/, candidates.parquet. Raises MpoError as `gather` does."""
    do_stage(work(folder), lambda: gather(folder))


def work(folder: str | Path) -> Iterator[Sampling]:
    """The batches of candidates."""
    run = RunFolder(folder)
    recipe = read_recipe(run.recipe)
    settings = _settings(recipe)
    start = run.start if recipe.start else None
    prompts = rows_of(read_table(run.prompts, made_by="run"))
    samples = samples_for(
        prompts, recipe, settings, folder=run.candidates, purpose="candidates", seed=recipe.seed,
        num_seeds=settings.num_candidates, lora=start, keep_latents=settings.keep_latents, in_folders=True,
    )  # fmt: skip
    yield Sampling(
        lambda: load_with_lora(recipe, start, compiled=settings.compile), samples, settings, description="generate",
        records=run.candidate_records, block=prompts_a_folder(recipe) * settings.num_candidates,
    )  # fmt: skip


def gather(folder: str | Path) -> None:
    """candidates/ and what was recorded of them -> candidates.parquet, a folder at a time.

    Raises MpoError if a candidate that was made again differs from the record.
    """
    run = RunFolder(folder)
    recipe = read_recipe(run.recipe)
    (sampling,) = work(folder)
    num_candidates = _settings(recipe).num_candidates
    made = (_columns(run, sampling, block, num_candidates) for block in range(sampling.num_blocks))
    if run.candidates_table.exists():
        _refuse_changed(run, made)
    else:
        write_batches(run.candidates_table, made, CANDIDATES)
    delete(run.candidate_records)


def _columns(run: RunFolder, sampling: Sampling, block: int, num_candidates: int) -> dict[str, pa.Array]:
    """Rows of the candidates of one folder, in their order."""
    rows = []
    for piece in sampling.of_block(block):
        made = sampling.made_of(piece)
        rows += zip(made["place"], sampling.samples_of(piece), made["sha256"], made["latents_sha256"], strict=True)
    rows.sort(key=lambda row: row[0])

    above = len(run.candidates.parts)

    def name(file: Path | None) -> str | None:
        return file and "/".join(file.parts[above:])  # a tenth of relative_to's time

    columns = {
        "candidate_id": [place for place, *_ in rows],
        "prompt_id": [place // num_candidates for place, *_ in rows],
        "seed": [sample.seed for _, sample, *_ in rows],
        "file": [name(sample.file) for _, sample, *_ in rows],
        "sha256": [digest for *_, digest, _ in rows],
        "latents": [name(sample.latents) for _, sample, *_ in rows],
        "latents_sha256": [digest for *_, digest in rows],
    }
    return {key: pa.array(values, CANDIDATES.field(key).type) for key, values in columns.items()}


def _refuse_changed(run: RunFolder, made: Iterator[dict[str, pa.Array]]) -> None:
    """Raises MpoError if what was made is not what the table has recorded."""
    recorded = rows_of(read_table(run.candidates_table, made_by="generate"))
    changed = []
    for columns in made:
        now = {digest: columns[digest].to_pylist() for _, digest in CANDIDATE_FILES}
        for k, place in enumerate(columns["candidate_id"].to_pylist()):
            row = recorded[place]
            changed += [row[name] for name, digest in CANDIDATE_FILES if row[digest] != now[digest][k]]
    if changed:
        raise MpoError(
            f"{len(changed)} candidates, such as {changed[0]!r}, differ from their record (another machine or version?); run `mpo generate {run.folder} --redo` to make all of them again"
        )


def _settings(recipe: Recipe) -> Generate:
    if recipe.generate is None:
        raise MpoError(
            "the recipe has no section 'generate': its pictures come with its preferences; run `mpo import-pairs`"
        )
    return recipe.generate
