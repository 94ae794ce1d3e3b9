"""What the trainer promises beside its arithmetic: memory and speed settings change nothing, kills change nothing."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from mpo import MpoError
from mpo.data.encoded import EncodedPairs
from mpo.models.acceleration import set_up
from mpo.models.families import denoiser_of, find_family
from mpo.models.loading import load_pipeline
from mpo.recipe import RecipeError, dump_recipe, parse_recipe, read_recipe, recipes_folder
from mpo.run import run_recipe
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import read_table
from mpo.stages.train import train, trim_logs
from mpo.training.batches import Batches, Draw, micro_batch_size
from mpo.training.checkpoints import checkpoint_folder, final_lora, join_state, split_state
from mpo.training.divergence import refuse_divergence
from mpo.training.optimizer import build_optimizer, known_optimizers
from mpo.training.reference_errors import ReferenceErrors, fingerprint
from mpo.training.sharding import check_sharder
from mpo.training.validation import Validated, best_of, has_stalled, read_validations
from tests.conftest import small_fields
from tests.mpo.families.pipelines import build
from tests.mpo.test_run import KILLED
from tests.mpo.test_train import settings_of

LAUNCHES = recipes_folder() / "accelerate"
MADE_BY_TRAINING = ("checkpoints", "train*.json*", "lora", "evaluation", "validation", "validation.jsonl", "errors")


def trainable(finished: Path, folder: Path, fields: dict) -> RunFolder:
    """A run whose pairs and encodings are there, with this recipe's training to be done."""
    run = RunFolder(folder)
    shutil.copytree(finished, run.folder, ignore=shutil.ignore_patterns(*MADE_BY_TRAINING))
    run.recipe.write_text(dump_recipe(parse_recipe(fields, source="small")), "utf-8")
    return run


def lora_of(run: RunFolder, step: int, name: str = "lora") -> torch.Tensor:
    state = load_file(checkpoint_folder(run, step) / f"{name}.safetensors")
    return torch.cat([state[key].flatten() for key in sorted(state)])


def log_of(run: RunFolder) -> list[dict]:
    return [json.loads(line) for line in run.training_log.read_text().splitlines()]


@pytest.fixture
def base(finished: Path, fields: dict, tmp_path: Path) -> torch.Tensor:
    """The LoRA after three steps, nothing special set."""
    fields["train"] |= {"num_steps": 3, "checkpoint_interval_steps": 3}
    run = trainable(finished, tmp_path / "base", fields)
    train(run.folder)
    return lora_of(run, 3)


@pytest.mark.parametrize(
    "changes", [{"gradient_checkpointing": True}, {"num_draws": 9}, {"ema_decay": 0.9}, {"reference_cache": "errors"}], ids=str
)  # fmt: skip
def test_settings_that_must_not_change_the_result(changes, base, finished, fields, tmp_path):
    fields["train"] |= changes
    run = trainable(finished, tmp_path / "run", fields)
    train(run.folder)
    torch.testing.assert_close(lora_of(run, 3), base, rtol=1e-3, atol=2e-5)
    assert base.abs().max() > 1e-3


@pytest.mark.parametrize(
    ("dtype", "mixed"), [("bfloat16", "bf16"), ("bfloat16", "no"), ("float32", "bf16"), ("float16", "fp16")]
)
def test_half_precisions_train_and_resume_exactly(dtype, mixed, model_folder, tmp_path):
    """The LoRA and its optimizer stay in float32; the direction is that of full precision."""
    fields = small_fields(model_folder, tmp_path)
    fields["model"]["dtype"] = dtype
    fields["train"] |= {"num_steps": 4, "checkpoint_interval_steps": 2, "mixed_precision": mixed, "ema_decay": 0.9}
    stages = ("generate", "score", "select", "encode", "train")
    run_recipe(parse_recipe(fields, source="small"), tmp_path / "run", stages=stages)
    run = RunFolder(tmp_path / "run")
    log = log_of(run)
    assert log[0]["loss"] == pytest.approx(np.log(2), abs=2e-2)
    assert all(np.isfinite(list(entry.values())).all() for entry in log)
    assert lora_of(run, 4).dtype == torch.float32
    assert {value.dtype for value in load_file(checkpoint_folder(run, 4) / "optimizer.safetensors").values()} == {
        torch.float32
    }
    resumes_exactly(run.folder, tmp_path, fields)


