"""Stage score: the judge answers the checklist for every candidate."""

from pathlib import Path

from mpo.recipe import candidate_stage, read_recipe
from mpo.run_folder.files import delete
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import SCORES, read_table, write_table
from mpo.runtime.processes import barrier, is_main
from mpo.scoring import score_files
from reward.judging import load_reward


def score(folder: str | Path) -> None:
    """candidates/ -> scores.parquet. Raises MpoError naming a candidate that cannot be read."""
    run = RunFolder(folder)
    recipe = read_recipe(run.recipe)
    prompts = {row["prompt_id"]: row["prompt"] for row in read_table(run.prompts, made_by="run").to_pylist()}
    candidates = read_table(run.candidates_table, made_by=candidate_stage(recipe)).to_pylist()
    files = [run.candidates / row["file"] for row in candidates]
    scores = score_files(
        load_reward(recipe.judge),
        files,
        [prompts[row["prompt_id"]] for row in candidates],
        parts=run.score_parts,
        description="score",
        made_by=f"mpo {candidate_stage(recipe)} {run.folder} --repair",
    )
    barrier()  # all must have read the parts, which are deleted below
    if not is_main():
        return
    columns = {
        "candidate_id": [row["candidate_id"] for row in candidates],
        "p_yes": scores.p_yes.tolist(),
        "answers": scores.answers.tolist(),
        "dimensions": scores.dimensions.tolist(),
        "total": scores.total.tolist(),
    }
    write_table(run.scores, columns, SCORES, scores.checklist.metadata)
    delete(run.score_parts)
