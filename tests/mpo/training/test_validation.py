import json

import pytest
import torch

from mpo.recipe import parse_recipe
from mpo.run import run_recipe
from mpo.run_folder.paths import RunFolder
from mpo.stages.train import train
from mpo.training.checkpoint_files import checkpoint_folder, result_file
from mpo.training.validation import Validated, best_of, has_stalled
from mpo.training.validation_log import read_validations
from tests.helpers.recipes import (
    small_fields,
    with_validation,
)
from tests.helpers.runs import log_of, lora_of, trainable


def test_the_best_checkpoint_by_validation_is_the_result(model_folder, tmp_path):
    fields = with_validation(small_fields(model_folder, tmp_path), tmp_path)
    fields["train"] |= {"num_steps": 5, "checkpoint_interval_steps": 5, "learning_rate": 2e-2, "ema_decay": 0.9}
    run_recipe(parse_recipe(fields, source="small"), tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    validated = read_validations(run)
    assert [v.step for v in validated] == [0, 2, 4, 5]
    assert len({v.total for v in validated}) > 1
    best = max(validated[1:], key=lambda v: v.total)
    held = json.loads(run.trained.read_text())
    assert held == {"result_step": best.step, "last_step": 5, "stopped_early": False}
    assert result_file(run) == checkpoint_folder(run, best.step) / "ema.safetensors"
    assert len(list(run.validation.glob("step-*/*.png"))) == 16
    for v in validated:
        assert set(v.dimensions) == {"alignment", "composition", "quality", "fidelity"}
        assert v.total == pytest.approx(sum(v.dimensions.values()), abs=1e-9)


def test_validation_does_not_touch_training(finished, model_folder, fields, tmp_path):
    """With it and without it, the same weights."""
    fields["train"] |= {"num_steps": 4, "checkpoint_interval_steps": 2}
    plain = trainable(finished, tmp_path / "plain", fields)
    train(plain.folder)
    run_recipe(
        parse_recipe(with_validation(fields, tmp_path), source="small"), tmp_path / "run",
        stages=("generate", "score", "select", "encode", "train"),
    )  # fmt: skip
    torch.testing.assert_close(lora_of(RunFolder(tmp_path / "run"), 4), lora_of(plain, 4), rtol=0, atol=0)


def validated_at(*totals: float) -> list[Validated]:
    return [Validated(10 * k, total, {}) for k, total in enumerate(totals)]


def test_training_stops_where_validation_no_longer_improves(fields, tmp_path):
    recipe = parse_recipe(with_validation(fields, tmp_path), source="small")
    assert not has_stalled(recipe, validated_at(0, 1, 0.5, 0.4))  # patience: none
    fields["validation"]["patience"] = 2
    recipe = parse_recipe(fields, source="small")
    assert not has_stalled(recipe, validated_at(9, 1, 0.5))  # the untuned model does not count
    assert has_stalled(recipe, validated_at(0, 1, 0.5, 0.4))
    assert has_stalled(recipe, validated_at(0, 1, 1, 1))  # equal is no improvement
    assert not has_stalled(recipe, validated_at(0, 1, 0.5, 2, 1))
    assert best_of(validated_at(9, 1, 3, 3)).step == 20


def test_early_stop_ends_a_run_that_can_still_be_exported(model_folder, tmp_path):
    """At a rate too low to change a pixel every validation equals the first: the third sees no improvement in two."""
    fields = with_validation(small_fields(model_folder, tmp_path), tmp_path)
    fields["validation"] |= {"interval_steps": 1, "patience": 2}
    fields["train"] |= {"objective": "ipo", "learning_rate": 1e-12}
    run_recipe(parse_recipe(fields, source="small"), tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    assert len(log_of(run)) == 3
    assert json.loads(run.trained.read_text()) == {"result_step": 1, "last_step": 3, "stopped_early": True}
    assert run.lora_weights.exists()
    for page in (run.report.read_text(), (run.lora / "README.md").read_text()):
        assert "IPO (arXiv 2310.12036)" in page
        assert "Diffusion-DPO" not in page
        assert "1 steps of 4 pairs" in page
