"""Stage generate: candidates for every training prompt, from the untuned model."""

from pathlib import Path

from mpo import MpoError
from mpo.models.loading import load_pipeline
from mpo.models.sampling import Sample, make_samples, size_of
from mpo.recipe import read_recipe
from mpo.run_folder.files import sha256
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import CANDIDATES, read_table, write_table
from mpo.runtime.processes import barrier, is_main
from mpo.runtime.progress import say
from mpo.runtime.seeds import derive_seed


def generate(folder: str | Path, *, repair: bool = False) -> None:
    """prompts.parquet -> candidates/, candidates.parquet.

    With `repair`, pictures that no longer match their recorded digest are deleted and made again.
    """
    run = RunFolder(folder)
    recipe = read_recipe(run.recipe)
    settings = recipe.generate
    if settings is None:
        raise MpoError(
            "the recipe has no section 'generate': its pictures come with its preferences; run `mpo import-pairs`"
        )
    prompts = read_table(run.prompts, made_by="run").to_pylist()
    samples = [
        Sample(
            row["prompt"],
            derive_seed(recipe.seed, row["prompt_id"], k),
            run.candidates / f"{row['prompt_id']:06d}-{k:02d}.png",
            size_of(recipe, row["prompt_id"]),
        )
        for row in prompts
        for k in range(settings.num_candidates)
    ]
    recorded = read_table(run.candidates_table, made_by="generate").to_pylist() if run.candidates_table.exists() else []
    if recorded and not repair:
        return
    for row in recorded if is_main() else ():
        file = run.candidates / row["file"]
        if file.exists() and sha256(file) != row["sha256"]:
            say(f"generate: {file} is damaged and will be made again")
            run.log_event("repair", file=str(file.name))
            file.unlink()
    barrier()
    make_samples(
        lambda: load_pipeline(recipe.model),
        samples,
        num_inference_steps=settings.num_inference_steps,
        guidance_scale=settings.guidance_scale,
        batch_size=settings.batch_size,
        description="generate",
    )
    if not is_main():
        return
    digests = [sha256(sample.file) for sample in samples]
    if recorded:
        changed = [row["file"] for row, digest in zip(recorded, digests, strict=True) if row["sha256"] != digest]
        if changed:
            raise MpoError(
                f"{len(changed)} repaired candidates, such as {changed[0]!r}, came out other than recorded (another machine or version?); use a new --output"
            )
        return
    per_prompt = settings.num_candidates
    columns = {
        "candidate_id": list(range(len(samples))),
        "prompt_id": [prompts[i // per_prompt]["prompt_id"] for i in range(len(samples))],
        "seed": [sample.seed for sample in samples],
        "file": [sample.file.name for sample in samples],
        "sha256": digests,
    }
    write_table(run.candidates_table, columns, CANDIDATES)
