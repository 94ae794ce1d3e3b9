"""Rounds of sampling from the tuned model: what each starts from, and that a stopped one goes on."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from mpo import MpoError
from mpo.cli import app
from mpo.export.convert import export_as
from mpo.recipe import RecipeError, load_recipe, parse_recipe, read_recipe
from mpo.rounds import recipe_of_round, rounds_in, run_rounds
from mpo.run import preview, run_recipe, run_stage
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import read_table
from mpo.training.checkpoint_files import result_file
from tests.helpers.recipes import small_fields
from tests.helpers.runs import files_of, log_of


def test_each_round_has_seeds_of_its_own_but_for_the_examination(tmp_path):
    recipe = load_recipe("quickstart", ["rounds=3", "seed=7", "train.seed=3", "evaluate.seed=11"])
    of = [recipe_of_round(recipe, tmp_path, number) for number in (1, 2, 3)]
    assert [(one.seed, one.train.seed, one.evaluate.seed, one.rounds) for one in of] == [
        (7, 3, 11, 1),
        (8, 4, 11, 1),
        (9, 5, 11, 1),
    ]
    assert [one.start for one in of] == [None, str(tmp_path / "round-1"), str(tmp_path / "round-2")]


@pytest.fixture(scope="module")
def rounds(model_folder, tmp_path_factory):
    """A finished run of two rounds, and its recipe."""
    folder = tmp_path_factory.mktemp("rounds")
    recipe = parse_recipe({**small_fields(model_folder, folder), "rounds": 2}, source="small")
    run_rounds(recipe, folder / "run")
    return folder / "run", recipe


def test_a_later_round_samples_from_the_tuned_model_and_trains_on(rounds, tmp_path):
    folder, recipe = rounds
    first, second = map(RunFolder, rounds_in(folder))
    assert second.start.read_bytes() == result_file(first).read_bytes()
    assert not first.start.exists()
    # Sampling: without `start`, the same recipe makes other candidates; with it, these very ones.
    own = read_recipe(second.recipe)
    assert own == recipe_of_round(recipe, folder, 2)
    assert own.start == str(first.folder)
    run_recipe(own.model_copy(update={"start": None}), tmp_path / "without", stages=["generate"])
    run_recipe(own.model_copy(update={"start": str(result_file(first))}), tmp_path / "with", stages=["generate"])

    def candidates(run: RunFolder) -> list[str]:
        return read_table(run.candidates_table, made_by="generate").column("sha256").to_pylist()

    assert candidates(RunFolder(tmp_path / "with")) == candidates(second)
    assert candidates(RunFolder(tmp_path / "without")) != candidates(second)
    # Training: the LoRA goes on, so the first loss is no longer that of policy = reference.
    assert log_of(first)[0]["loss"] == pytest.approx(np.log(2), abs=1e-3)
    assert log_of(second)[0]["loss"] != pytest.approx(np.log(2), abs=1e-3)
    before, after = load_file(second.start), load_file(result_file(second))
    assert before.keys() == after.keys()
    change = sum(float((after[name] - before[name]).norm()) for name in after)
    assert 0 < change < sum(float(after[name].norm()) for name in after)
    assert any(not torch.equal(before[name], after[name]) for name in after)
    # Evaluation: against the base model, as in the first round.
    for run in (first, second):
        assert json.loads(run.summary.read_text())["total"]["num_prompts"] == 2
    base = [sorted(p.read_bytes() for p in (run.samples / "base").glob("*.png")) for run in (first, second)]
    assert base[0] == base[1]
    for picture in (first.samples / "base").iterdir():  # sampled once
        assert picture.samefile(second.samples / "base" / picture.name)


def test_rounds_that_were_stopped_go_on_to_the_same_bytes(rounds, tmp_path, monkeypatch):
    """Also if the first takes over another run's candidates."""
    folder, recipe = rounds
    monkeypatch.chdir(folder.parent)  # both are called "run", so that recipes name the same paths
    other = tmp_path / "other"
    other.mkdir()
    once = run_rounds(recipe.model_copy(update={"rounds": 1}), other / "run", source=folder / "round-1")
    for candidate in once.candidates.rglob("*.png"):
        assert candidate.samefile(folder / "round-1" / candidate.relative_to(once.folder))
    assert rounds_in(other / "run") == [once.folder]
    run_rounds(recipe, other / "run")
    for number in (1, 2):
        whole, resumed = (files_of(parent / "run" / f"round-{number}") for parent in (folder.parent, other))
        varying = {name for name in whole if name.startswith("manifests/") or name in ("recipe.yaml", "lora/README.md")}
        assert whole.keys() == resumed.keys()
        assert not [name for name in whole if whole[name] != resumed[name] and name not in varying]


