import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from mpo.recipe import load_recipe, parse_recipe
from mpo.run import STAGES, prepare, run_recipe
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import read_table
from tests.conftest import small_fields


def files_of(run: Path) -> dict[str, bytes]:
    """All that a run leaves behind, but the event log (it holds times) and the trackers' files."""
    kept = (p for p in sorted(run.rglob("*")) if p.is_file() and p.name != "log.jsonl" and "trackers" not in p.parts)
    return {str(p.relative_to(run)): p.read_bytes() for p in kept}


# Runs `mpo`, and kills the process with SIGKILL at the N-th call of a function, in the midst of a stage.
KILLED = """
import importlib, os, signal, sys
module, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
owner, calls = importlib.import_module(module), []
function = getattr(owner, name)
def dying(*args, **kwargs):
    calls.append(1)
    if len(calls) == count:
        os.kill(os.getpid(), signal.SIGKILL)
    return function(*args, **kwargs)
setattr(owner, name, dying)
sys.argv = ["mpo", *sys.argv[4:]]
from mpo.cli import main
main()
"""
# stage: (module, function, which call)
MOMENTS = {
    "generate: between two pictures": ("mpo.models.sampling", "replacing", 5),
    "score: its answers kept, its table not": ("mpo.stages.score", "write_table", 1),
    "select: statistics written, pairs not": ("mpo.stages.select", "write_batches", 1),
    "encode: between two shards": ("mpo.stages.encode", "replacing", 2),
    "train: between two checkpoints": ("mpo.stages.train", "error_weights", 15),
    "train: within a checkpoint": ("mpo.training.checkpoints", "save_file", 4),
    "evaluate: between two pictures": ("mpo.models.sampling", "replacing", 3),
    "evaluate: table written, summary not": ("mpo.stages.evaluate", "write_json", 1),
    "export: within the folder": ("mpo.export.diffusers", "_jsonable", 1),
    "report: before the page": ("mpo.stages.report", "write_text", 1),
}


def test_a_run_killed_in_every_stage_ends_with_the_same_bytes(model_folder, tmp_path):
    fields = small_fields(model_folder, tmp_path)
    fields["train"] |= {"num_steps": 12}
    recipe = tmp_path / "small.yaml"
    recipe.write_text(yaml.safe_dump(fields))
    whole, killed = tmp_path / "whole", tmp_path / "killed"

    def run(*command: str, output: Path) -> int:
        arguments = [sys.executable, *command, "run", str(recipe), "--quiet", "--output", str(output)]
        return subprocess.run(arguments, capture_output=True, check=False).returncode

    assert run("-m", "mpo.cli", output=whole) == 0
    assert {moment.split(":")[0] for moment in MOMENTS} == set(STAGES)
    for moment, (module, function, call) in MOMENTS.items():
        assert run("-c", KILLED, module, function, str(call), output=killed) == -signal.SIGKILL, moment
    assert run("-m", "mpo.cli", output=killed) == 0
    first, second = files_of(whole), files_of(killed)
    leftovers = {name for name in second if ".part" in name}  # what was being written when the process died
    assert set(second) - leftovers == set(first)
    assert [name for name in first if first[name] != second[name]] == []


def test_a_run_goes_on_without_its_prompt_files(fields, tmp_path):
    """And where it died between the recipe and its tables, it prepares the rest."""
    recipe = parse_recipe(fields, source="small")
    run = prepare(recipe, tmp_path / "run")
    before = run.prompts.read_bytes()
    run.prompts.unlink()
    run.heldout_prompts.unlink()
    prepare(recipe, tmp_path / "run")
    assert run.prompts.read_bytes() == before
    for name in ("train", "heldout"):
        Path(fields["prompts"][name]).unlink()
    prepare(recipe, tmp_path / "run")


