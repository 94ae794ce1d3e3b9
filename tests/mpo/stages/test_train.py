"""The stage against a plain transcription, and what must not change its result: kills, memory and speed settings."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from diffusers import DDPMScheduler
from safetensors.torch import load_file, save_file

from mpo import MpoError
from mpo.data.encoded import EncodedPairs
from mpo.models.families import find_family
from mpo.models.loading import load_pipeline
from mpo.models.lora import add_lora, load_lora, lora_off
from mpo.recipe import parse_recipe, read_recipe
from mpo.run import run_recipe
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import read_table
from mpo.stages.train import train
from mpo.training.adaptive_beta import beta_of_step
from mpo.training.batches import draw_noise, stream
from mpo.training.checkpoint_files import checkpoint_folder, result_file
from mpo.training.checkpoints import trim_logs
from mpo.training.objectives import denoising_error, diffusion_dpo
from tests.faults.kill import Moment
from tests.helpers.processes import mpo
from tests.helpers.recipes import small_fields, with_validation
from tests.helpers.runs import files_of, log_of, lora_of, resumes_exactly, trainable

DDPM = DDPMScheduler()


@pytest.fixture
def base(finished: Path, fields: dict, tmp_path: Path) -> torch.Tensor:
    """The LoRA after three steps, nothing special set."""
    fields["train"] |= {"num_steps": 3, "checkpoint_interval_steps": 3}
    run = trainable(finished, tmp_path / "base", fields)
    train(run.folder)
    return lora_of(run, 3)


@pytest.mark.parametrize(
    "changes",
    [
        {"objective": "ipo"}, {"objective": "hinge"}, {"objective": "mapo", "beta": 0.1}, {"label_smoothing": 0.1},
        {"sft_weight": 0.5}, {"timestep_sampling": "logit_normal"}, {"error_weighting": "min_snr"},
    ],
    ids=lambda changes: next(iter(changes.items()))[1],
)  # fmt: skip
def test_each_objective_trains(changes, finished: Path, fields, tmp_path):
    """On the pairs of a finished run: the first step's loss is the known one, and the LoRA moves."""
    fields["train"] |= {
        "num_steps": 3,
        "checkpoint_interval_steps": 3,
        "batch_size": 8,
        "micro_batch_size": 8,
        **changes,
    }
    run = trainable(finished, tmp_path / "run", fields)
    train(run.folder)
    log = log_of(run)
    first = log[0]
    start = {"ipo": 0.25, "hinge": 1.0}.get(changes.get("objective", "dpo"), np.log(2))
    if changes.get("objective") == "mapo":
        assert first["loss"] > first["chosen_error"]
    else:
        assert first["loss"] == pytest.approx(start + changes.get("sft_weight", 0.0) * first["chosen_error"], abs=2e-3)
    assert all(np.isfinite(list(entry.values())).all() for entry in log)
    lora = load_file(run.checkpoints / "step-000003" / "lora.safetensors")
    assert all(tensor.abs().max() > 0 for name, tensor in lora.items() if "lora_B" in name)


@pytest.mark.parametrize("levers", [{"safeguard": 0.0}, {"gradient_factor": 0.49}])
def test_levers_change_what_a_step_does_and_resume_exactly(levers, finished: Path, fields, tmp_path):
    """Both leave the first loss as it is. Another path is taken, and a stopped run goes on along it."""
    fields["train"] |= {
        "num_steps": 12,
        "checkpoint_interval_steps": 2,
        "learning_rate": 3e-3,
        "beta": 5000.0,
        "num_draws": 1,
    }
    plain = trainable(finished, tmp_path / "plain", fields)
    train(plain.folder)
    fields["train"] |= levers
    run = trainable(finished, tmp_path / "run", fields)
    train(run.folder)
    log = log_of(run)
    assert log[0]["loss"] == pytest.approx(log_of(plain)[0]["loss"])
    assert not torch.equal(lora_of(run, 12), lora_of(plain, 12))
    if "gradient_factor" in levers:
        assert [entry["beta"] for entry in log] == [
            beta_of_step(log[:step], beta=5000.0, gradient_factor=levers["gradient_factor"]) for step in range(12)
        ]
        assert log[-1]["beta"] < 5000.0
    resumes_exactly(run, tmp_path, fields)


