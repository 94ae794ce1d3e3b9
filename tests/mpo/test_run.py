import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from PIL import Image

from mpo.recipe import load_recipe
from mpo.run import STAGES, run_recipe
from mpo.store import Run
from tests.conftest import small_fields


def files_of(run: Path) -> dict[str, bytes]:
    """All that a run leaves behind, but the event log (it holds times) and the trackers' files."""
    kept = (p for p in sorted(run.rglob("*")) if p.is_file() and p.name != "log.jsonl" and "trackers" not in p.parts)
    return {str(p.relative_to(run)): p.read_bytes() for p in kept}


def started(run: Run, stage: str) -> bool:
    return run.log.exists() and f'"start", "stage": "{stage}"' in run.log.read_text()


# When to kill: in the midst of each stage.
MOMENTS = {
    "generate": lambda run: len(list(run.candidates.glob("*.png"))) >= 5,
    "score": lambda run: started(run, "score"),
    "select": lambda run: started(run, "select"),
    "encode": lambda run: started(run, "encode"),
    "train": lambda run: run.training_log.exists() and run.training_log.read_text().count("\n") >= 3,
    "evaluate": lambda run: (run.samples / "base").exists(),
    "export": lambda run: started(run, "export"),
    "report": lambda run: started(run, "report"),
}


def test_a_run_killed_in_every_stage_ends_with_the_same_bytes(model_folder, tmp_path):
    fields = small_fields(model_folder, tmp_path)
    # Large enough that a kill comes in the midst of a stage.
    fields["generate"] |= {"num_candidates": 8, "num_inference_steps": 4, "batch_size": 4}
    fields["train"] |= {"num_steps": 12}
    recipe = tmp_path / "small.yaml"
    recipe.write_text(yaml.safe_dump(fields))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    command = [sys.executable, "-m", "mpo.cli", "run", str(recipe), "--quiet", "--output"]
    subprocess.run([*command, str(whole)], check=True, capture_output=True)
    num_killed = 0
    for stage in STAGES:
        process = subprocess.Popen([*command, str(killed)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not MOMENTS[stage](Run(killed)):
            time.sleep(0.002)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            num_killed += 1
        process.wait()
    assert num_killed == len(STAGES)
    subprocess.run([*command, str(killed)], check=True, capture_output=True)
    first, second = files_of(whole), files_of(killed)
    leftovers = {name for name in second if name.endswith(".part")}
    assert set(second) - leftovers == set(first)
    assert [name for name in first if first[name] != second[name]] == []


def test_a_second_run_changes_nothing(finished):
    before = {name: os.stat(finished / name).st_mtime_ns for name in files_of(finished)}
    run_recipe(load_recipe(str(finished / "recipe.yaml")), finished)
    assert {name: os.stat(finished / name).st_mtime_ns for name in files_of(finished)} == before


def test_every_table_of_the_layout_is_there(finished):
    run = Run(finished)
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
