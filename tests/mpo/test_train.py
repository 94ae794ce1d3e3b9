import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from mpo import MpoError
from mpo.data.encoded import EncodedPairs
from mpo.models.families import find_family
from mpo.models.loading import load_pipeline
from mpo.models.lora import add_lora, load_lora, lora_off, lora_state
from mpo.recipe import Train, dump_recipe, parse_recipe, read_recipe
from mpo.run import run_recipe, run_stage
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import read_table
from mpo.stages.train import train
from mpo.training.batches import Batches, draw_noise, stream
from mpo.training.objectives import denoising_error, diffusion_dpo
from tests.conftest import small_fields
from tests.mpo.families.pipelines import build

DDPM = DDPMScheduler()


@given(st.integers(0, 9), st.integers(1, 40), st.integers(0, 200), st.integers(1, 60))
def test_the_stream_does_not_depend_on_how_it_is_cut(seed, num_pairs, position, count):
    whole = stream(seed, num_pairs, position, count)
    assert whole == [stream(seed, num_pairs, position + k, 1)[0] for k in range(count)]


@given(st.integers(0, 9), st.integers(1, 40), st.integers(0, 5))
def test_every_epoch_passes_every_pair_once(seed, num_pairs, epoch):
    draws = stream(seed, num_pairs, epoch * num_pairs, num_pairs)
    assert sorted(draw.pair for draw in draws) == list(range(num_pairs))
    assert {draw.repetition for draw in draws} == {epoch}


def test_noise_depends_on_seed_pair_and_repetition_alone():
    draws = stream(0, 5, 0, 10)
    noises = [draw_noise(settings_of(), draw, (4, 2, 2), DDPM) for draw in draws]
    again = draw_noise(settings_of(), draws[3], (4, 2, 2), DDPM)
    torch.testing.assert_close(again[0], noises[3][0], rtol=0, atol=0)
    assert again[1] == noises[3][1]
    assert len({float(noise.sum()) for noise, _ in noises}) == 10
    assert draw_noise(settings_of(seed=1), draws[3], (4, 2, 2), DDPM)[1] != again[1]


def settings_of(**changes: Any) -> Train:
    fields = {
        "beta": 1.0,
        "learning_rate": 1e-3,
        "num_steps": 1,
        "batch_size": 1,
        "rank": 1,
        "alpha": 1.0,
        "checkpoint_interval_steps": 1,
    }
    return Train.model_validate(fields | changes)


@pytest.mark.parametrize("sampling", ["uniform", "logit_normal"])
@given(low=st.floats(0, 0.9), width=st.floats(0.01, 1))
def test_timesteps_stay_within_their_range(sampling, low, width):
    high = min(low + width, 1.0)
    settings = settings_of(timestep_sampling=sampling, timestep_range=[low, high])
    steps = [draw_noise(settings, draw, (1,), DDPM)[1] for draw in stream(0, 5, 0, 20)]
    assert min(steps) >= round(1000 * low) or min(steps) == 999
    assert max(steps) < max(round(1000 * high), round(1000 * low) + 1)


@pytest.mark.parametrize("name", ["stable_diffusion", "stable_diffusion_v", "stable_diffusion_3"])
def test_half_precision_models_see_noise_of_full_precision(name, tmp_path):
    """At the schedule's clean end bfloat16's arithmetic would add no noise at all: 0.99915 is 1 there."""
    build(name).save_pretrained(tmp_path / "model")
    fields = small_fields(tmp_path / "model", tmp_path)
    fields["model"] |= {"dtype": "bfloat16", "sizes": [[32, 32]]}
    fields["train"] |= {"timestep_range": [0.0, 0.003]}
    run_recipe(parse_recipe(fields, source="small"), tmp_path / "run", stages=("generate", "score", "select", "encode"))
    run, recipe = RunFolder(tmp_path / "run"), read_recipe(tmp_path / "run" / "recipe.yaml")
    pipeline, encoded = load_pipeline(recipe.model), EncodedPairs(run)
    family, pairs = find_family(pipeline), read_table(run.pairs, made_by="select").to_pylist()
    draws = stream(0, len(pairs), 0, 2)
    batch = Batches(pipeline, family, pairs, encoded, recipe.train, torch.device("cpu")).batch(draws)
    noise, timesteps = zip(
        *(draw_noise(recipe.train, d, batch.noisy.shape[1:], pipeline.scheduler) for d in draws * 2), strict=True
    )
    ids = [pairs[d.pair][side] for side in ("chosen_id", "rejected_id") for d in draws]
    noisy, target = family.add_noise(
        pipeline, encoded.latents(ids).double(), torch.stack(noise).double(), torch.tensor(timesteps)
    )
    assert batch.noisy.dtype == torch.bfloat16
    torch.testing.assert_close(batch.noisy.double(), noisy, rtol=2**-8, atol=1e-5)
    torch.testing.assert_close(batch.target.double(), target, rtol=1e-6, atol=1e-6)