def test_the_reference_is_not_asked_where_it_is_not_needed(finished: Path, fields, tmp_path):
    """MaPO's log has no error of a reference; the policy's own in its place would be taken for it."""
    fields["train"] |= {"num_steps": 3, "checkpoint_interval_steps": 3, "objective": "mapo", "beta": 0.1}
    log = {}
    for name, changes in {"mapo": {}, "dpo": {"objective": "dpo", "beta": 1000.0}}.items():
        fields["train"] |= changes
        run = trainable(finished, tmp_path / name, fields)
        train(run.folder)
        log[name] = log_of(run)[-1]
    assert set(log["dpo"]) - set(log["mapo"]) == {"reference_error"}
    assert log["dpo"]["reference_error"] != log["dpo"]["chosen_error"]


def test_the_metrics_are_those_of_a_plain_transcription(finished: Path):
    """Step 1 by hand: the pairs of the stream, both errors, the published formula in float64."""
    run, recipe = RunFolder(finished), read_recipe(finished / "recipe.yaml")
    pipeline = load_pipeline(recipe.model)
    family, settings = find_family(pipeline), recipe.train
    denoiser = add_lora(pipeline, settings)
    load_lora(denoiser, run.checkpoints / "step-000002" / "lora.safetensors")
    pairs, encoded = read_table(run.pairs, made_by="select").to_pylist(), EncodedPairs(run)
    losses, margins = [], []
    for draw in stream(settings.seed, len(pairs), 2 * settings.batch_size, settings.batch_size):
        row = pairs[draw.pair]
        conditioning = encoded.conditioning([row["prompt_id"]])
        errors = {}
        for name in ("chosen_id", "rejected_id"):
            latents = encoded.latents([row[name]])
            noise, timestep = draw_noise(settings, draw, latents.shape[1:], DDPM)
            noisy, target = family.add_noise(pipeline, latents, noise[None], torch.tensor([timestep]))
            with torch.no_grad():
                errors[name, "policy"] = denoising_error(
                    family.predict(pipeline, noisy, torch.tensor([timestep]), conditioning), target
                ).double()
            with lora_off(denoiser):
                errors[name, "reference"] = denoising_error(
                    family.predict(pipeline, noisy, torch.tensor([timestep]), conditioning), target
                ).double()
        outcome = diffusion_dpo(
            errors["chosen_id", "policy"], errors["rejected_id", "policy"], errors["chosen_id", "reference"], errors["rejected_id", "reference"],
            beta=settings.beta,
        )  # fmt: skip
        losses.append(outcome.loss.item())
        margins.append(outcome.margin.item())
    logged = json.loads(run.training_log.read_text().splitlines()[2])
    assert logged["step"] == 3
    assert logged["loss"] == pytest.approx(np.mean(losses), rel=1e-3)
    assert logged["margin"] == pytest.approx(np.mean(margins), rel=2e-2, abs=2e-3)


