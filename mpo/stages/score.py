"""Stage score: the judge answers the checklist for every candidate."""

from collections.abc import Iterator
from pathlib import Path

from mpo.recipe import candidate_stage, read_recipe
from mpo.run_folder.files import delete
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import SCORES, read_table, write_table
from mpo.runtime.pieces import do_share
from mpo.runtime.processes import is_main
from mpo.scoring import Scoring
from reward.judging import load_reward


def score(folder: str | Path) -> None:
    """candidates/ -> scores.parquet. Raises MpoError naming a candidate that cannot be read."""
    for each in work(folder):
        do_share(each)
    if is_main():
        gather(folder)


def work(folder: str | Path) -> Iterator[Scoring]:
    """The chunks of candidates that are judged."""
    run = RunFolder(folder)
    recipe = read_recipe(run.recipe)
    prompts = {row["prompt_id"]: row["prompt"] for row in read_table(run.prompts, made_by="run").to_pylist()}
    candidates = read_table(run.candidates_table, made_by=candidate_stage(recipe)).to_pylist()
    yield Scoring(
        lambda: load_reward(recipe.judge),
        [run.candidates / row["file"] for row in candidates],
        [prompts[row["prompt_id"]] for row in candidates],
        parts=run.score_parts,
        description="score",
        made_by=f"mpo {candidate_stage(recipe)} {run.folder} --repair",
    )


def gather(folder: str | Path) -> None:
    """scores/ -> scores.parquet."""
    run = RunFolder(folder)
    candidates = read_table(run.candidates_table, made_by=candidate_stage(read_recipe(run.recipe)))
    (judged,) = work(folder)
    scores = judged.scores()
    columns = {
        "candidate_id": candidates.column("candidate_id").to_pylist(),
        "p_yes": scores.p_yes.tolist(),
        "answers": scores.answers.tolist(),
        "dimensions": scores.dimensions.tolist(),
        "total": scores.total.tolist(),
    }
    write_table(run.scores, columns, SCORES, scores.checklist.metadata)
    delete(run.score_parts)
