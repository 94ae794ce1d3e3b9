"""Runs side by side: what is a repetition, what an arm, and what is compared."""

import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mpo import MpoError
from mpo.cli import app
from mpo.recipe import dump_recipe, parse_recipe, read_recipe
from mpo.run_folder.files import write_json, write_text
from mpo.run_folder.paths import RunFolder
from mpo.study import compare, describe
from tests.helpers.recipes import small_fields

RATES = {"ci95": [0.4, 0.9], "tie_rate": 0.0, "loss_rate": 0.0, "num_prompts": 2, "base_mean": 0.0, "tuned_mean": 0.1}


@pytest.fixture
def finish(tmp_path):
    """`finish(strategy, seed, win rate)` -> the folder of a run that ended so."""

    def make(strategy: str, seed: int, rate: float, judge: dict | None = None, **summary) -> Path:
        fields = small_fields(Path("embedded"), tmp_path)
        fields["judge"] = judge or fields["judge"]
        fields |= {"seed": seed, "name": f"run-{seed}"}
        fields["select"] = {"strategy": strategy, "margin": 0.0}
        fields["train"]["seed"] = seed
        run = RunFolder(tmp_path / f"{strategy}-{seed}")
        run.evaluation.mkdir(parents=True)
        write_text(run.recipe, dump_recipe(parse_recipe(fields, source="small")))
        found = {
            "total": {**RATES, "win_rate": rate},
            "dimensions": {},
            "judges": [],
            "guards": {},
            "tie_threshold": 0.01,
        }
        write_json(run.summary, found | summary)
        return run.folder

    return make


def test_runs_that_differ_in_seeds_alone_are_repetitions(finish):
    runs = [finish("total", seed, rate) for seed, rate in enumerate([0.6, 0.7, 0.8])]
    runs += [finish("dominance", seed, rate) for seed, rate in enumerate([0.75, 0.8, 0.97])]
    study = compare(runs)
    assert study.arms == ("the first (3 repetitions)", "select.strategy=dominance (3 repetitions)")
    (row,) = study.rows
    assert [mean.mean for mean in row.means] == [pytest.approx(0.7), pytest.approx(0.84)]
    (gap,) = row.differences
    assert gap.paired
    assert gap.mean == pytest.approx(0.14)  # of 0.15, 0.10, 0.17
    assert gap.verdict == "higher"
    again = compare([runs[2], *runs[:2], *reversed(runs[3:])])
    assert again.rows == study.rows  # whatever the order
    text = describe(study)
    assert "| total | 0.700 (0.452 to 0.948) |" in text
    assert "B: select.strategy=dominance (3 repetitions)" in text
    assert "| total | B, paired | +0.140 |" in text


def test_arms_without_common_seeds_are_not_paired(finish):
    runs = [finish("total", seed, 0.6 + 0.05 * seed) for seed in range(3)]
    runs += [finish("dominance", seed, 0.9 + 0.01 * seed) for seed in (1, 2, 3)]
    assert not compare(runs).rows[0].differences[0].paired


def test_arms_of_two_judges_are_not_called_alike_without_a_word(finish):
    """The same judge with its options in another order is the same judge."""
    options = {"model": "a", "batch_size": 4}
    vlm = {"name": "vlm", "checklist": "image", "options": options}
    turned = vlm | {"options": dict(reversed(options.items()))}
    same = compare([finish("total", 0, 0.6, vlm), finish("total", 1, 0.7, turned)])
    assert same.arms == ("the first (2 repetitions)",)
    assert not same.notes
    other = compare([finish("total", 2, 0.6, vlm), finish("dominance", 2, 0.7)])
    (note,) = other.notes
    assert note.startswith("B and A differ in judge.name, ")
    assert note in describe(other)
    assert not compare([finish("total", 3, 0.6), finish("dominance", 3, 0.7)]).notes


def test_other_judges_and_guards_are_compared_too(finish):
    other = {
        "name": "pickscore",
        "checklist": "c",
        "total": {**RATES, "win_rate": 0.55},
        "dimensions": {"pickscore": {}},
    }
    guard = {"ratio": 0.9, "ci95": [0.8, 1.0], "base_mean": 1.0, "tuned_mean": 0.9, "num_prompts": 2}
    study = compare([finish("total", 0, 0.6, judges=[other], guards={"diversity": guard})])
    assert [row.measure for row in study.rows] == ["total", "pickscore: total", "diversity, tuned / base"]
    assert [row.means[0].mean for row in study.rows] == [0.6, 0.55, 0.9]


def test_of_a_run_in_rounds_the_last_one_counts(finish):
    one, first, last = (RunFolder(finish("total", seed, rate)) for seed, rate in [(0, 0.6), (1, 0.7), (2, 0.9)])
    whole = RunFolder(one.folder.parent / "rounds")
    for number, run in enumerate((first, last), 1):
        shutil.copytree(run.folder, whole.folder / f"round-{number}")
    recipe = read_recipe(one.recipe).model_copy(update={"rounds": 2})
    write_text(whole.recipe, dump_recipe(recipe))
    study = compare([one.folder, whole.folder])
    assert study.arms == ("the first (1 repetition)", "rounds=2 (1 repetition)")
    (row,) = study.rows
    assert [mean.mean for mean in row.means] == [0.6, 0.9]
    assert row.differences[0].paired  # by the seeds of the first round
    shutil.rmtree(whole.folder / "round-2")
    with pytest.raises(MpoError, match="rounds has no evaluation; finish it"):
        compare([one.folder, whole.folder])


def test_a_run_of_an_earlier_version_has_neither_other_judges_nor_guards(finish):
    run = RunFolder(finish("total", 0, 0.6))
    write_json(run.summary, {"total": {**RATES, "win_rate": 0.6}, "dimensions": {}, "tie_threshold": 0.01})
    assert [row.measure for row in compare([run.folder]).rows] == ["total"]


def test_what_cannot_be_compared_is_said(finish, tmp_path):
    run = finish("total", 0, 0.6)
    with pytest.raises(MpoError, match="are the same repetition"):
        compare([run, run])
    with pytest.raises(MpoError, match="has no evaluation; finish it"):
        compare([run, tmp_path / "nothing"])
    guard = {"ratio": 0.9, "ci95": [0.8, 1.0], "base_mean": 1.0, "tuned_mean": 0.9, "num_prompts": 2}
    with pytest.raises(MpoError, match="evaluate all by the same judges"):
        compare([run, finish("dominance", 0, 0.7, guards={"diversity": guard})])
    with pytest.raises(MpoError, match="no run is given"):
        compare([])


def test_a_real_run_is_read_and_a_page_written(finished, tmp_path):
    page = tmp_path / "study.html"
    done = CliRunner().invoke(app, ["compare", str(finished), "--output", str(page)])
    assert done.exit_code == 0, done.output
    assert "A: the first (1 repetition)" in done.stdout
    assert "| diversity, tuned / base |" in done.stdout
    html = page.read_text("utf-8")
    assert "<svg" in html
    assert "diversity" in html
    assert not re.search(r"<(script|link|img)|src=|@import", html)  # nothing is fetched
    refused = CliRunner().invoke(app, ["compare", str(finished), "--output", str(tmp_path / "study.md")])
    assert "does not end in .html" in str(refused.exception)
