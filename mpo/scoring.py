"""The judge's answers about pictures: what stages score and evaluate, and validation, have in common."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from mpo import MpoError
from mpo.recipe import Recipe
from mpo.run_folder.tables import read_table, write_table
from mpo.runtime.processes import barrier, shard_of_rank
from mpo.runtime.progress import track
from reward import Checklist, Scores, VisionReward, load_checklist, load_judge, score_answers
from reward.checklist import PROMPT_FIELD
from reward.judges import find_judge

CHUNK = 64  # pictures between two writes


P_YES = pa.schema([("p_yes", pa.list_(pa.float64()))])


def check_judge(recipe: Recipe, prompts: Sequence[str]) -> Checklist:
    """The checklist that is asked. Loads no weights; whether a judge that has some can answer is found when it is loaded.

    Raises JudgeError or ChecklistError where the recipe's judge, its options, questions or prompts cannot be used.
    """
    judging = recipe.judge
    if judging.name != "measured":
        find_judge(judging.name, judging.options)
        checklist = load_checklist(judging.checklist)
        return checklist.only(judging.questions) if isinstance(judging.questions, tuple) else checklist
    reward = load_reward(recipe)
    if any(PROMPT_FIELD in question.text for question in reward.checklist):
        reward.judge.require_prompts(prompts)
    return reward.checklist


def load_reward(recipe: Recipe) -> VisionReward:
    """The recipe's judge and checklist."""
    judging = recipe.judge
    return VisionReward(load_judge(judging.name, **judging.options), judging.checklist, questions=judging.questions)


def checklist_metadata(checklist: Checklist) -> dict[str, str]:
    """What a table of scores says of the questions asked."""
    return {
        "checklist": checklist.fingerprint,
        "questions": ",".join(checklist.question_ids),
        "dimensions": ",".join(checklist.dimensions),
    }


def scored_checklist(recipe: Recipe, table: pa.Table, path: Path) -> Checklist:
    """The checklist that a table was scored with. Loads no judge.

    Raises MpoError where the checklist has changed since.
    """
    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    checklist = load_checklist(recipe.judge.checklist).only(metadata["questions"].split(","))
    if metadata["checklist"] != checklist.fingerprint:
        raise MpoError(f"{path} was made with another checklist; delete it and run its stage again")
    return checklist


def score_files(
    reward: VisionReward, files: Sequence[Path], prompts: Sequence[str], *, parts: Path, description: str
) -> Scores:
    """Scores of N picture files, kept in `parts` chunk by chunk so that a killed run goes on where it was.

    Every process judges its share of the chunks, and all return the whole. Raises MediaError naming a file that
    cannot be decoded.
    """
    metadata = {"checklist": reward.checklist.fingerprint, "judge": reward.judge.fingerprint}
    starts = range(0, len(files), CHUNK)
    mine = shard_of_rank(starts)
    with track(description, total=sum(len(files[start : start + CHUNK]) for start in mine)) as advance:
        for start in mine:
            chunk = files[start : start + CHUNK]
            if _part(parts, start).exists():
                advance(len(chunk))
                continue
            scored = reward.score(chunk, prompts[start : start + CHUNK], on_item=advance)
            write_table(_part(parts, start), {"p_yes": scored.p_yes.tolist()}, P_YES, metadata)
    barrier()
    p_yes = []
    for start in starts:
        table = read_table(_part(parts, start), made_by="score")
        if table.schema.metadata != {k.encode(): v.encode() for k, v in metadata.items()}:
            raise MpoError(
                f"{_part(parts, start)} was scored by another judge or checklist; delete {parts} and run again"
            )
        p_yes.extend(table.column("p_yes").to_pylist())
    return score_answers(np.array(p_yes).reshape(len(files), -1), reward.checklist)


def _part(parts: Path, start: int) -> Path:
    return parts / f"{start:09d}.parquet"
