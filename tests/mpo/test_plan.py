import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.model_sizes import configs, parts_of, rounded
from mpo import MpoError
from mpo.cli import app
from mpo.dependencies import stages_of
from mpo.models.costs import count
from mpo.models.families import FAMILIES
from mpo.plan import claims, describe, figure, model_costs, plan
from mpo.recipe import load_recipe, parse_recipe, recipes_folder, shipped_recipes

LARGE = [name for name in shipped_recipes() if not name.startswith("quickstart")]


def test_the_recipes_are_those_that_the_readme_names():
    assert set(LARGE) == {"flux-dev", "sana", "sd15", "sd35-medium", "sdxl", "sdxl-pickapic", "sdxl-total"}
    readme = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    assert all(f"`{name}`" in readme for name in LARGE)


@pytest.mark.parametrize("name", LARGE)
def test_a_shipped_recipe_is_planned_without_weights_or_hub(name, tmp_path, monkeypatch):
    """And says in its head what the plan computes."""
    recipe = load_recipe(name)
    steps, notes = plan(recipe)
    assert tuple(step.stage for step in steps) == stages_of(recipe)
    text = (recipes_folder() / f"{name}.yaml").read_text("utf-8")
    head = " ".join(line.removeprefix("# ") for line in text.splitlines() if line.startswith("# "))
    assert " ".join(claims(recipe)) in head
    assert any("not checked: the model" in note for note in notes)
    monkeypatch.setattr("mpo.plan.shutil.disk_usage", lambda _: type("Usage", (), {"free": 2e12}))
    page = describe(recipe, tmp_path / "run")
    assert f"{recipe.train.num_steps} steps of {recipe.train.batch_size} pairs" in page
    assert not (tmp_path / "run").exists()


def test_total_is_dominance_but_for_the_pairs():
    ours, theirs = load_recipe("sdxl"), load_recipe("sdxl-total")
    assert ours.model_dump(exclude={"name", "description", "select"}) == theirs.model_dump(
        exclude={"name", "description", "select"}
    )


def test_too_little_disk_is_an_error_with_the_plan(tmp_path, monkeypatch):
    monkeypatch.setattr("mpo.plan.shutil.disk_usage", lambda _: type("Usage", (), {"free": 1e9}))
    result = CliRunner().invoke(app, ["run", "sd15", "--dry-run", "--output", str(tmp_path / "run")])
    assert isinstance(result.exception, MpoError)
    assert re.search(r"the run needs about \d+ GB and 1 GB are free", str(result.exception))


def test_a_mistake_is_found_before_the_hub_is_asked():
    with pytest.raises(MpoError, match="'Adam9' is unknown"):
        plan(load_recipe("sdxl", ["train.optimizer=Adam9"]))
    with pytest.raises(ValueError, match="has no option"):
        plan(load_recipe("sdxl", ["judge.options.modell=x"]))
    with pytest.raises(ValueError, match="no such dimension"):
        plan(load_recipe("sdxl", ["select.strategy=dimension:charm"]))


def test_a_local_mistake_is_no_note(fields):
    fields["prompts"]["train"] = "nowhere.txt"
    with pytest.raises(MpoError, match=r"nowhere\.txt"):
        plan(parse_recipe(fields, source="small"))


def test_what_the_plan_says_of_training_by_hand():
    """SDXL in bfloat16: weights 2 bytes; the LoRA 16 bytes a parameter; activations of 2 x 4 pictures; the judge."""
    recipe = load_recipe("sdxl-pickapic")
    steps = {step.stage: step for step in plan(recipe)[0]}
    known = model_costs()["models"][recipe.model.path]
    assert sum(known["parameters"].values()) == pytest.approx(2567.5 + 83.7 + 817.7)
    weights = (2567.5 + 83.7 + 817.7) * 2e-3
    assert steps["train"].memory_gb == pytest.approx(weights + 8292.2 * 2e-3 + 1.5, rel=1e-6)
    assert steps["train"].peak_words == " (when the judge validates; else 14 GB)"
    auto = {step.stage: step for step in plan(load_recipe("sdxl-pickapic", ["judge.options.dtype=auto"]))[0]}
    assert auto["train"].memory_gb == steps["train"].memory_gb
    alone = {step.stage: step for step in plan(load_recipe("sdxl-pickapic", ["judge.options.model=other"]))[0]}
    assert alone["train"].memory_gb == pytest.approx(weights + 23.224 / 2 * 16e-3 + 8 * 0.61 + 1.5, rel=1e-6)
    sampling = 128 * (100 * 3.381 + 5.235 + 0.0556) * 5
    training = 2000 * 16 * 2 * 4 * 3.381
    assert steps["train"].gpu_hours == pytest.approx(2 * (training + sampling) / (989 * 0.35) / 3600, rel=1e-6)
    assert [figure(v) for v in (0.0123, 3.14, 42.4, 318.0)] == ["0.012", "3.1", "42", "320"]


@pytest.mark.parametrize(
    "name", ["stable-diffusion-v1-5/stable-diffusion-v1-5", "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS"]
)
def test_costs_are_what_the_benchmark_counts(name):
    assert rounded(count(parts_of(configs()[name]))) == model_costs()["models"][name]


def test_costs_are_of_known_families():
    assert model_costs()["models"].keys() == configs().keys()
    assert model_costs()["judges"].keys() == configs("judges").keys()
    assert {known["pipeline"] for known in model_costs()["models"].values()} <= set(FAMILIES)
