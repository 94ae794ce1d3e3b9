"""Evaluated runs, made by hand, and people who vote on them."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from mpo.comparison.win_rates import summary_of
from mpo.recipe import dump_recipe, parse_recipe, read_recipe
from mpo.run_folder.files import write_json
from mpo.run_folder.media import write_media
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import EVALUATION, PROMPTS, write_table
from mpo.votes.pairs import Model, Pair, open_evaluation
from mpo.votes.store import Choice, Vote, make_vote, opened, votes_file
from mpo.votes.voting import cast, new_id, next_ballot, utc_now
from reward import load_checklist, score_answers
from tests.helpers.recipes import small_fields

Answers = Callable[[str, int, int], tuple[float, float]]  # model, prompt, seed -> answers to QUESTIONS
QUESTIONS = ("symmetry_2", "clarity_4")  # of the dimensions composition and quality, in the checklist's order

COLOURS, SHAPES = ("red", "blue", "green", "yellow"), ("circle", "square", "star")  # of the prompts


def evaluated_run(
    folder: Path,
    num_prompts: int = 4,
    num_seeds: int = 2,
    *,
    answers: Answers = lambda model, prompt, seed: (0.0, float(model == "tuned")),
    others: Mapping[str, Answers] | None = None,
    draw: Callable[[str, int, int], Image.Image] | None = None,
    clips: bool = False,
) -> RunFolder:
    """As far as `mpo evaluate` has brought it.

    answers: of the judge that chose; others: of judges by name; draw: of model, prompt and seed, a sample; None = flat ones. clips:
    four frames of it.
    """
    run = RunFolder(folder)
    run.folder.mkdir(parents=True, exist_ok=True)
    recipe = parse_recipe(small_fields(folder / "model", folder), source="small")
    recipe = recipe.model_copy(update={"evaluate": recipe.evaluate.model_copy(update={"num_seeds": num_seeds})})
    run.recipe.write_text(dump_recipe(recipe), "utf-8")
    prompts = [f"a {COLOURS[number % 4]} {SHAPES[number // 4]}" for number in range(num_prompts)]
    write_table(run.heldout_prompts, {"prompt_id": range(num_prompts), "prompt": prompts}, PROMPTS)
    checklist = load_checklist("image").only(QUESTIONS)
    rows = [
        (model, prompt, seed)
        for model in ("base", "tuned")
        for prompt in range(num_prompts)
        for seed in range(num_seeds)
    ]
    columns = {
        "prompt_id": [prompt for _, prompt, _ in rows],
        "seed": [1000 * prompt + seed for _, prompt, seed in rows],
        "model": [model for model, _, _ in rows],
        "file": [f"{model}/{prompt:06d}-{seed:02d}.{'mp4' if clips else 'png'}" for model, prompt, seed in rows],
    }
    for number, name in enumerate(columns["file"]):
        file = run.samples / name
        file.parent.mkdir(parents=True, exist_ok=True)
        sample = draw(*rows[number]) if draw else Image.new("RGB", (8, 8), (number % 256, number // 256, 0))
        if clips:
            write_media(file, np.stack([np.asarray(sample)] * 4), fps=8)
        else:
            sample.save(file)
    recipe = read_recipe(run.recipe)
    judged = []
    for place, (name, of) in enumerate({"": answers, **(others or {})}.items()):
        scores = score_answers(np.array([of(*row) for row in rows]), checklist)
        table = run.judge_tables / f"{place}.parquet" if place else run.evaluation_table
        table.parent.mkdir(exist_ok=True)
        scored = {
            "p_yes": scores.p_yes.tolist(),
            "dimensions": scores.dimensions.tolist(),
            "total": scores.total.tolist(),
        }
        write_table(table, {**columns, **scored}, EVALUATION, checklist.metadata)
        judged.append({"name": name, **summary_of(scores, recipe)})
    own, *by_others = judged
    write_json(run.summary, {**own, "judges": by_others, "guards": {}})
    return run


def vote_on_all(run: RunFolder, rater: str, taste: Callable[[str, str, str], str], question: str = "overall") -> int:
    """Vote until nothing is left. taste: prompt, the model on the left and on the right -> a choice; returns how many votes."""
    count = 0
    while ballot := next_ballot(run, rater, question):
        left, right = ballot.left.parent.name, ballot.right.parent.name
        cast(run, ballot.id, taste(ballot.prompt, left, right), 1.5)
        count += 1
    return count


def vote_for(
    run: RunFolder, rater: str, place: int, choice: Choice, *, left: Model = "base", repeat: bool = False,
    question: str = "overall", replaces: str | None = None,
) -> Vote:  # fmt: skip
    """Store a vote on the evaluation's pair number `place`, whatever the rater's order."""
    pair = open_evaluation(run).pairs[place]
    vote = make_vote(
        pair, id=new_id(), time=utc_now(), rater=rater, question=question, left=left, choice=choice, repeat=repeat, seconds=1.0,
        replaces=replaces,
    )  # fmt: skip
    with opened(run, question, rater) as file:
        file.append(vote)
    return vote


def vote_of(id_: str, choice: Choice = "left", *, left: Model = "base", replaces: str | None = None) -> Vote:
    """Of ann's, on a pair without samples."""
    pair = Pair(3, 'a "cat" é', 7, Path("base/x.png"), Path("tuned/x.png"), "b" * 64, "c" * 64)
    return make_vote(
        pair, id=id_, time="2026-01-31T12:00:00Z", rater="ann", question="overall", left=left, choice=choice,
        repeat=False, seconds=None, replaces=replaces,
    )  # fmt: skip


def add(run: RunFolder, *votes: Vote) -> Path:
    """Append votes of ann's; returns the file."""
    with opened(run, "overall", "ann") as file:
        file.append(*votes)
    return votes_file(run, "overall", "ann")
