import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file

from mpo import MpoError
from mpo.dependencies import fields_of
from mpo.export.convert import export_as, outputs_of
from mpo.models.families import FAMILIES, denoiser_of
from mpo.models.loading import load_pipeline
from mpo.models.lora import read_lora
from mpo.models.quantization import check_quantization, quantize
from mpo.recipe import Model, Quantization, parse_recipe, read_recipe
from mpo.run import run_recipe
from mpo.run_folder.paths import LORA_WEIGHTS, RunFolder
from mpo.training.checkpoint_files import result_file
from tests.helpers.gradients import ONE_EACH, lora_gradient
from tests.helpers.one_file import picture, save_as_one_file
from tests.helpers.pipelines import build_pipeline
from tests.helpers.recipes import TRAIN_PROMPTS, small_fields
from tests.helpers.runs import log_of

# 4 bits of random weights in blocks of two rows: real networks have wider ones.
SAME_WAY = {"8bit": 0.999, "4bit": 0.85}


def check_direction(name: str, how: str) -> None:
    def in_fewer_bits(pipeline: Any) -> None:
        texts = [part for key, part in pipeline.components.items() if key.startswith("text_encoder")]
        for network in (denoiser_of(pipeline), *texts):
            quantize(network, how, "cpu")

    whole, _ = lora_gradient(name)
    found, pipeline = lora_gradient(name, before=in_fewer_bits)
    assert found.dtype == torch.float32
    kinds = {type(layer).__name__ for layer in denoiser_of(pipeline).modules() if hasattr(layer, "lora_A")}
    assert kinds == {"Linear8bitLt" if how == "8bit" else "Linear4bit"}  # peft's own, which know how to add to such
    assert SAME_WAY[how] < torch.cosine_similarity(whole, found, dim=0) < 1 - 1e-8


def test_each_family_is_among_them():
    modules = {module.rpartition(".")[2] for module in FAMILIES.values()}
    assert {name.removesuffix("_5b") for name in ONE_EACH} == modules


@pytest.mark.parametrize(("name", "how"), [(name, ("4bit", "8bit")[k % 2]) for k, name in enumerate(ONE_EACH)])
def test_a_lora_on_fewer_bits_learns_in_the_same_direction(name, how):
    """On the family's own layers, all its networks in fewer bits. 15 s together: each family's code reads weights in its own way."""
    check_direction(name, how)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "how"), [(name, ("8bit", "4bit")[k % 2]) for k, name in enumerate(ONE_EACH)])
def test_in_the_other_number_of_bits_too(name, how):
    check_direction(name, how)