def test_a_run_takes_over_what_another_has_made(finished, fields, tmp_path, monkeypatch):
    """Another beta takes everything up to training; another way to select, candidates and scores. The source stays."""
    recipe = load_recipe(str(finished / "recipe.yaml"))
    before = files_of(finished)

    def taken(name: str, **changes: dict) -> RunFolder:
        held = recipe.model_dump(mode="json")
        for section, values in changes.items():
            held[section] |= values
        with monkeypatch.context() as patch:
            patch.setattr("mpo.stages.generate.load_pipeline", lambda *a, **k: pytest.fail("candidates are made again"))
            run_recipe(parse_recipe(held, source=name), tmp_path / name, source=finished, stages=STAGES[:5])
        return RunFolder(tmp_path / name)

    kept = ("candidates.parquet", "scores.parquet", "pairs.parquet", "encoded/latents-00000.safetensors")
    other = taken("beta", train={"beta": 3000.0})
    assert all(os.stat(finished / name).st_ino == os.stat(other.folder / name).st_ino for name in kept)
    assert len(list(other.candidates.iterdir())) == len(list((finished / "candidates").iterdir()))
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


def test_a_prepared_run_takes_over_what_it_lacks(finished, tmp_path):
    recipe = load_recipe(str(finished / "recipe.yaml"))
    run = prepare(recipe, tmp_path / "run")
    (finished / "candidates" / ".half.png.7.part").write_bytes(b"being written")
    try:
        prepare(recipe, tmp_path / "run", source=finished)
    finally:
        (finished / "candidates" / ".half.png.7.part").unlink()
    assert run.encoded.exists()
    assert not list(run.candidates.glob("*.part"))
    before = files_of(run.folder)
    prepare(recipe, tmp_path / "run", source=finished)
    assert files_of(run.folder) == before


def test_how_steps_are_dealt_out_matters_only_where_training_runs(fields, tmp_path, monkeypatch):
    monkeypatch.setattr("mpo.run.num_processes", lambda: 3)
    prepare(parse_recipe(fields, source="small"), tmp_path / "run", stages=STAGES[:2])
    with pytest.raises(ValueError, match="x 3 processes"):
        prepare(parse_recipe(fields, source="small"), tmp_path / "run")


def test_taking_over_from_no_run_is_named(recipe_file, tmp_path):
    with pytest.raises(ValueError, match=r"--from '.*nowhere' is no run"):
        run_recipe(load_recipe(str(recipe_file)), tmp_path / "run", source=tmp_path / "nowhere")
    assert not (tmp_path / "run").exists()


def test_a_second_run_changes_nothing(finished):
    before = {name: os.stat(finished / name).st_mtime_ns for name in files_of(finished)}
    run_recipe(load_recipe(str(finished / "recipe.yaml")), finished)
    assert {name: os.stat(finished / name).st_mtime_ns for name in files_of(finished)} == before


def test_every_table_of_the_layout_is_there(finished):
    run = RunFolder(finished)
    for path in (
        run.recipe,
        run.prompts,
        run.candidates_table,
        run.scores,
        run.pairs,
        run.lora_weights,
        run.evaluation_table,
        run.summary,
        run.report,
        run.log,
    ):
        assert path.is_file(), path
    assert sorted(p.name for p in run.checkpoints.iterdir()) == ["step-000002", "step-000004", "step-000006"]


def test_a_truncated_candidate_is_named_and_repaired(recipe_file, tmp_path):
    recipe, folder = load_recipe(str(recipe_file)), tmp_path / "run"
    run_recipe(recipe, folder, stages=STAGES[:1])
    victim = sorted((folder / "candidates").iterdir())[6]
    whole = victim.read_bytes()
    victim.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=rf"{victim.name} is damaged.*--repair"):
        run_recipe(recipe, folder, stages=STAGES[:2])
    run_recipe(recipe, folder, stages=STAGES[:2], repair=True)
    assert victim.read_bytes() == whole
    Image.open(victim).load()


def test_a_deleted_candidate_is_named_and_repaired(recipe_file, tmp_path):
    recipe, folder = load_recipe(str(recipe_file)), tmp_path / "run"
    run_recipe(recipe, folder, stages=STAGES[:1])
    victim = sorted((folder / "candidates").iterdir())[3]
    whole = victim.read_bytes()
    victim.unlink()
    with pytest.raises(ValueError, match=rf"{victim.name} is missing.*--repair"):
        run_recipe(recipe, folder, stages=STAGES[:2])
    run_recipe(recipe, folder, stages=STAGES[:2], repair=True)
    assert victim.read_bytes() == whole
