import os
import shutil
from pathlib import Path

import pytest

from mpo.dependencies import STAGES
from mpo.recipe import load_recipe, parse_recipe
from mpo.run import prepare, run_recipe
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import read_table
from tests.helpers.runs import files_of


def test_a_run_takes_over_what_another_has_made(finished, tmp_path):
    """Another beta takes everything up to training; another way to select, candidates and scores. The source stays."""
    recipe = load_recipe(str(finished / "recipe.yaml"))
    before = files_of(finished)

    def taken(name: str, **changes: dict) -> RunFolder:
        held = recipe.model_dump(mode="json")
        for section, values in changes.items():
            held[section] |= values
        run_recipe(parse_recipe(held, source=name), tmp_path / name, source=finished, stages=STAGES[:5])
        run = RunFolder(tmp_path / name)
        made = [p.name for p in run.candidates.rglob("*.png") if not p.samefile(finished / p.relative_to(run.folder))]
        assert made == []
        return run

    kept = ("candidates.parquet", "scores.parquet", "pairs.parquet", "encoded/latents-00000.safetensors")
    other = taken("beta", train={"beta": 3000.0})
    assert all(os.stat(finished / name).st_ino == os.stat(other.folder / name).st_ino for name in kept)
    assert len(list(other.candidates.rglob("*.png"))) == len(list((finished / "candidates").rglob("*.png")))
    assert len(list((other.samples / "base").iterdir())) == 4
    other = taken("select", select={"strategy": "dominance"})
    same = [os.stat(finished / name).st_ino == os.stat(other.folder / name).st_ino for name in kept]
    assert same == [True, True, False, False]
    other = taken("same")
    assert (other.checkpoints / "step-000006" / "lora.safetensors").read_bytes() == (
        finished / "checkpoints" / "step-000006" / "lora.safetensors"
    ).read_bytes()
    assert files_of(finished) == before


def test_prompts_that_have_changed_are_not_taken_over(finished, fields, tmp_path):
    """Under the same names: other training prompts take no candidates along, other held-out ones no pictures."""
    recipe = load_recipe(str(finished / "recipe.yaml"))
    held = recipe.model_dump(mode="json")

    def taken(name: str) -> RunFolder:
        run_recipe(parse_recipe(held, source=name), tmp_path / name, source=finished, stages=())
        return RunFolder(tmp_path / name)

    for name in ("train", "heldout"):
        text = Path(held["prompts"][name]["path"]).read_text()
        held["prompts"][name]["path"] = str(tmp_path / f"{name}.txt")
        (tmp_path / f"{name}.txt").write_text(text)
    assert [taken("same").pairs.exists(), taken("same").samples.exists()] == [True, True]
    (tmp_path / "heldout.txt").write_text("a red heart on a green background\n")
    assert [taken("heldout").pairs.exists(), taken("heldout").samples.exists()] == [True, False]
    (tmp_path / "train.txt").write_text("a blue ring on a green background\n")
    changed = taken("train")
    assert not any(path.exists() for path in (changed.candidates, changed.scores, changed.pairs, changed.samples))
    assert read_table(changed.prompts, made_by="run")["prompt"].to_pylist() == ["a blue ring on a green background"]


@pytest.mark.parametrize(
    ("settings", "taken"),
    [
        (["model.offload=networks"], True),
        (["evaluate.num_bootstrap=10"], True),
        (["evaluate.judges=[{name: 'mpo.embedded.oracle:Oracle'}]"], True),
        (["evaluate.num_inference_steps=3"], False),
        (["model.vae_tiling=true"], False),
    ],
    ids=lambda value: str(value),
)
def test_the_untuned_models_pictures_are_taken_where_they_would_be_the_same(settings, taken, finished, tmp_path):
    recipe = load_recipe(str(finished / "recipe.yaml"), settings)
    run_recipe(recipe, tmp_path / "run", source=finished, stages=())
    assert (RunFolder(tmp_path / "run").samples / "base").exists() is taken


@pytest.mark.parametrize("finished_evaluation", [True, False])
def test_damaged_pictures_of_the_untuned_model_are_named_and_stay_behind(
    finished_evaluation, finished, tmp_path, capsys
):
    """The manifest knows a picture in another's place; without it, one that is cut still shows."""
    source = RunFolder(tmp_path / "source")
    shutil.copytree(finished, source.folder)
    first, second, *others = sorted((source.samples / "base").iterdir())
    if finished_evaluation:
        shutil.copyfile(second, first)
    else:
        (source.manifests / "evaluate.json").unlink()
        first.write_bytes(first.read_bytes()[:-30])
    run_recipe(load_recipe(str(finished / "recipe.yaml")), tmp_path / "run", source=source.folder, stages=())
    made = sorted(p.name for p in (RunFolder(tmp_path / "run").samples / "base").iterdir())
    assert made == [second.name, *(p.name for p in others)]
    lines = [line for line in capsys.readouterr().err.splitlines() if str(first) in line]
    assert len(lines) == 1
    assert "1 of the untuned model's pictures" in lines[0]


def test_a_prepared_run_takes_over_what_it_lacks(finished, tmp_path):
    recipe = load_recipe(str(finished / "recipe.yaml"))
    run = prepare(recipe, tmp_path / "run")
    (finished / "candidates" / ".half.png.7.part").write_bytes(b"being written")
    try:
        prepare(recipe, tmp_path / "run", source=finished)
    finally:
        (finished / "candidates" / ".half.png.7.part").unlink()
    assert run.encoded.exists()
    assert not list(run.candidates.rglob("*.part"))
    before = files_of(run.folder)
    prepare(recipe, tmp_path / "run", source=finished)
    assert files_of(run.folder) == before


def test_taking_over_from_no_run_is_named(recipe_file, tmp_path):
    with pytest.raises(ValueError, match=r"--from '.*nowhere' is not a run"):
        run_recipe(load_recipe(str(recipe_file)), tmp_path / "run", source=tmp_path / "nowhere")
    assert not (tmp_path / "run").exists()
