"""Stage score: the judge answers the checklist about every candidate."""

import shutil
from pathlib import Path

from mpo import MpoError
from mpo.recipe import candidate_stage, read_recipe
from mpo.run_folder.files import sha256
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import SCORES, read_table, write_table
from mpo.runtime.processes import barrier, is_main, shard_of_rank
from mpo.scoring import checklist_metadata, load_reward, score_files
from reward.errors import MediaError


def score(folder: str | Path) -> None:
    """candidates/ -> scores.parquet. Raises MpoError naming a candidate that is missing or damaged."""
    run = RunFolder(folder)
    if run.scores.exists():
        return
    recipe = read_recipe(run.recipe)
    prompts = {row["prompt_id"]: row["prompt"] for row in read_table(run.prompts, made_by="run").to_pylist()}
    candidates = read_table(run.candidates_table, made_by=candidate_stage(recipe)).to_pylist()
    for row in shard_of_rank(candidates):
        file = run.candidates / row["file"]
        if not file.is_file() or sha256(file) != row["sha256"]:
            state = "damaged: it does not match its recorded digest" if file.is_file() else "missing"
            remedy = "run again with --repair to make it again"
            if recipe.preferences:
                remedy = f"delete {run.preferences} and {run.gathered} and run `mpo import-pairs {run.folder}` again"
            raise MpoError(f"score: candidate {file} is {state}; {remedy}")
    files = [run.candidates / row["file"] for row in candidates]
    parts = run.folder / "scores"
    try:
        scores = score_files(
            load_reward(recipe),
            files,
            [prompts[row["prompt_id"]] for row in candidates],
            parts=parts,
            description="score",
        )
    except MediaError as error:
        raise MpoError(f"score: {error}") from error
    barrier()  # all have read the parts, which are deleted below
    if not is_main():
        return
    columns = {
        "candidate_id": [row["candidate_id"] for row in candidates],
        "p_yes": scores.p_yes.tolist(),
        "answers": scores.answers.tolist(),
        "dimensions": scores.dimensions.tolist(),
        "total": scores.total.tolist(),
    }
    write_table(run.scores, columns, SCORES, checklist_metadata(scores.checklist))
    shutil.rmtree(parts)