def test_training_starts_at_log_2_and_moves_the_margin_up(finished: Path):
    log = [json.loads(line) for line in (finished / "training.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log] == [1, 2, 3, 4, 5, 6]
    assert log[0]["loss"] == pytest.approx(np.log(2), abs=1e-4)
    assert log[0]["accuracy"] == pytest.approx(0.5, abs=0.26)  # ties, up to rounding
    assert all(entry["grad_norm"] > 0 for entry in log)


def test_the_margin_of_what_is_trained_on_rises(finished: Path, fields, tmp_path):
    """All pairs in each step, at the same noises, so that a step differs from the one before by the update alone."""
    num_pairs = len(read_table(finished / "pairs.parquet", made_by="select"))
    fields["train"] |= {
        "num_steps": 6,
        "warmup_steps": 0,
        "batch_size": num_pairs,
        "micro_batch_size": None,
        "num_draws": 1,
    }
    run = trainable(finished, tmp_path / "run", fields)
    train(run.folder)
    log = log_of(run)
    assert log[0]["margin"] == pytest.approx(0, abs=1e-3)
    assert log[-1]["margin"] > log[1]["margin"] > 0.01
    assert log[-1]["loss"] < log[1]["loss"] < np.log(2)


def test_accumulation_changes_nothing_but_rounding(finished: Path, fields, tmp_path):
    """Two micro-batches a step against one."""
    fields["train"]["micro_batch_size"] = 4
    runs = RunFolder(finished), trainable(finished, tmp_path / "run", fields)
    train(runs[1].folder)

    def kept(run: RunFolder, step: int, file: str, ending: str) -> torch.Tensor:
        tensors = load_file(run.checkpoints / f"step-{step:06d}" / f"{file}.safetensors")
        return torch.cat([tensors[name].flatten() for name in sorted(tensors) if name.endswith(ending)])

    # Gradients: their norms before they are clipped, and Adam's first moment after two steps, of which the first has a
    # rate of 0 (warm-up).
    logs = [[json.loads(line) for line in run.training_log.read_text().splitlines()] for run in runs]
    norms = [[entry["grad_norm"] for entry in log] for log in logs]
    assert norms[1] == pytest.approx(norms[0], rel=1e-3)
    one, other = (kept(run, 2, "optimizer", ".exp_avg") for run in runs)
    assert (one - other).norm() < 1e-3 * one.norm()
    # Weights: by their norm, since Adam makes much of a gradient's rounding where it is next to nothing.
    one, other = (kept(run, 6, "lora", "") for run in runs)
    assert (one - other).norm() < 1e-2 * one.norm()


def test_a_loss_that_is_not_finite_stops_before_the_step(finished, fields, tmp_path):
    run = trainable(finished, tmp_path / "run", fields)
    (shard,) = run.encoded.glob("latents-*.safetensors")
    save_file({name: tensor * torch.nan for name, tensor in load_file(shard).items()}, shard)
    with pytest.raises(MpoError, match=r"loss is nan at step 0 \(pairs .*lower train.learning_rate"):
        train(run.folder)
    assert not list(run.checkpoints.glob("step-*"))


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
    resumes_exactly(run, tmp_path, fields)


def test_accelerates_own_accumulation_is_not_taken(base, finished, fields, tmp_path, monkeypatch):
    """DeepSpeed's launcher sets it; accelerate would divide the loss once more."""
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    run = trainable(finished, tmp_path / "run", fields)
    train(run.folder)
    torch.testing.assert_close(lora_of(run, 3), base, rtol=0, atol=0)
    assert log_of(run) == log_of(RunFolder(tmp_path / "base"))


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
@pytest.mark.slow
def test_a_compiled_network_trains_to_the_same(base, finished, fields, tmp_path):
    fields["train"] |= {"compile": True}
    run = trainable(finished, tmp_path / "run", fields)
    code = f"from mpo.stages.train import train; train({str(run.folder)!r})"  # alone: compilation leaves threads behind
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    torch.testing.assert_close(lora_of(run, 3), base, rtol=5e-2, atol=2e-3)


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
    assert result_file(run).name == "ema.safetensors"


def test_kept_reference_errors_are_the_references(finished, fields, tmp_path):
    """Asked once; a second run with another beta and rate asks never, and trains as if it had asked."""
    fields["train"] |= {"num_steps": 3, "checkpoint_interval_steps": 3, "num_draws": 1, "reference_cache": "../errors"}
    first = trainable(finished, tmp_path / "first", fields)
    train(first.folder)
    kept = (tmp_path / "errors" / "errors.jsonl").read_bytes()
    assert len(kept.splitlines()) == 6  # two micro-batches a step
    fields["train"] |= {"beta": 300.0, "learning_rate": 2e-3, "objective": "ipo"}
    second = trainable(finished, tmp_path / "second", fields)
    train(second.folder)
    assert (tmp_path / "errors" / "errors.jsonl").read_bytes() == kept
    fields["train"]["reference_cache"] = None
    plain = trainable(finished, tmp_path / "plain", fields)
    train(plain.folder)
    torch.testing.assert_close(lora_of(second, 3), lora_of(plain, 3), rtol=0, atol=0)
    assert log_of(second) == log_of(plain)


def test_one_draw_a_pair_is_asked_once_over_epochs(finished, fields, tmp_path):
    """Of three passes over the pairs with two draws each, the third asks the reference nothing."""
    pairs = len(read_table(finished / "pairs.parquet", made_by="select"))
    fields["train"] |= {"num_steps": 3 * pairs, "checkpoint_interval_steps": 9, "batch_size": 1, "micro_batch_size": 1}
    fields["train"] |= {"num_draws": 2, "reference_cache": "errors", "warmup_steps": 0}
    run = trainable(finished, tmp_path / "run", fields)
    train(run.folder)
    asked = [json.loads(line)["draws"] for line in (run.folder / "errors" / "errors.jsonl").read_text().splitlines()]
    assert sorted(asked) == [[[pair, repetition]] for pair in range(pairs) for repetition in range(2)]


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
    arguments = ["run", recipe, "--quiet", "--output"]
    assert mpo(*arguments, whole) == 0
    fourth_step = Moment("open", "errors/errors.jsonl", 7)  # of two a step
    assert mpo(*arguments, killed, kill=(killed, fourth_step)) == -signal.SIGKILL
    assert len((killed / "training.jsonl").read_text().splitlines()) == 3
    assert mpo(*arguments, killed) == 0
    before, after = files_of(whole), files_of(killed)
    assert [name for name in before if before[name] != after[name]] == []