def test_finished_rounds_go_on_wherever_their_folder_is(rounds, tmp_path):
    folder, recipe = rounds
    shutil.copytree(folder, tmp_path / "moved")
    before = files_of(tmp_path / "moved")
    run_rounds(recipe, tmp_path / "moved")
    assert files_of(tmp_path / "moved") == before


def test_the_command_line_shows_each_round(rounds):
    folder, _ = rounds
    done = CliRunner().invoke(app, ["status", str(folder)])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert sum(line.startswith("round-1 ") for line in lines) == sum(line.startswith("round-2 ") for line in lines) > 5
    assert all("done" in line for line in lines)
    with pytest.raises(MpoError, match="holds 2 rounds, each a run; name one"):
        run_stage(folder, "report")
    compared = CliRunner().invoke(app, ["compare", str(folder / "round-1"), str(folder / "round-2")])
    assert compared.exit_code == 0, compared.output
    assert "B: start=" in compared.stdout


def test_more_rounds_may_follow_and_no_round_goes_into_a_plain_run(rounds, finished):
    folder, recipe = rounds
    more = recipe.model_copy(update={"rounds": 3})
    assert preview(more, folder) == []  # a dry run says what the run will: it may go on
    plain = RunFolder(finished)
    before = plain.recipe.read_bytes()
    for refused in (run_rounds, preview):
        with pytest.raises(
            MpoError, match=r"holds a run of another recipe \(it differs in rounds\); use another folder$"
        ):
            refused(read_recipe(plain.recipe).model_copy(update={"rounds": 2}), finished)
    assert plain.recipe.read_bytes() == before
    assert rounds_in(finished) == []


def test_what_rounds_cannot_do_is_said(rounds, model_folder, tmp_path):
    folder, recipe = rounds
    with pytest.raises(MpoError, match="holds a run of another recipe"):
        run_rounds(recipe.model_copy(update={"seed": 7}), folder)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    with pytest.raises(MpoError, match="is not empty and holds no run"):
        run_rounds(recipe, tmp_path / "full")
    with pytest.raises(MpoError, match="start='nowhere' is no run that has been trained"):
        run_recipe(recipe.model_copy(update={"rounds": 1, "start": "nowhere"}), tmp_path / "run")
    with pytest.raises(MpoError, match=r"holds 2 rounds, each a run; name one, such as .*round-2"):
        run_recipe(recipe.model_copy(update={"rounds": 1, "start": str(folder)}), tmp_path / "run")
    with pytest.raises(MpoError, match=r"holds 2 rounds, each a run; name one, such as .*round-2"):
        export_as([folder], "peft", tmp_path / "peft")
    assert not (tmp_path / "run").exists()
    given = small_fields(model_folder, tmp_path) | {"rounds": 2, "preferences": {"path": "x", "layout": "folder"}}
    del given["generate"], given["prompts"]["train"]
    with pytest.raises(RecipeError, match="rounds sample anew"):
        parse_recipe(given, source="small")
    shared = small_fields(model_folder, tmp_path)
    for cache in ("../errors", "/errors"):
        shared["train"] |= {"reference_cache": cache, "num_draws": 1}
        with pytest.raises(RecipeError, match="would be shared by the rounds"):
            parse_recipe({**shared, "rounds": 2}, source="small")
    shared["train"]["reference_cache"] = "errors"
    parse_recipe({**shared, "rounds": 2}, source="small")