def test_logit_normal_timesteps_have_its_median_and_spread():
    settings = settings_of(timestep_sampling="logit_normal", timestep_mean=-1.0, timestep_std=0.5)
    steps = np.array([draw_noise(settings, draw, (1,), DDPM)[1] for draw in stream(0, 7, 0, 600)])
    assert np.median(steps) == pytest.approx(1000 / (1 + np.e), abs=20)
    inside = 1000 / (1 + np.exp(1 - 0.5 * np.array([-1, 1])))
    assert ((steps > inside[0]) & (steps < inside[1])).mean() == pytest.approx(0.683, abs=0.05)


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
    run = RunFolder(tmp_path / "run")
    shutil.copytree(
        finished, run.folder, ignore=shutil.ignore_patterns("checkpoints", "train*.json*", "lora", "evaluation")
    )
    run.recipe.write_text(dump_recipe(parse_recipe(fields, source="small")), "utf-8")
    train(run.folder)
    log = [json.loads(line) for line in run.training_log.read_text().splitlines()]
    first = log[0]
    start = {"ipo": 0.25, "hinge": 1.0}.get(changes.get("objective", "dpo"), np.log(2))
    if changes.get("objective") == "mapo":
        assert first["loss"] > first["chosen_error"]
    else:
        assert first["loss"] == pytest.approx(start + changes.get("sft_weight", 0.0) * first["chosen_error"], abs=2e-3)
    assert all(np.isfinite(list(entry.values())).all() for entry in log)
    lora = load_file(run.checkpoints / "step-000003" / "lora.safetensors")
    assert all(tensor.abs().max() > 0 for name, tensor in lora.items() if "lora_B" in name)


def test_the_reference_is_not_asked_where_it_is_not_needed(finished: Path, fields, tmp_path, monkeypatch):
    fields["train"] |= {
        "num_steps": 1,
        "checkpoint_interval_steps": 1,
        "warmup_steps": 0,
        "objective": "mapo",
        "beta": 0.1,
    }
    run = RunFolder(tmp_path / "run")
    shutil.copytree(
        finished, run.folder, ignore=shutil.ignore_patterns("checkpoints", "train*.json*", "lora", "evaluation")
    )
    run.recipe.write_text(dump_recipe(parse_recipe(fields, source="small")), "utf-8")
    monkeypatch.setattr("mpo.stages.train.lora_off", lambda _: pytest.fail("MaPO has no reference"))
    train(run.folder)


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
    assert log[-1]["margin"] > log[0]["margin"]
    assert log[-1]["loss"] < np.log(2)
    assert all(entry["grad_norm"] > 0 for entry in log)


def test_reference_is_the_network_without_lora(finished: Path):
    recipe = read_recipe(finished / "recipe.yaml")
    plain, tuned = load_pipeline(recipe.model), load_pipeline(recipe.model)
    denoiser = add_lora(tuned, recipe.train)
    inputs = (torch.ones(1, 4, 16, 16), torch.tensor([500]), torch.ones(1, 24, 32))
    with torch.no_grad():
        base = plain.unet(*inputs).sample
        torch.testing.assert_close(denoiser(*inputs).sample, base, rtol=0, atol=0)  # B = 0
        load_lora(denoiser, RunFolder(finished).checkpoints / "step-000006" / "lora.safetensors")
        assert (denoiser(*inputs).sample - base).abs().max() > 1e-6
    with lora_off(denoiser):
        torch.testing.assert_close(denoiser(*inputs).sample, base, rtol=0, atol=0)
    names = {name for name, p in denoiser.named_parameters() if p.requires_grad}
    assert names
    assert all("lora" in name for name in names)


def test_accumulation_changes_nothing_but_rounding(finished: Path, fields, tmp_path):
    fields["train"]["micro_batch_size"] = 4
    run_recipe(
        parse_recipe(fields, source="small"),
        tmp_path / "run",
        stages=("generate", "score", "select", "encode", "train"),
    )
    states = [torch.cat([t.flatten() for t in _state(folder).values()]) for folder in (finished, tmp_path / "run")]
    torch.testing.assert_close(states[0], states[1], rtol=1e-2, atol=2e-4)


def _state(folder: Path) -> dict[str, torch.Tensor]:
    recipe = read_recipe(folder / "recipe.yaml")
    denoiser = add_lora(load_pipeline(recipe.model), recipe.train)
    load_lora(denoiser, RunFolder(folder).checkpoints / "step-000006" / "lora.safetensors")
    return lora_state(denoiser)


def test_a_loss_that_is_not_finite_stops_before_the_step(fields, tmp_path, monkeypatch):
    run_recipe(parse_recipe(fields, source="small"), tmp_path / "run", stages=("generate", "score", "select", "encode"))
    monkeypatch.setattr(
        "mpo.stages.train.denoising_error", lambda prediction, target: prediction.flatten(1).mean(dim=1) * torch.nan
    )
    with pytest.raises(MpoError, match=r"loss is nan at step 0 \(pairs .*lower train.learning_rate"):
        run_stage(tmp_path / "run", "train")
    assert not list((tmp_path / "run" / "checkpoints").glob("step-*"))


def test_targets_that_do_not_exist_are_named(fields, tmp_path):
    fields["train"]["lora_targets"] = ["to_nothing"]
    with pytest.raises(MpoError, match=r"lora_targets=\['to_nothing'\] cannot be adapted"):
        run_recipe(parse_recipe(fields, source="small"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
