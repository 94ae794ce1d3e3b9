"""What is computed of a model's memory, by hand, and against training steps that are measured."""

from typing import Any

import pytest

from benchmarks.step_memory import SHAPES, compare
from mpo.planning.memory import Memory, model_costs
from mpo.recipe import load_recipe
from mpo.sizes import parse_size

FLUX = model_costs()["models"]["black-forest-labs/FLUX.1-dev"]


def memory(*settings: str) -> Any:
    entry = {**FLUX, "trained_millions": 100.0}
    return Memory(load_recipe("flux-dev", list(settings)), entry, parse_size(FLUX["size"]))


@pytest.mark.parametrize(
    "name", [name if "FLUX" in name else pytest.param(name, marks=pytest.mark.slow) for name in SHAPES]
)
def test_a_steps_memory_is_within_15_percent_of_what_is_measured(name):
    """Real layers with random weights, with and without gradient checkpointing. Seconds: what `--fit` promises rests on it."""
    for kind, computed, measured in compare(name):
        assert computed == pytest.approx(measured, rel=0.15), kind


def test_fewer_bits_by_hand():
    """Linear weights at 1 byte, or half a byte and a scale of 1 byte for 64, which has 4 bytes for 256 of its own."""
    whole, eight, four = (
        memory(*settings).weights("denoiser")
        for settings in ((), ["model.quantization.denoiser=8bit"], ["model.quantization.denoiser=4bit"])
    )
    linear, all_ = FLUX["quantizable"]["denoiser"]["8bit"], FLUX["parameters"]["denoiser"]
    assert whole == pytest.approx(all_ * 2e-3)
    assert eight == pytest.approx((linear * 1 + (all_ - linear) * 2) * 1e-3)
    assert four == pytest.approx((linear * (0.5 + 1 / 64 + 4 / 64 / 256) + (all_ - linear) * 2) * 1e-3)
    texts = memory("model.quantization.text_encoders=8bit")
    assert texts.weights("denoiser") == whole
    assert texts.weights("text_encoders") < 0.7 * memory().weights("text_encoders")


def test_what_waits_is_not_held_by_hand():
    """FLUX.1 in bfloat16, one candidate at a time without guidance beside it: the largest of three phases."""
    sampling = {"generate.batch_size": 1}
    settings = [f"{name}={value}" for name, value in sampling.items()]
    there, networks = (memory(*settings, *extra).sampling(load_recipe("flux-dev", settings).generate) for extra in (
        (), ["model.offload=networks"],
    ))  # fmt: skip
    p, kept = FLUX["parameters"], FLUX["activations_gb"]
    decoding = FLUX["autoencoder"]["decode_gb"]
    assert there == pytest.approx(sum(p.values()) * 2e-3 + max(kept["sampling"], decoding))
    assert networks == pytest.approx(p["denoiser"] * 2e-3 + kept["sampling"])
    blocks = memory(*settings, "model.offload=blocks").sampling(load_recipe("flux-dev", settings).generate)
    outside = p["denoiser"] - FLUX["blocks"]["all"] + FLUX["blocks"]["largest"]
    text = FLUX["largest_text_encoder"] * 2e-3
    assert blocks == pytest.approx(max(outside * 2e-3 + kept["sampling"], text))


def test_a_judge_has_the_gpu_to_itself_where_networks_wait():
    beside = memory().validation(10.0)["when the judge validates"] - memory().trained()
    alone = memory("model.offload=networks").validation(10.0)["when the judge validates"] - memory().trained()
    assert alone == pytest.approx(10.0)
    assert beside == pytest.approx(10.0 + sum(FLUX["parameters"].values()) * 2e-3)
