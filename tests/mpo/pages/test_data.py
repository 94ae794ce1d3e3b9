"""The data of a run's page, against the tables that they come from."""

import json

import numpy as np
import pytest

from mpo.comparison.win_rates import read_evaluation
from mpo.pages.data import Limits, evenly_spaced, files_of, page_data
from mpo.recipe import parse_recipe
from mpo.run import run_recipe
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import read_prompts_table, read_table
from tests.helpers.pictures import pickapic
from tests.helpers.recipes import given_fields


@pytest.fixture(scope="module")
def data(finished) -> dict:
    return json.loads(json.dumps(page_data(RunFolder(finished))))


def test_each_sample_has_the_score_of_its_table(data, finished):
    table = {row["candidate_id"]: row for row in read_table(finished / "scores.parquet", made_by="score").to_pylist()}
    files = read_table(finished / "candidates.parquet", made_by="generate")["file"].to_pylist()
    assert len(data["samples"]) == len(files)  # few enough to be shown all
    for sample in data["samples"]:
        row = table[files.index(sample["file"].removeprefix("candidates/"))]
        assert sample["total"] == pytest.approx(row["total"], abs=1e-4)
        assert sample["dimensions"] == pytest.approx(row["dimensions"], abs=1e-4)
        assert sample["answers"] == pytest.approx(row["answers"], abs=1e-4)


def test_the_answers_times_their_units_make_the_total(data):
    units = np.array([question["unit"] for question in data["checklist"]["questions"]])
    for sample in data["samples"]:
        assert units @ sample["answers"] == pytest.approx(sample["total"], abs=1e-3)


def test_pairs_are_those_of_the_table_with_their_margins(data, finished):
    pairs = read_table(finished / "pairs.parquet", made_by="select").to_pylist()
    assert len(data["pairs"]) == len(pairs) == data["num_pairs"]
    for shown, pair in zip(data["pairs"], pairs, strict=True):
        chosen, rejected = data["samples"][shown["chosen"]], data["samples"][shown["rejected"]]
        assert chosen["total"] - rejected["total"] == pytest.approx(pair["margin"], abs=3e-4)
        assert np.subtract(chosen["dimensions"], rejected["dimensions"]) == pytest.approx(shown["margins"], abs=3e-4)
        prompts = read_prompts_table(finished / "prompts.parquet")
        assert data["prompts"][str(shown["prompt"])] == prompts[pair["prompt_id"]]


def test_what_dominance_refuses_pays_with_a_dimension_and_is_found_by_the_total(data, finished):
    """By hand: all pairs of a prompt that are better in total, of which some dimension is worse by more than a tie."""
    expected = set()
    for entry in data["candidates"]:
        for a in entry["samples"]:
            for b in entry["samples"]:
                one, other = data["samples"][a], data["samples"][b]
                worst = min(np.subtract(one["dimensions"], other["dimensions"]))
                if one["total"] - other["total"] > 1e-9 and worst < -data["result"]["tie"]:
                    expected.add((a, b))
    assert expected  # this run has some
    assert {(pair["chosen"], pair["rejected"]) for pair in data["refused"]} == expected
    for pair in data["refused"]:
        assert min(pair["margins"]) < -data["result"]["tie"]
        assert pair["margin"] > 0


def test_candidates_of_a_prompt_come_in_order_of_score(data):
    assert len(data["candidates"]) == 3
    for entry in data["candidates"]:
        totals = [data["samples"][k]["total"] for k in entry["samples"]]
        assert len(totals) == 4
        assert totals == sorted(totals, reverse=True)


def test_base_stands_beside_tuned_of_the_same_prompt_and_seed(data, finished):
    rows, scores, _ = read_evaluation(RunFolder(finished))
    assert len(data["result"]["heldout"]) == 4
    for k, shown in enumerate(data["result"]["heldout"]):
        assert [shown[model]["total"] for model in ("base", "tuned")] == pytest.approx(
            scores.total[[k, k + 4]], abs=1e-4
        )
        assert shown["base"]["seed"] == shown["tuned"]["seed"] == rows[k]["seed"]
        gain = scores.total[k + 4] - scores.total[k]
        assert shown["outcome"] == (0.5 if abs(gain) <= data["result"]["tie"] else float(gain > 0))


def test_changes_add_up_to_the_gain_of_the_mean(data):
    total = data["result"]["rates"][0]
    gain = sum(change["effect"] for change in data["result"]["changes"])
    assert gain == pytest.approx(total["tuned_mean"] - total["base_mean"], abs=1e-9)
    effects = [abs(change["effect"]) for change in data["result"]["changes"]]
    assert effects == sorted(effects, reverse=True)


def test_limits_are_kept_evenly_and_every_file_is_there(finished):
    data = page_data(RunFolder(finished), Limits(heldout=2, pairs=2, refused=1, prompts=1))
    assert (len(data["result"]["heldout"]), len(data["pairs"]), len(data["candidates"])) == (2, 2, 1)
    assert len(data["refused"]) <= 1
    assert data["num_pairs"] > 2
    named = files_of(data)
    assert named
    assert all((finished / name).is_file() for name in named)
    assert evenly_spaced(5, 3) == [0, 2, 4]


def test_curves_have_a_point_a_step_and_long_ones_are_thinned(data, finished, monkeypatch):
    steps = [json.loads(line) for line in (finished / "training.jsonl").read_text().splitlines()]
    curve = data["training"]["metrics"]
    assert curve["loss"] == pytest.approx([line["loss"] for line in steps], rel=1e-5)
    assert curve["step"] == [line["step"] for line in steps]
    assert len(data["training"]["timing"]["seconds_per_step"]) == len(steps)
    monkeypatch.setattr("mpo.pages.data.NUM_POINTS", 4)
    thin = page_data(RunFolder(finished))["training"]["metrics"]["loss"]
    assert thin == pytest.approx(np.reshape([line["loss"] for line in steps], (-1, 2)).mean(axis=1), rel=1e-5)


def test_given_pairs_are_shown_without_scores(fields, tmp_path):
    recipe = parse_recipe(given_fields(fields, pickapic(tmp_path), "pickapic", "given"), source="given")
    recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"num_steps": 2})})
    run_recipe(recipe, tmp_path / "run")
    data = page_data(RunFolder(tmp_path / "run"))
    assert len(data["pairs"]) == 3
    assert data["refused"] == []
    assert all(pair["margin"] is pair["margins"] is None for pair in data["pairs"])
    assert all(sample["total"] is None and sample["answers"] == [] for sample in data["samples"])
