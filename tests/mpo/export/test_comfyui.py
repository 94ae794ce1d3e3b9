"""What is written is read by rules that stand in `tests/helpers/lora_readers.py`, and where diffusers reads it, by diffusers."""

from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mpo import MpoError
from mpo.export import comfyui
from mpo.export.convert import outputs_of
from mpo.export.layers import LoraLayer, from_peft
from mpo.models.families import denoiser_of, family_name
from tests.helpers.lora_readers import (
    CLIPS,
    MORE_TARGETS,
    PICTURES,
    assert_same_changes,
    build_any,
    changes_of,
    comfyui_map,
    load,
    tuned,
)
from tests.helpers.pipelines import sample
from tests.helpers.recipes import TRAIN_PROMPTS
from tests.helpers.video_pipelines import VIDEO_BUILDERS, sample_clips

CASES = [(name, None) for name in (*PICTURES, *CLIPS)] + list(MORE_TARGETS.items())


@pytest.mark.parametrize(("name", "targets"), CASES)
def test_comfyui_finds_every_tensor_and_changes_the_weights_as_training_did(name, targets):
    pipeline, state = tuned(name, targets)
    family = family_name(pipeline)
    tensors = comfyui.to_tensors(from_peft(state, 6 / 4), family, outputs_of(pipeline))
    expected = changes_of(pipeline)
    assert len(expected) == len(state) // 2 > 3
    plain = build_any(name)
    outputs = {
        n: m.weight.shape[0]
        for n, m in denoiser_of(plain).named_modules()
        if hasattr(m, "weight") and m.weight is not None
    }
    found, left = load(tensors, comfyui_map(family, denoiser_of(plain)), outputs)
    assert not left
    assert_same_changes(found, expected)


@pytest.mark.parametrize(
    "name",
    [
        "stable_diffusion",
        "stable_diffusion_xl",
        "stable_diffusion_3",
        "flux",
        "flux2",
        "flux2_klein",
        "qwen_image",
        "qwen_image_21",
        "z_image",
        "chroma",
        "hidream_image",
        "wan",
        "ltx",
    ],
)
@torch.no_grad()
def test_diffusers_reads_the_same_file(name, tmp_path):
    """Where its loader knows the form: the same layers, the same changes, the same picture or clip."""
    pipeline, state = tuned(name, MORE_TARGETS.get(name) if name in PICTURES[:2] else None)
    family = family_name(pipeline)
    save_file(comfyui.to_tensors(from_peft(state, 6 / 4), family, outputs_of(pipeline)), tmp_path / "other.safetensors")
    stock = build_any(name)
    stock.load_lora_weights(str(tmp_path), weight_name="other.safetensors")
    assert_same_changes(changes_of(stock), changes_of(pipeline))
    tuned_sample, stock_sample, base_sample = (sample_of(name, p) for p in (pipeline, stock, build_any(name)))
    effect = (tuned_sample - base_sample).abs().max()
    assert effect > 1e-3
    assert (tuned_sample - stock_sample).abs().max() < 1e-3 * effect


def sample_of(name: str, pipeline: Any) -> torch.Tensor:
    """A picture or clip, before it is decoded and rounded."""
    if name in PICTURES:
        return sample(pipeline, TRAIN_PROMPTS[:1], output_type="latent").images
    return sample_clips(pipeline, TRAIN_PROMPTS[:1], VIDEO_BUILDERS[name].sizes[0], output_type="latent")


@pytest.mark.parametrize(
    ("family", "words"),
    [("sana", "core has no Sana"), ("cogview4", "no CogView 4"), ("animatediff", "no motion modules")],
)
def test_families_that_comfyui_lacks_are_refused(family, words):
    with pytest.raises(MpoError, match=words):
        comfyui.to_tensors({}, family, len)


def test_a_layer_without_a_name_is_refused():
    layer = LoraLayer(torch.ones(2, 4), torch.ones(4, 2))
    with pytest.raises(MpoError, match=r"ComfyUI has no name for the layer 'single_stream_modulation\.linear'"):
        comfyui.to_tensors({"single_stream_modulation.linear": layer}, "flux2", len)
    with pytest.raises(MpoError, match=r"ComfyUI has no name for the layer 'patch_embed\.proj'"):
        comfyui.to_tensors({"patch_embed.proj": layer}, "cogvideox", len)


def test_a_file_that_does_not_read_back_is_refused(tmp_path):
    pipeline, state = tuned("stable_diffusion")
    tensors = comfyui.to_tensors(from_peft(state, 1.5), "stable_diffusion", outputs_of(pipeline))
    file = tmp_path / "x.safetensors"
    save_file(tensors, file)
    assert comfyui.check_reads(file, tensors) == len(state) // 2
    damaged = load_file(file)
    damaged[next(key for key in damaged if key.endswith(".alpha"))] *= 2
    save_file(damaged, file)
    with pytest.raises(MpoError, match="does not read back"):
        comfyui.check_reads(file, tensors)