def test_accelerates_own_accumulation_is_not_taken(base, finished, fields, tmp_path, monkeypatch):
    """DeepSpeed's launcher sets it; accelerate would divide the loss once more."""
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    run = trainable(finished, tmp_path / "run", fields)
    train(run.folder)
    torch.testing.assert_close(lora_of(run, 3), base, rtol=0, atol=0)
    assert log_of(run) == log_of(RunFolder(tmp_path / "base"))


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_a_compiled_network_trains_to_the_same(base, finished, fields, tmp_path):
    fields["train"] |= {"compile": True}
    run = trainable(finished, tmp_path / "run", fields)
    code = f"from mpo.stages.train import train; train({str(run.folder)!r})"  # alone: compilation leaves threads behind
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    torch.testing.assert_close(lora_of(run, 3), base, rtol=5e-2, atol=2e-3)


def test_gradient_checkpointing_keeps_less(finished, fields):
    """What autograd keeps for the backward, counted."""
    kept = {}
    for on in (False, True):
        recipe = read_recipe(finished / "recipe.yaml")
        pipeline = load_pipeline(recipe.model)
        denoiser = denoiser_of(pipeline).train()
        if on:
            denoiser.enable_gradient_checkpointing()
        sizes: Counter = Counter()
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, sizes=sizes: sizes.update({t.untyped_storage()._cdata: t.untyped_storage().nbytes()}) or t,
            lambda t: t,
        ):
            denoiser(torch.ones(4, 4, 16, 16), torch.tensor([500] * 4), torch.ones(4, 24, 32))
        parameters = {p.untyped_storage()._cdata for p in denoiser.parameters()}
        kept[on] = sum(size for cdata, size in sizes.items() if cdata not in parameters)
    assert kept[True] < 0.5 * kept[False]


def test_the_mean_of_the_lora_is_an_exponential_one(finished, fields, tmp_path):
    """By hand from the checkpoints of each step; and it is the result."""
    fields["train"] |= {"num_steps": 4, "checkpoint_interval_steps": 1, "ema_decay": 0.5}
    run = trainable(finished, tmp_path / "run", fields)
    train(run.folder)
    mean = lora_of(run, 1).double()  # the first decay is 0
    for step in range(2, 5):
        decay = min(0.5, step / (9 + step))  # diffusers' warm-up: (1 + n) / (10 + n) of n = step - 1
        mean = decay * mean + (1 - decay) * lora_of(run, step).double()
        torch.testing.assert_close(lora_of(run, step, "ema").double(), mean, rtol=1e-5, atol=1e-7)
    assert final_lora(run).name == "ema.safetensors"


@pytest.mark.parametrize("name", ["Adafactor", "SGD", "RMSprop", "NAdam"])
def test_optimizers_of_torch_train_and_resume(name, finished, fields, tmp_path):
    fields["train"] |= {"num_steps": 4, "checkpoint_interval_steps": 2, "optimizer": name}
    resumes_exactly(finished, tmp_path, fields)


def resumes_exactly(finished: Path, tmp_path: Path, fields: dict) -> None:
    """Four steps equal two, their checkpoint in a fresh run, and two more."""
    whole = trainable(finished, tmp_path / "whole", fields)
    train(whole.folder)
    resumed = trainable(finished, tmp_path / "resumed", fields)
    shutil.copytree(checkpoint_folder(whole, 2), checkpoint_folder(resumed, 2))
    resumed.training_log.write_text("".join(whole.training_log.read_text().splitlines(keepends=True)[:2]), "utf-8")
    train(resumed.folder)
    torch.testing.assert_close(lora_of(resumed, 4), lora_of(whole, 4), rtol=0, atol=0)
    assert resumed.training_log.read_bytes() == whole.training_log.read_bytes()


@pytest.mark.parametrize("name", [n for n in known_optimizers() if n != "AdamW8bit"])
def test_every_optimizer_takes_a_step_and_its_state_is_kept(name):
    torch.manual_seed(0)
    parameter = torch.nn.Parameter(torch.randn(4, 4))
    optimizer = build_optimizer([parameter], settings_of(optimizer=name))
    before = parameter.detach().clone()
    parameter.square().sum().backward()
    optimizer.step()
    assert (parameter.detach() - before).abs().max() > 0
    state = optimizer.state_dict()["state"]
    joined = join_state(*split_state(state))
    assert {k: sorted(v) for k, v in joined.items()} == {k: sorted(v) for k, v in state.items()}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "Adam8"}, "'Adam8' is unknown; known: .*AdamW"),
        ({"optimizer": "LBFGS"}, "'LBFGS' is unknown"),
        ({"optimizer_options": {"bettas": [0.9, 0.99]}}, "takes no 'bettas'; it takes: .*betas"),
        ({"optimizer_options": {"betas": [0.9, 1.5]}}, "optimizer_options=.*[Bb]eta"),
        ({"optimizer": "Rprop", "weight_decay": 0.1}, "weight_decay=0.1 is not taken by Rprop"),
    ],
)
def test_what_an_optimizer_cannot_take_is_named_before_anything_runs(changes, message, fields, tmp_path):
    fields["train"] |= changes
    with pytest.raises(MpoError, match=message):
        run_recipe(parse_recipe(fields, source="small"), tmp_path / "run", stages=())
    assert not (tmp_path / "run").exists()


