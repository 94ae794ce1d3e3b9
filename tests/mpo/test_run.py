import os
import signal
from pathlib import Path

import pytest
import yaml

from mpo import MpoError
from mpo.dependencies import STAGES
from mpo.recipe import load_recipe, parse_recipe, read_recipe
from mpo.run import prepare, run_recipe
from mpo.run_folder.media import SUFFIX
from reward.checklist import Kind
from tests.faults.kill import Moment
from tests.helpers.processes import mpo
from tests.helpers.recipes import small_fields
from tests.helpers.runs import files_of


def moments(kind: Kind, *, candidate: int, kept_errors: int, checkpoint: int) -> dict[str, Moment]:
    """Stage: when it is killed. The numbers are counted from 1; errors of a micro-batch are kept at a time."""
    media = f"*{SUFFIX[kind]}"
    return {
        "generate: between two samples": Moment("os.rename", f"candidates/{media}", candidate),
        "score: its answers kept, its table not": Moment("os.rename", "scores.parquet", 1),
        "select: statistics written, pairs not": Moment("os.rename", "pairs.parquet", 1),
        "encode: between two shards": Moment("os.rename", "encoded/*.safetensors", 2),
        "train: between two checkpoints": Moment("open", "errors/errors.jsonl", kept_errors),
        "train: within a checkpoint": Moment("open", "checkpoints/.step-*.part/state.json", checkpoint),
        "evaluate: between two samples": Moment("os.rename", f"evaluation/samples/{media}", 3),
        "evaluate: table written, summary not": Moment("os.rename", "evaluation/summary.json", 1),
        "export: within the folder": Moment("open", ".lora.*.part/README.md", 1),
        "report: before the page": Moment("os.rename", "evaluation/report.html", 1),
    }


def clip_fields(folder: Path) -> dict:
    """The embedded text-to-video model at a quarter of its pixels: 6 clips and their latents, 4 steps of one pair each."""
    fields = small_fields(Path("embedded-video"), folder)
    captions = ("a red circle moves left on a white background", "a blue star stands still in the desert")
    (folder / "train.txt").write_text("\n".join(captions), "utf-8")
    (folder / "heldout.txt").write_text("a green heart moves up on the sea", "utf-8")
    fields["model"]["sizes"] = [[32, 32, 5, 8]]
    fields["generate"] |= {"num_candidates": 3, "num_inference_steps": 1, "batch_size": 2, "keep_latents": True}
    fields["judge"] = {"name": "measured", "checklist": "video-measured"}
    fields["train"] |= {"num_steps": 4, "batch_size": 1, "micro_batch_size": 1}
    fields["evaluate"] |= {"num_inference_steps": 1, "batch_size": 1}
    return fields


@pytest.mark.parametrize("kind", ["image", pytest.param("video", marks=pytest.mark.slow)])
def test_a_run_killed_in_every_stage_ends_with_the_same_bytes(kind, model_folder, tmp_path):
    """The promise of the whole framework; each kill costs a process of a second or two."""
    if kind == "image":
        fields = small_fields(model_folder, tmp_path)
        fields["train"]["num_steps"] = 12
        at = moments(kind, candidate=5, kept_errors=15, checkpoint=2)  # two micro-batches a step
    else:
        fields = clip_fields(tmp_path)
        at = moments(kind, candidate=3, kept_errors=3, checkpoint=1)  # one micro-batch a step
    fields["train"]["reference_cache"] = "errors"
    recipe = tmp_path / "small.yaml"
    recipe.write_text(yaml.safe_dump(fields))
    whole, killed = tmp_path / "whole", tmp_path / "killed"

    arguments = ["run", recipe, "--quiet", "--output"]
    assert mpo(*arguments, whole) == 0
    assert {name.split(":")[0] for name in at} == set(STAGES)
    for name, moment in at.items():
        assert mpo(*arguments, killed, kill=(killed, moment)) == -signal.SIGKILL, name
    assert mpo(*arguments, killed) == 0
    first, second = files_of(whole), files_of(killed)
    assert any(name.endswith(SUFFIX[kind]) for name in first)
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


def test_how_steps_are_dealt_out_matters_only_where_training_runs(fields, tmp_path, monkeypatch):
    monkeypatch.setattr("mpo.run.num_processes", lambda: 3)
    prepare(parse_recipe(fields, source="small"), tmp_path / "run", stages=STAGES[:2])
    with pytest.raises(ValueError, match="x 3 processes"):
        prepare(parse_recipe(fields, source="small"), tmp_path / "run")


def test_steps_that_cannot_be_dealt_out_are_named_before_anything_is_written(fields, tmp_path, monkeypatch):
    monkeypatch.setattr("mpo.run.num_processes", lambda: 3)
    with pytest.raises(MpoError, match=r"batch_size=4 is not a multiple of 2 pairs x 3 processes"):
        run_recipe(parse_recipe(fields, source="small"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_with_the_trackers_that_are_asked_for(fields, tmp_path):
    for tracking in ({}, {"trackers": ["tensorboard"], "project": "later"}):
        recipe = parse_recipe(fields | {"tracking": tracking}, source="small")
        run_recipe(recipe, tmp_path / "run", stages=())
        assert read_recipe(tmp_path / "run" / "recipe.yaml").tracking == recipe.tracking


def test_a_second_run_changes_nothing(finished):
    before = {name: os.stat(finished / name).st_mtime_ns for name in files_of(finished)}
    run_recipe(load_recipe(str(finished / "recipe.yaml")), finished)
    assert {name: os.stat(finished / name).st_mtime_ns for name in files_of(finished)} == before