@pytest.fixture(scope="module")
def quantized(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run of the small recipe with 4 bits in the denoiser and 8 in the text encoder, in bfloat16."""
    folder = tmp_path_factory.mktemp("quantized")
    fields = small_fields(model_folder, folder)
    fields["model"] |= {"dtype": "bfloat16", "quantization": {"denoiser": "4bit", "text_encoders": "8bit"}}
    fields["train"] |= {"mixed_precision": "bf16", "gradient_checkpointing": True, "num_steps": 2}
    fields["generate"]["num_candidates"], fields["evaluate"]["num_seeds"] = 2, 1
    run_recipe(parse_recipe(fields, source="small"), folder / "run")
    return folder / "run"


def test_the_lora_of_a_quantized_run_is_like_any_other(quantized, finished, model_folder, tmp_path):
    """Equal names, shapes and precision; stock diffusers loads it on the whole model; merging goes into whole weights."""
    ours, usual = (load_file(folder / "lora" / LORA_WEIGHTS) for folder in (quantized, finished))
    described = [{name: (value.shape, value.dtype) for name, value in state.items()} for state in (ours, usual)]
    assert described[0] == described[1]
    assert log_of(RunFolder(quantized))[0]["loss"] == pytest.approx(np.log(2), abs=1e-3)  # the LoRA does nothing yet
    layers = outputs_of(load_pipeline(read_recipe(quantized / "recipe.yaml").model))  # in 4 bits
    whole = outputs_of(DiffusionPipeline.from_pretrained(model_folder, safety_checker=None))
    for name in {key.rpartition(".lora_")[0] for key in read_lora(result_file(RunFolder(quantized)))}:
        assert layers(name) == whole(name)
    stock = DiffusionPipeline.from_pretrained(model_folder, safety_checker=None)
    stock.set_progress_bar_config(disable=True)
    before = picture(stock, TRAIN_PROMPTS[0])
    whole = {name: value.clone() for name, value in stock.unet.state_dict().items()}
    stock.load_lora_weights(str(quantized / "lora"))
    tuned = picture(stock, TRAIN_PROMPTS[0])
    assert (tuned - before).abs().max() > 0
    export_as([quantized], "merged", tmp_path / "merged", dtype="float32")
    merged = DiffusionPipeline.from_pretrained(tmp_path / "merged", safety_checker=None)
    held = merged.unet.state_dict()
    assert {name: value.dtype for name, value in held.items()} == {name: value.dtype for name, value in whole.items()}
    untouched = [name for name in held if "attn" not in name]
    # The run's precision was bfloat16: whole weights rounded to it, and no trace of 4 bits.
    assert all(torch.equal(held[name], whole[name].bfloat16().float()) for name in untouched)
    merged.set_progress_bar_config(disable=True)
    torch.testing.assert_close(picture(merged, TRAIN_PROMPTS[0]), tuned, rtol=0.05, atol=0.05)


def test_fewer_bits_take_fewer_bytes_and_one_file_goes_the_folders_way(model_folder, tmp_path):
    save_as_one_file(build_pipeline(), tmp_path / "one.safetensors")
    both = Quantization(denoiser="4bit", text_encoders="4bit")
    folder = Model(path=str(model_folder), quantization=both)
    file = Model(path=str(tmp_path / "one.safetensors"), config=str(model_folder), quantization=both)
    whole, of_folder, of_file = (load_pipeline(model) for model in (folder.unquantized, folder, file))
    pictures = [picture(pipeline, TRAIN_PROMPTS[0]) for pipeline in (whole, of_folder, of_file)]
    assert torch.equal(pictures[1], pictures[2])
    assert not torch.equal(pictures[0], pictures[1])
    layers = [dict(pipeline.unet.named_modules()) for pipeline in (whole, of_folder)]
    linear = [name for name, layer in layers[0].items() if type(layer) is torch.nn.Linear]
    held = [sum(part[name].weight.untyped_storage().nbytes() for name in linear) for part in layers]
    assert held[1] == held[0] / 8  # of float32
    convolutions = [name for name, layer in layers[0].items() if isinstance(layer, torch.nn.Conv2d)]
    assert all(torch.equal(layers[0][name].weight, layers[1][name].weight) for name in convolutions)


@pytest.mark.parametrize("used", [False, True])
def test_a_network_leaves_with_all_of_its_weights(used):
    """Also what bitsandbytes holds beside the parameters in 8 bits: else an offloaded network would stay where it was, too."""
    network: Any = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.Linear(128, 64))
    x = torch.linspace(-1, 1, 128).view(2, 64)
    whole = network(x)
    quantize(network, "8bit", "cpu")
    before = network(x) if used else None
    network._apply(lambda tensor: tensor.clone())  # as `to` does, on the one device that is here
    for layer in network:
        holder: Any = layer.state if used else layer.weight
        assert holder.CB.data_ptr() == layer.weight.data_ptr()
    after = network(x)
    assert before is None or torch.equal(after, before)
    torch.testing.assert_close(after, whole, rtol=0.02, atol=0.02)


def test_a_stage_depends_on_the_bits_of_what_it_loads(fields):
    def differing(stage: str, **quantization: str) -> bool:
        changed = {**fields, "model": {**fields["model"], "quantization": quantization}}
        one, other = (parse_recipe(each, source="small") for each in (fields, changed))
        return fields_of(one, stage) != fields_of(other, stage)

    assert [differing(stage, denoiser="8bit") for stage in ("generate", "encode", "train", "evaluate")] == [
        True, False, True, True,
    ]  # fmt: skip
    assert [differing(stage, text_encoders="8bit") for stage in ("generate", "encode", "score")] == [True, True, False]


def test_without_bitsandbytes_it_is_refused(monkeypatch):
    model = Model(path="embedded", quantization=Quantization(text_encoders="4bit"))
    check_quantization(model)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MpoError, match=r"model\.quantization\.text_encoders='4bit' needs bitsandbytes; pip install"):
        check_quantization(model)
    check_quantization(model.unquantized)