def test_the_8_bit_optimizer_is_used_or_named(finished, fields, tmp_path):
    fields["train"] |= {"num_steps": 4, "checkpoint_interval_steps": 2, "optimizer": "AdamW8bit"}
    try:
        import bitsandbytes  # noqa: F401  # type: ignore[import-not-found]
    except ImportError:
        with pytest.raises(MpoError, match=r"needs bitsandbytes; pip install 'mpo\[gpu\]'"):
            build_optimizer([], settings_of(optimizer="AdamW8bit"))
        return
    resumes_exactly(finished, tmp_path, fields)


def test_a_nested_state_is_kept():
    state = {0: {"step": 3, "quantised": {"absmax": torch.ones(2), "blocks": 4}}, 1: {"m": torch.zeros(1)}}
    assert join_state(*split_state(state)) == state


def test_xformers_is_used_or_named(finished, fields, tmp_path):
    fields["train"] |= {"num_steps": 1, "checkpoint_interval_steps": 1, "warmup_steps": 0, "attention": "xformers"}
    run = trainable(finished, tmp_path / "run", fields)
    if torch.cuda.is_available():
        train(run.folder)
    else:
        with pytest.raises(MpoError, match="attention='xformers' cannot be used here"):
            train(run.folder)


@pytest.mark.parametrize(("name", "processor"), [("sana", "SanaLinearAttnProcessor2_0"), ("qwen_image", "QwenDouble")])
def test_xformers_does_not_take_the_place_of_other_attention(name, processor):
    with pytest.raises(MpoError, match=f"cannot take the place of this model's .*{processor}"):
        set_up(denoiser_of(build(name)), settings_of(attention="xformers"))


def test_kept_reference_errors_are_the_references(finished, fields, tmp_path, monkeypatch):
    """Asked once; a second run with another beta and rate asks never, and trains as if it had asked."""
    fields["train"] |= {"num_steps": 3, "checkpoint_interval_steps": 3, "num_draws": 1, "reference_cache": "../errors"}
    first = trainable(finished, tmp_path / "first", fields)
    train(first.folder)
    fields["train"] |= {"beta": 300.0, "learning_rate": 2e-3, "objective": "ipo"}
    second = trainable(finished, tmp_path / "second", fields)
    with monkeypatch.context() as patch:
        patch.setattr("mpo.stages.train.lora_off", lambda _: pytest.fail("the reference is asked again"))
        train(second.folder)
    fields["train"]["reference_cache"] = None
    plain = trainable(finished, tmp_path / "plain", fields)
    train(plain.folder)
    torch.testing.assert_close(lora_of(second, 3), lora_of(plain, 3), rtol=0, atol=0)
    assert log_of(second) == log_of(plain)


def test_one_draw_a_pair_is_asked_once_over_epochs(finished, fields, tmp_path, monkeypatch):
    pairs = len(read_table(finished / "pairs.parquet", made_by="select"))
    fields["train"] |= {"num_steps": 3 * pairs, "checkpoint_interval_steps": 9, "batch_size": 1, "micro_batch_size": 1}
    fields["train"] |= {"num_draws": 2, "reference_cache": "errors", "warmup_steps": 0}
    run = trainable(finished, tmp_path / "run", fields)
    asked = []
    from mpo.models.lora import lora_off

    monkeypatch.setattr("mpo.stages.train.lora_off", lambda denoiser: asked.append(1) or lora_off(denoiser))
    train(run.folder)
    assert len(asked) == 2 * pairs


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"train": {"seed": 5}}, "train"),
        ({"train": {"timestep_range": [0.0, 0.5]}}, "train"),
        ({"model": {"dtype": "bfloat16"}}, "denoiser and dtype"),
    ],
)
def test_kept_errors_of_another_model_or_other_draws_are_refused(changes, named, finished, fields, tmp_path):
    fields["train"] |= {
        "num_steps": 1,
        "checkpoint_interval_steps": 1,
        "warmup_steps": 0,
        "reference_cache": "../errors",
    }
    train(trainable(finished, tmp_path / "first", fields).folder)
    for section, values in changes.items():
        fields[section] |= values
    with pytest.raises(MpoError, match=f"another {named}.*use another folder"):
        train(trainable(finished, tmp_path / "second", fields).folder)


