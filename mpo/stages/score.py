"""Stage score: the judge answers the checklist for every candidate."""

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa

from mpo.recipe import candidate_stage, read_recipe
from mpo.run_folder.files import delete
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import SCORES, lists_of, read_table, rows_of, write_batches
from mpo.runtime.lazily import Lazily
from mpo.runtime.pieces import do_stage
from mpo.scoring import Scoring
from reward import Scores
from reward.judging import load_reward


def score(folder: str | Path) -> None:
    """candidates/ -> scores.parquet. Raises MpoError naming a candidate that cannot be read."""
    do_stage(work(folder), lambda: gather(folder))


def work(folder: str | Path) -> Iterator[Scoring]:
    """The chunks of candidates that are judged."""
    run = RunFolder(folder)
    recipe = read_recipe(run.recipe)
    made_by = candidate_stage(recipe)
    prompts = rows_of(read_table(run.prompts, made_by="run"))
    candidates = rows_of(read_table(run.candidates_table, made_by=made_by, columns=["prompt_id", "file"]))
    yield Scoring(
        lambda: load_reward(recipe.judge),
        Lazily(len(candidates), lambda row: run.candidates / candidates[row]["file"]),
        Lazily(len(candidates), lambda row: prompts[candidates[row]["prompt_id"]]["prompt"]),
        parts=run.score_parts,
        description="score",
        made_by=f"mpo {made_by} {run.folder} --repair",
    )


def gather(folder: str | Path) -> None:
    """scores/ -> scores.parquet, some thousand rows at a time."""
    run = RunFolder(folder)
    (judged,) = work(folder)
    blocks = judged.blocks()
    first = next(blocks)
    write_batches(run.scores, _columns(chain([first], blocks)), SCORES, first.checklist.metadata)
    delete(run.score_parts)


def _columns(blocks: Iterable[Scores]) -> Iterator[dict[str, pa.Array]]:
    start = 0
    for scores in blocks:
        end = start + len(scores.total)
        yield {
            "candidate_id": pa.array(np.arange(start, end)),
            "p_yes": lists_of(scores.p_yes),
            "answers": lists_of(scores.answers),
            "dimensions": lists_of(scores.dimensions),
            "total": pa.array(scores.total),
        }
        start = end
