"""Simulated people: what they vote, what is learnt from it, and whom it serves."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks import people
from mpo import MpoError
from mpo.comparison.dominance import find_pairs, find_strategy
from mpo.embedded.scenes import caption, paint, sample_defects, sample_scene
from mpo.recipe import dump_recipe, load_recipe
from mpo.run_folder.files import write_json
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import CANDIDATES, EVALUATION, PROMPTS, read_table, write_table
from mpo.scoring import scored_checklist
from mpo.stages.score import score
from reward import Scores, load_checklist, score_answers
from reward.cli import app
from reward.judging import Judging, load_reward

PER_PROMPT = 4


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunFolder:
    """24 prompts with 4 painted pictures each, scored as the quickstart does."""
    run, rng = RunFolder(tmp_path_factory.mktemp("people") / "run"), np.random.default_rng(0)
    run.candidates.mkdir(parents=True)
    run.recipe.write_text(dump_recipe(load_recipe("quickstart")), "utf-8")
    scenes = [sample_scene(rng) for _ in range(24)]
    write_table(run.prompts, {"prompt_id": range(24), "prompt": [caption(scene) for scene in scenes]}, PROMPTS)
    ids = list(range(24 * PER_PROMPT))
    names = [f"{k}.png" for k in ids]
    for k, name in zip(ids, names, strict=True):
        paint(scenes[k // PER_PROMPT], sample_defects(rng), rng).save(run.candidates / name)
    unknown = [None] * len(ids)
    columns = {"candidate_id": ids, "prompt_id": [k // PER_PROMPT for k in ids], "seed": ids, "file": names}
    write_table(
        run.candidates_table, columns | dict.fromkeys(("sha256", "latents", "latents_sha256"), unknown), CANDIDATES
    )
    score(run.folder)
    return run


def agreement_with(taste_like: Scores, by: Scores) -> float:
    """Mean lead in `taste_like` of the pairs that dominate in `by`, in standard deviations."""
    ids = np.repeat(np.arange(24), PER_PROMPT)
    strategy = find_strategy("dominance", by.checklist)
    pairs = find_pairs(strategy, ids, by.dimensions, by.total, min_margin=0.6, per_prompt=None)
    assert len(pairs) > 20
    return float((taste_like.total[pairs.chosen] - taste_like.total[pairs.rejected]).mean() / taste_like.total.std())


def test_weights_learnt_from_votes_choose_what_people_like_better_than_the_published_ones(run, tmp_path):
    """From votes to a checklist by files and commands, about 10 s: that what `benchmarks.study` does in a repetition works."""
    votes, fitted, learnt = (tmp_path / name for name in ("votes.jsonl", "fitted.yaml", "learnt.yaml"))
    people.main(["vote", str(run.folder), "--output", str(votes)])
    rows = [json.loads(line) for line in votes.read_text().splitlines()]
    assert len(rows) == people.NUM_PEOPLE * people.VOTES_EACH
    assert all((tmp_path / row[side]).is_file() for row in rows for side in "ab")
    assert {row["preferred"] for row in rows} == {"a", "b", "tie"}

    arguments = ["fit", str(votes), "--output", str(fitted), "--checklist", "image", "--questions", "answerable"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    people.main(["scale", str(fitted), "--run", str(run.folder), "--output", str(learnt)])

    table = read_table(run.scores, made_by="score")
    published = score_answers(np.array(table["p_yes"].to_pylist()), scored_checklist(table, run.scores))
    theirs = load_checklist(learnt)
    assert theirs.question_ids == published.checklist.question_ids
    by_learnt = Scores(theirs, published.p_yes, published.answers)
    liked = Scores(people.taste().only(set(theirs.question_ids)), published.p_yes, published.answers)
    assert agreement_with(liked, by_learnt) > agreement_with(liked, published) + 0.1
    # The recipe's margin means the same: as many pairs, or one or two more or less where margins are equal.
    counts = []
    for scores in (published, by_learnt):
        ids = np.repeat(np.arange(24), PER_PROMPT)
        strategy = find_strategy("dominance", scores.checklist)
        counts.append(len(find_pairs(strategy, ids, scores.dimensions, scores.total, min_margin=0.6, per_prompt=None)))
    assert abs(counts[0] - counts[1]) <= 2


def test_weights_that_nobody_can_train_on_are_refused(run):
    asked = scored_checklist(read_table(run.scores, made_by="score"), run.scores)
    nothing = asked.weighted({"symmetry_1": 1.0}, name="layout-alone")
    with pytest.raises(MpoError, match="pairs dominate by the learnt weights"):
        people.scale(nothing, run)


def test_a_margin_that_needs_no_unit_and_one_that_no_pair_has(run, tmp_path):
    asked = scored_checklist(read_table(run.scores, made_by="score"), run.scores)
    other = RunFolder(Path(shutil.copytree(run.folder, tmp_path / "run")))
    other.recipe.write_text(dump_recipe(load_recipe("quickstart", ["select.margin=0"])), "utf-8")
    assert people.scale(asked, other) is asked
    other.recipe.write_text(dump_recipe(load_recipe("quickstart", ["select.margin=100"])), "utf-8")
    with pytest.raises(MpoError, match="0 by its own"):
        people.scale(asked, other)


def test_people_see_what_the_measured_judge_sees_and_weigh_it_otherwise(run, tmp_path):
    people.main(["taste", "--output", str(tmp_path / "taste.yaml")])
    name = "benchmarks.people:People"
    theirs = load_reward([Judging(name=name, checklist=str(tmp_path / "taste.yaml"), questions="answerable")])
    table = read_table(run.scores, made_by="score")
    prompts = read_table(run.prompts, made_by="run")["prompt"].to_pylist()
    scores = theirs.score([run.candidates / "0.png", run.candidates / "5.png"], [prompts[0], prompts[1]])
    np.testing.assert_array_equal(scores.p_yes, np.array(table["p_yes"].to_pylist())[[0, 5]])
    weights = dict(zip(scores.checklist.question_ids, scores.checklist.weights, strict=True))
    assert weights["color_aesthetic_1"] == 0.4  # the published weight is 0
    assert weights["alignment"] == pytest.approx(0.05 * 2.3542882631150923)


def test_most_people_go_by_the_common_taste_each_in_their_own_way():
    checklist = people.taste()
    drawn = people.draw_people(checklist, 400, seed=1)
    place = checklist.question_ids.index("color_aesthetic_1")
    assert (drawn[:, place] == 0).mean() == pytest.approx(
        people.DISSENT, abs=0.06
    )  # to the published weights it is nothing
    likers = drawn[drawn[:, place] > 0, place]
    assert np.log(likers).mean() == pytest.approx(np.log(0.4), abs=0.1)
    assert np.log(likers).std() == pytest.approx(people.VARIATION, abs=0.06)


def test_majorities_by_hand(tmp_path, run):
    """Two prompts, a picture each. Tuned has better colours at the first and is the same at the second: (1 + 1/2) / 2."""
    checklist = scored_checklist(read_table(run.scores, made_by="score"), run.scores)
    colours = [checklist.question_ids.index(f"color_aesthetic_{k}") for k in (1, 2)]
    p_yes = np.full((4, len(checklist.questions)), 0.9)
    p_yes[0, colours] = 0.1  # of base at the first prompt
    scores = score_answers(p_yes, checklist)

    def evaluated(name: str, *, seed: int = 0, prompts: tuple[str, str] = ("a", "b")) -> RunFolder:
        run = RunFolder(tmp_path / name)
        run.evaluation.mkdir(parents=True)
        columns = {
            "prompt_id": [0, 1, 0, 1],
            "seed": [seed] * 4,
            "model": ["base", "base", "tuned", "tuned"],
            "file": ["x.png"] * 4,
            "p_yes": scores.p_yes.tolist(),
            "dimensions": scores.dimensions.tolist(),
            "total": scores.total.tolist(),
        }
        write_table(run.evaluation_table, columns, EVALUATION, checklist.metadata)
        write_table(run.heldout_prompts, {"prompt_id": [0, 1], "prompt": list(prompts)}, PROMPTS)
        write_json(run.summary, {})
        return run

    first = evaluated("first")
    assert people.majority_win_rate(first, seed=0) == 0.75
    assert people.majority_win_rate(first, evaluated("second"), seed=0) == 0.5
    for other in (evaluated("seeds", seed=1), evaluated("prompts", prompts=("a", "c"))):
        with pytest.raises(MpoError, match="the same prompts and seeds; compare runs of one study"):
            people.majority_win_rate(first, other, seed=0)