def test_half_a_line_of_kept_errors_is_dropped(tmp_path):
    errors = ReferenceErrors(tmp_path, {"a": 1})
    errors.put([Draw(0, 0), Draw(1, 0)], torch.tensor([[0.1, 0.2], [0.3, 0.4]]))
    with (tmp_path / "errors.jsonl").open("ab") as file:
        file.write(b'{"draws": [[7, 0]], "err')
    again = ReferenceErrors(tmp_path, {"a": 1})
    assert len(again) == 2
    torch.testing.assert_close(again.get([Draw(1, 0)], "cpu"), torch.tensor([[0.2], [0.4]]), rtol=0, atol=0)
    again.put([Draw(2, 0)], torch.tensor([[0.5], [0.6]]))
    assert len(ReferenceErrors(tmp_path, {"a": 1})) == 3


def test_errors_that_are_not_finite_are_not_kept(tmp_path):
    errors = ReferenceErrors(tmp_path, {"a": 1})
    errors.put([Draw(0, 0)], torch.tensor([[0.1], [float("nan")]]))
    errors.put([Draw(1, 0)], torch.tensor([[0.1], [0.2]]))
    assert [Draw(k, 0) in ReferenceErrors(tmp_path, {"a": 1}) for k in range(2)] == [False, True]


def test_two_runs_may_keep_errors_in_one_folder(tmp_path):
    """One opens it while the other has written half a line."""
    first, second = ReferenceErrors(tmp_path, {"a": 1}), ReferenceErrors(tmp_path, {"a": 1})
    first.put([Draw(0, 0)], torch.tensor([[0.1], [0.2]]))
    second.put([Draw(0, 0)], torch.tensor([[0.5], [0.6]]))
    second.put([Draw(1, 0)], torch.tensor([[0.3], [0.4]]))
    again = ReferenceErrors(tmp_path, {"a": 1})
    torch.testing.assert_close(again.get([Draw(0, 0), Draw(1, 0)], "cpu"), torch.tensor([[0.1, 0.3], [0.2, 0.4]]))


def test_the_fingerprint_sees_a_change_in_any_weight_tensor():
    denoiser = denoiser_of(build("sana"))
    before = fingerprint(denoiser)
    assert fingerprint(denoiser_of(build("sana"))) == before
    with torch.no_grad():
        next(iter(denoiser.parameters())).mul_(1.01)
    assert fingerprint(denoiser) != before


def test_sizes_are_trained_together_in_one_step(model_folder, tmp_path):
    """Two aspect ratios: batches hold one shape each, every draw is taken once, the loss is that of single pairs."""
    fields = small_fields(model_folder, tmp_path)
    fields["model"]["sizes"] = [[32, 32], [48, 32]]
    fields["train"] |= {"num_steps": 2, "checkpoint_interval_steps": 2, "batch_size": 6, "micro_batch_size": 3}
    run_recipe(parse_recipe(fields, source="small"), tmp_path / "run")
    run, recipe = RunFolder(tmp_path / "run"), read_recipe(tmp_path / "run" / "recipe.yaml")
    pairs, encoded = read_table(run.pairs, made_by="select").to_pylist(), EncodedPairs(run)
    shapes = {encoded.shape(row["chosen_id"]) for row in pairs}
    assert shapes == {(4, 16, 16), (4, 16, 24)}
    assert all(encoded.shape(row["chosen_id"]) == encoded.shape(row["rejected_id"]) for row in pairs)
    pipeline = load_pipeline(recipe.model)
    batches = Batches(pipeline, find_family(pipeline), pairs, encoded, recipe.train, torch.device("cpu"))
    draws = batches.of_step(0)
    from mpo.training.batches import stream

    assert Counter(draws) == Counter(stream(0, len(pairs), 0, 6))
    groups = batches.alike(draws)
    assert len(groups) == len({encoded.shape(pairs[d.pair]["chosen_id"]) for d in draws})
    assert [d for group in groups for d in group] == draws
    assert log_of(run)[0]["loss"] == pytest.approx(np.log(2), abs=1e-3)

    fields["train"]["micro_batch_size"] = 1
    run_recipe(parse_recipe(fields, source="small"), tmp_path / "single")
    torch.testing.assert_close(lora_of(RunFolder(tmp_path / "single"), 2), lora_of(run, 2), rtol=1e-2, atol=1e-4)


