"""What training sees, and in which order."""

from collections import Counter

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st

from mpo import MpoError
from mpo.data.encoded import EncodedPairs, read_pairs
from mpo.models.families import find_family
from mpo.models.loading import load_pipeline
from mpo.recipe import parse_recipe, read_recipe
from mpo.run import run_recipe
from mpo.run_folder.paths import RunFolder
from mpo.stages.train import train
from mpo.training.batches import Batches, draw_noise, micro_batch_size, stream
from tests.helpers.pipelines import build
from tests.helpers.recipes import settings_of, small_fields
from tests.helpers.runs import log_of, lora_of, trainable

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
    family, pairs = find_family(pipeline), read_pairs(run)
    draws = stream(0, len(pairs), 0, 2)
    batch = Batches(pipeline, family, pairs, encoded, recipe.train, torch.device("cpu")).batch(draws)
    noise, timesteps = zip(
        *(draw_noise(recipe.train, d, batch.noisy.shape[1:], pipeline.scheduler) for d in draws * 2), strict=True
    )
    ids = [int(side[d.pair]) for side in (pairs.chosen, pairs.rejected) for d in draws]
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


def test_sizes_are_trained_together_in_one_step(model_folder, tmp_path):
    """Two aspect ratios: batches hold one shape each, every draw is taken once, the loss is that of single pairs."""
    fields = small_fields(model_folder, tmp_path)
    fields["model"]["sizes"] = [[32, 32], [48, 32]]
    fields["train"] |= {"num_steps": 2, "checkpoint_interval_steps": 2, "batch_size": 6, "micro_batch_size": 3}
    run_recipe(parse_recipe(fields, source="small"), tmp_path / "run")
    run, recipe = RunFolder(tmp_path / "run"), read_recipe(tmp_path / "run" / "recipe.yaml")
    pairs, encoded = read_pairs(run), EncodedPairs(run)
    shapes = {encoded.shape(i) for i in pairs.chosen}
    assert shapes == {(4, 16, 16), (4, 16, 24)}
    assert [encoded.shape(i) for i in pairs.chosen] == [encoded.shape(i) for i in pairs.rejected]
    pipeline = load_pipeline(recipe.model)
    batches = Batches(pipeline, find_family(pipeline), pairs, encoded, recipe.train, torch.device("cpu"))
    draws = batches.of_step(0)
    from mpo.training.batches import stream

    assert Counter(draws) == Counter(stream(0, len(pairs), 0, 6))
    groups = batches.alike(draws)
    assert len(groups) == len({encoded.shape(pairs.chosen[d.pair]) for d in draws})
    assert [d for group in groups for d in group] == draws
    assert log_of(run)[0]["loss"] == pytest.approx(np.log(2), abs=1e-3)

    fields["train"]["micro_batch_size"] = 1
    single = trainable(run.folder, tmp_path / "single", fields)
    train(single.folder)
    torch.testing.assert_close(lora_of(single, 2), lora_of(run, 2), rtol=1e-2, atol=1e-4)


def test_batches_that_cannot_be_dealt_out_are_named():
    assert micro_batch_size(settings_of(batch_size=8), 4) == 2
    assert micro_batch_size(settings_of(batch_size=8, micro_batch_size=1), 4) == 1
    with pytest.raises(MpoError, match=r"batch_size=8 is not a multiple of 1 pairs x 16 processes"):
        micro_batch_size(settings_of(batch_size=8), 16)