def with_validation(fields: dict, folder: Path) -> dict:
    (folder / "validation.txt").write_text("a blue circle in a meadow\na red star on the sea\n", "utf-8")
    fields["prompts"]["validation"] = str(folder / "validation.txt")
    fields["validation"] = {
        "interval_steps": 2, "num_inference_steps": 2, "guidance_scale": 1.0, "batch_size": 2, "num_seeds": 2,
    }  # fmt: skip
    return fields


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
    assert final_lora(run) == checkpoint_folder(run, best.step) / "ema.safetensors"
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


def test_half_lines_of_a_crash_are_dropped(tmp_path):
    run = RunFolder(tmp_path)
    run.validation_log.write_text('{"step": 0, "tot')
    assert trim_logs(run, 0) == ([], [])
    assert run.validation_log.read_text() == ""
    lines = [json.dumps({"step": k, "total": 1.0, "dimensions": {}}) + "\n" for k in range(3)]
    for log in (run.training_log, run.validation_log):
        log.write_text("".join(lines) + '{"step": 3, "tot')
    trained, validated = trim_logs(run, 1)
    assert [v.step for v in validated] == [record["step"] for record in trained] == [0, 1]
    for log in (run.training_log, run.validation_log):
        assert log.read_text() == "".join(lines[:2])


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


def test_early_stop_ends_a_run_that_can_still_be_exported(model_folder, tmp_path, monkeypatch):
    fields = with_validation(small_fields(model_folder, tmp_path), tmp_path)
    fields["validation"] |= {"interval_steps": 1, "patience": 1}
    fields["train"]["objective"] = "ipo"
    monkeypatch.setattr("mpo.stages.train.has_stalled", lambda recipe, validated: len(validated) > 3)
    run_recipe(parse_recipe(fields, source="small"), tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    assert len(log_of(run)) == 3
    held = json.loads(run.trained.read_text())
    assert held["stopped_early"]
    assert run.lora_weights.exists()
    for page in (run.report.read_text(), (run.lora / "README.md").read_text()):
        assert "IPO (arXiv 2310.12036)" in page
        assert "Diffusion-DPO" not in page
        assert f"{held['result_step']} steps of 4 pairs" in page


def test_validation_prompts_and_section_go_together(fields, tmp_path):
    fields["prompts"]["validation"] = fields["prompts"]["heldout"]
    with pytest.raises(RecipeError, match=r"prompts.validation and a section 'validation' go together"):
        parse_recipe(fields, source="small")


def metrics(loss: float = 0.7, error: float = 0.1, grad_norm: float = 1.0, step: int = 1) -> dict:
    return {"step": step, "loss": loss, "chosen_error": error, "reference_error": 0.1, "grad_norm": grad_norm}


def test_a_model_that_comes_apart_is_stopped():
    pairs, draws = [{"pair_id": 3}], [Draw(0, 0)]
    healthy = [metrics(step=k) for k in range(40)]
    refuse_divergence(healthy, settings_of(), pairs, draws, scaled=False)
    growing = [*healthy, *(metrics(error=0.35, step=40 + k) for k in range(20))]
    with pytest.raises(
        MpoError, match=r"error of the chosen is 3.50 times .*max_error_ratio=3.0.*lower train.learning_rate"
    ):
        refuse_divergence(growing, settings_of(), pairs, draws, scaled=False)
    refuse_divergence(growing, settings_of(max_error_ratio=4.0), pairs, draws, scaled=False)
    refuse_divergence([*healthy, metrics(error=9.0)], settings_of(), pairs, draws, scaled=False)  # one bad batch
    with pytest.raises(MpoError, match=r"gradient norm is nan at step 0 \(pairs 3\)"):
        refuse_divergence([metrics(grad_norm=float("nan"))], settings_of(), pairs, draws, scaled=False)
    overflown = [metrics(grad_norm=float("inf"))] * 20
    refuse_divergence(overflown[:19], settings_of(), pairs, draws, scaled=True)
    with pytest.raises(MpoError, match="no gradient of the last 20 steps was finite"):
        refuse_divergence(overflown, settings_of(), pairs, draws, scaled=True)


def test_without_a_reference_the_first_steps_are_the_measure():
    def grown(by: float) -> list[dict]:
        return [metrics() | {"chosen_error": e, "reference_error": e} for e in [0.1] * 20 + [0.1 * by] * 20]

    settings = settings_of(objective="mapo")
    refuse_divergence(grown(2.0), settings, [{"pair_id": 0}], [Draw(0, 0)], scaled=False)
    with pytest.raises(MpoError, match=r"4\.00 times"):
        refuse_divergence(grown(4.0), settings, [{"pair_id": 0}], [Draw(0, 0)], scaled=False)


def test_a_far_too_high_rate_is_stopped_in_a_real_run(finished, fields, tmp_path):
    fields["train"] |= {
        "num_steps": 60,
        "checkpoint_interval_steps": 60,
        "learning_rate": 3.0,
        "batch_size": 2,
        "micro_batch_size": 2,
    }
    run = trainable(finished, tmp_path / "run", fields)
    with pytest.raises(MpoError, match=r"coming apart|is nan|is inf"):
        train(run.folder)
    assert len(log_of(run)) < 60


def test_batches_that_cannot_be_dealt_out_are_named():
    assert micro_batch_size(settings_of(batch_size=8), 4) == 2
    assert micro_batch_size(settings_of(batch_size=8, micro_batch_size=1), 4) == 1
    with pytest.raises(MpoError, match=r"batch_size=8 is no multiple of 1 pairs x 16 processes"):
        micro_batch_size(settings_of(batch_size=8), 16)


def launch(*arguments: str, processes: int, config: str = "ddp") -> subprocess.CompletedProcess:
    """With a shipped configuration; on a machine without GPU its processes join by gloo."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(LAUNCHES / f"{config}.yaml")]
    command += [f"--num_processes={processes}", "--num_cpu_threads_per_process=1", "--main_process_port=0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, env=environment)


def test_processes_know_of_each_other(tmp_path):
    script = tmp_path / "who.py"
    script.write_text(
        "import sys, torch\nfrom mpo.runtime.processes import all_reduce_max, barrier, broadcast_from_main, is_main, shard_of_rank\nbarrier()\n"
        "days = torch.distributed.group.WORLD._get_backend(torch.device('cpu')).options._timeout.days\n"
        "mine = shard_of_rank(range(5))\n"
        "sys.stdout.write(f'{is_main()} {mine} {all_reduce_max(len(mine))} {broadcast_from_main(mine)} {days}\\n')\n"
    )
    done = launch(str(script), processes=2)
    assert sorted(done.stdout.splitlines()) == ["False [1, 3] 3 [0, 2, 4] 7", "True [0, 2, 4] 3 [0, 2, 4] 7"], (
        done.stderr
    )


def test_two_processes_make_the_same_as_one_and_survive_a_kill(model_folder, tmp_path):
    """Pairs equal, LoRA equal but for rounding; killed after a checkpoint and run again, the same bytes.

    With accumulation, a running mean, and reference errors kept.
    """
    fields = with_validation(small_fields(model_folder, tmp_path), tmp_path)
    fields["train"] |= {"num_steps": 4, "checkpoint_interval_steps": 2, "batch_size": 4, "micro_batch_size": 1}
    fields["train"] |= {"ema_decay": 0.9, "reference_cache": "errors", "num_draws": 1}
    recipe = tmp_path / "small.yaml"
    recipe.write_text(yaml.safe_dump(fields), "utf-8")
    alone, two, killed = (tmp_path / name for name in ("alone", "two", "killed"))
    arguments = ["run", str(recipe), "--quiet", "--output"]
    plain = subprocess.run(  # as many threads as each of the two: rounding depends on them
        [sys.executable, "-m", "mpo.cli", *arguments, str(alone)], capture_output=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert plain.returncode == 0
    done = launch("-m", "mpo.cli", *arguments, str(two), processes=2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("win rate") == 5  # said once, not by each
    for name in ("candidates.parquet", "scores.parquet", "pairs.parquet", "prompts.parquet"):
        assert (two / name).read_bytes() == (alone / name).read_bytes(), name
    for name in ("lora", "ema"):  # Adam makes much of a gradient's rounding where it is next to nothing
        one, other = lora_of(RunFolder(alone), 4, name), lora_of(RunFolder(two), 4, name)
        assert (one - other).norm() < 2e-2 * one.norm()
    for ours, theirs in zip(log_of(RunFolder(alone)), log_of(RunFolder(two)), strict=True):
        assert theirs == pytest.approx(ours, rel=5e-3, abs=2e-3)
    assert [v.step for v in read_validations(RunFolder(two))] == [0, 2, 4]

    script = tmp_path / "dying.py"
    script.write_text(KILLED, "utf-8")
    died = launch(str(script), "mpo.stages.train", "average_gradients", "4", *arguments, str(killed), processes=2)
    assert died.returncode != 0
    assert [p.name for p in (killed / "checkpoints").glob("step-*")] == ["step-000002"]
    done = launch("-m", "mpo.cli", *arguments, str(killed), processes=2)
    assert done.returncode == 0, done.stderr
    for file in ("lora", "ema", "optimizer"):
        one, other = (checkpoint_folder(RunFolder(f), 4) / f"{file}.safetensors" for f in (two, killed))
        assert one.read_bytes() == other.read_bytes(), file
    for name in ("training.jsonl", "validation.jsonl", "errors/errors.jsonl"):
        assert (two / name).read_bytes() == (killed / name).read_bytes(), name


SHARDED = """
import sys
import torch
import mpo.stages.train
shard = mpo.stages.train.shard_frozen
def sharded(pipeline, *arguments):
    shard(pipeline, *arguments)
    denoiser = mpo.models.families.denoiser_of(pipeline)
    frozen = [p for p in denoiser.parameters() if not p.requires_grad]
    held = sum((p.ds_tensor if hasattr(p, "ds_tensor") else p.to_local()).numel() for p in frozen)
    whole = sum(p.ds_numel if hasattr(p, "ds_tensor") else p.numel() for p in frozen)
    lora = {type(p).__name__ + str(p.dtype) for p in denoiser.parameters() if p.requires_grad}
    assert isinstance(torch.nn.functional.linear, type(len)), "the program's own linear layer was replaced"
    sys.stdout.write(f"share {held / whole} {' '.join(lora)}\\n")  # one piece: the other process writes, too
mpo.stages.train.shard_frozen = sharded
mpo.stages.train.train(sys.argv[1])
"""


@pytest.mark.parametrize("name", ["stable_diffusion", "flux"])
def test_frozen_weights_spread_over_two_processes_train_to_the_same(name, tmp_path):
    """FSDP2 and ZeRO-3 against plain data parallel: half of the weights in each process, the same LoRA and pictures.

    One picture to validate with, so that one process samples it and the other must not be missed. Resumed, the same bytes.
    """
    build(name).save_pretrained(tmp_path / "model")
    fields = with_validation(small_fields(tmp_path / "model", tmp_path), tmp_path)
    fields["model"]["sizes"] = [[32, 32]]
    if name == "flux":  # as the large ones are trained
        fields["model"]["dtype"], fields["train"]["mixed_precision"] = "bfloat16", "bf16"
    fields["validation"] |= {"batch_size": 1, "num_seeds": 1}
    fields["prompts"]["validation"] = {"path": fields["prompts"]["validation"], "limit": 1}
    fields["train"] |= {
        "num_steps": 4,
        "checkpoint_interval_steps": 2,
        "gradient_checkpointing": True,
        "ema_decay": 0.5,
    }
    run_recipe(parse_recipe(fields, source="small"), tmp_path / "run", stages=("generate", "score", "select", "encode"))
    script = tmp_path / "sharded.py"
    script.write_text(SHARDED, "utf-8")

    def trained(folder: str, config: str, resumed: RunFolder | None = None) -> RunFolder:
        run = trainable(tmp_path / "run", tmp_path / folder, fields)
        if resumed:
            shutil.copytree(checkpoint_folder(resumed, 2), checkpoint_folder(run, 2))
            run.training_log.write_text("".join(resumed.training_log.read_text().splitlines(keepends=True)[:2]))
        done = launch(str(script), str(run.folder), processes=2, config=config)
        assert done.returncode == 0, done.stderr
        shares = [line.split() for line in done.stdout.splitlines() if line.startswith("share")]
        assert len(shares) == (0 if config == "ddp" else 2)
        assert all(float(share) < 0.6 and lora == "Parametertorch.float32" for _, share, lora in shares)
        return run

    whole = trained("whole", "ddp")
    for config in ("fsdp2", "deepspeed-zero3"):
        spread = trained(config, config)
        assert (lora_of(spread, 4) - lora_of(whole, 4)).norm() < 1e-3 * lora_of(whole, 4).norm(), config
        for ours, theirs in zip(log_of(whole), log_of(spread), strict=True):
            if name == "flux":  # beta times bfloat16's rounding
                assert theirs["loss"] == pytest.approx(ours["loss"], abs=0.05)
                assert theirs["chosen_error"] == pytest.approx(ours["chosen_error"], rel=1e-4)
            else:
                assert theirs == pytest.approx(ours, rel=1e-3, abs=1e-4)
        for ours, theirs in zip(read_validations(whole), read_validations(spread), strict=True):
            assert theirs.total == pytest.approx(ours.total, abs=1e-2 if name == "flux" else 1e-6)
        if name == "flux":
            continue
        again = trained(f"{config}-resumed", config, resumed=spread)
        for file in ("lora", "ema", "optimizer"):
            files = [checkpoint_folder(run, 4) / f"{file}.safetensors" for run in (spread, again)]
            assert files[0].read_bytes() == files[1].read_bytes(), (config, file)
    assert lora_of(whole, 4).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("sharder", "environment", "message"),
    [
        ("fsdp", {"FSDP_VERSION": "1"}, "fsdp_version=1 is not heeded here; set it to 2"),
        ("fsdp", {"FSDP_ACTIVATION_CHECKPOINTING": "true"}, "set train.gradient_checkpointing=true"),
        ("fsdp", {"FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}, "cpu_ram_efficient_loading is not heeded"),
        ("deepspeed", {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"}, "zero_stage=2 is not heeded.*launch with ddp.yaml"),
        ("deepspeed", {"ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": "cpu"}, "offload_optimizer_device"),
    ],
)
def test_launch_settings_that_would_not_be_heeded_are_refused(sharder, environment, message, fields, monkeypatch):
    monkeypatch.setenv("MPO_SHARDER", sharder)
    monkeypatch.setenv("FSDP_VERSION", "2")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", "3")
    assert check_sharder(parse_recipe(fields, source="small"), 2, 2) == sharder
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(MpoError, match=message):
        check_sharder(parse_recipe(fields, source="small"), 2, 2)


def test_sharding_refuses_what_would_hang(fields, monkeypatch):
    assert check_sharder(parse_recipe(fields, source="small"), 2, 1) is None
    monkeypatch.setenv("MPO_SHARDER", "fsdp")
    monkeypatch.setenv("FSDP_VERSION", "2")
    with pytest.raises(MpoError, match="asks for fsdp with 1 process; raise num_processes"):
        check_sharder(parse_recipe(fields, source="small"), 2, 1)
    fields["train"]["compile"] = True
    with pytest.raises(MpoError, match=r"train.compile=true does not go with fsdp"):
        check_sharder(parse_recipe(fields, source="small"), 2, 2)
    fields["model"]["sizes"] = [[32, 32], [48, 32]]
    with pytest.raises(MpoError, match=r"pictures of several sizes needs train\.micro_batch_size=1, not 2"):
        check_sharder(parse_recipe(fields, source="small"), 2, 2)


def test_a_killed_training_resumes_bit_for_bit(model_folder, tmp_path):
    """4 steps == 2 + SIGKILL + 2, with accumulation, a running mean, kept reference errors and validation."""
    fields = with_validation(small_fields(model_folder, tmp_path), tmp_path)
    fields["train"] |= {
        "num_steps": 4,
        "checkpoint_interval_steps": 2,
        "ema_decay": 0.9,
        "reference_cache": "errors",
        "num_draws": 1,
    }
    recipe = tmp_path / "small.yaml"
    recipe.write_text(yaml.safe_dump(fields), "utf-8")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    arguments = ["run", str(recipe), "--quiet", "--output"]

    def run(*command: str) -> int:
        return subprocess.run([sys.executable, *command], capture_output=True, check=False).returncode

    assert run("-m", "mpo.cli", *arguments, str(whole)) == 0
    assert run("-c", KILLED, "mpo.stages.train", "average_gradients", "4", *arguments, str(killed)) == -signal.SIGKILL
    assert len((killed / "training.jsonl").read_text().splitlines()) == 3
    assert run("-m", "mpo.cli", *arguments, str(killed)) == 0
    kept = [p.relative_to(whole) for p in whole.rglob("*") if p.is_file() and p.name != "log.jsonl"]
    differing: list[Any] = [p for p in kept if (whole / p).read_bytes() != (killed / p).read_bytes()]
    assert differing == []
