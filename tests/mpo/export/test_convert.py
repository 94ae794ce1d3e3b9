"""`mpo export` with a format: the files that users get, read by the stock library in the way that they would."""

import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline
from peft import PeftModel
from safetensors.torch import load_file, save_file

from mpo import MpoError
from mpo.export.convert import export_as
from mpo.models.families import denoiser_of
from mpo.recipe import read_recipe
from mpo.run_folder.paths import RunFolder
from tests.helpers.lora_readers import assert_same_changes, changes_of, comfyui_map, load
from tests.helpers.one_file import picture
from tests.helpers.processes import mpo


@pytest.fixture(scope="module")
def trained(finished):
    """The run's model with its LoRA, as stock diffusers loads it: alpha 8, rank 4."""
    pipeline = StableDiffusionPipeline.from_pretrained(read_recipe(finished / "recipe.yaml").model.path)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_lora_weights(str(RunFolder(finished).lora))
    return pipeline


def plain(finished) -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(read_recipe(finished / "recipe.yaml").model.path)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_the_run_holds_both_files_and_its_card_says_where_they_go(finished, trained):
    run = RunFolder(finished)
    tensors = load_file(run.lora / "small-comfyui.safetensors")
    unet = plain(finished).unet
    found, left = load(tensors, comfyui_map("stable_diffusion", unet), {})
    assert not left
    assert_same_changes(found, changes_of(trained))
    card = (run.lora / "README.md").read_text()
    assert "`small-comfyui.safetensors` is the same LoRA for ComfyUI" in card
    assert "<lora:small-comfyui:1>" in card


@pytest.mark.parametrize("form", ["comfyui", "kohya", "diffusers"])
def test_stock_diffusers_reads_each_form_with_the_same_effect(form, finished, trained, tmp_path):
    output = tmp_path / ("x" if form == "diffusers" else "x.safetensors")
    assert mpo("export", finished, "--format", form, "--output", output, "--strength", "0.5", "--dtype", "float16") == 0
    pipeline = plain(finished)
    if form == "diffusers":
        pipeline.load_lora_weights(str(output))
    else:
        pipeline.load_lora_weights(str(tmp_path), weight_name=output.name)
    expected = changes_of(trained)
    found = changes_of(pipeline)
    assert found.keys() == expected.keys()
    for name, change in expected.items():
        assert (found[name] - change / 2).norm() < 2e-3 * (change / 2).norm()
    file = next(tmp_path.rglob("*.safetensors"))
    assert {t.dtype for key, t in load_file(file).items() if not key.endswith(".alpha")} == {torch.float16}


def test_pefts_form_is_read_by_peft(finished, trained, tmp_path):
    export_as([finished], "peft", tmp_path / "x")
    model = PeftModel.from_pretrained(plain(finished).unet, str(tmp_path / "x"))
    found = {name.removeprefix("base_model.model."): change for name, change in changes_of(model).items()}
    assert_same_changes(found, changes_of(trained))


@torch.no_grad()
def test_a_merged_model_makes_the_tuned_pictures(finished, trained, tmp_path):
    export_as([finished], "merged", tmp_path / "folder")
    export_as([finished], "merged", tmp_path / "one.safetensors", dtype="float32")
    expected = picture(trained, "a red circle")
    for pipeline in (
        DiffusionPipeline.from_pretrained(tmp_path / "folder"),
        StableDiffusionPipeline.from_single_file(str(tmp_path / "one.safetensors"), config=str(tmp_path / "folder")),
    ):
        pipeline.set_progress_bar_config(disable=True)
        torch.testing.assert_close(picture(pipeline, "a red circle"), expected, rtol=1e-3, atol=1e-3)


def test_a_lora_made_elsewhere_takes_every_form(finished, trained, tmp_path):
    """From ComfyUI's form back to diffusers', and twice the file is twice the effect."""
    model = read_recipe(finished / "recipe.yaml").model.path
    other = RunFolder(finished).lora / "small-comfyui.safetensors"
    assert mpo("export", other, other, "--format", "diffusers", "--model", model, "--output", tmp_path / "x") == 0
    pipeline = plain(finished)
    pipeline.load_lora_weights(str(tmp_path / "x"))
    assert_same_changes(changes_of(pipeline), {name: 2 * change for name, change in changes_of(trained).items()})


@pytest.mark.parametrize("form", ["comfyui", "merged"])
def test_a_text_encoders_part_is_left_out_and_that_is_said(form, finished, tmp_path, capsys):
    model = read_recipe(finished / "recipe.yaml").model.path
    own = load_file(RunFolder(finished).lora / "small-comfyui.safetensors")
    name = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    width = plain(finished).text_encoder.config.hidden_size
    of_text = {f"{name}.lora_down.weight": torch.ones(2, width), f"{name}.lora_up.weight": torch.ones(width, 2)}
    of_text[f"{name}.alpha"] = torch.tensor(2.0)
    save_file(own | of_text, tmp_path / "both.safetensors")
    save_file(own, tmp_path / "alone.safetensors")
    save_file(of_text, tmp_path / "text.safetensors")
    for source in ("both", "alone"):
        export_as([tmp_path / f"{source}.safetensors"], form, tmp_path / f"{source}-out.safetensors", model=model)
    assert "both.safetensors has a part for text encoders (3 of " in capsys.readouterr().err
    outputs = [load_file(tmp_path / f"{source}-out.safetensors") for source in ("both", "alone")]
    assert outputs[0].keys() == outputs[1].keys()
    assert all(value.equal(outputs[1][key]) for key, value in outputs[0].items())
    with pytest.raises(MpoError, match="holds nothing for a denoiser"):
        export_as([tmp_path / "text.safetensors"], form, tmp_path / "none.safetensors", model=model)


@pytest.mark.parametrize("more", ["{}.dora_scale", "{}.lora_up.bias"])
def test_what_is_no_plain_lora_is_refused(more, finished, tmp_path):
    own = load_file(RunFolder(finished).lora / "small-comfyui.safetensors")
    layer = next(key for key in own if key.endswith(".alpha")).removesuffix(".alpha")
    save_file(own | {more.format(layer): torch.ones(4)}, tmp_path / "x.safetensors")
    model = read_recipe(finished / "recipe.yaml").model.path
    with pytest.raises(MpoError, match="of a DoRA or a LoRA with biases; only LoRAs of A and B can be exported"):
        export_as([tmp_path / "x.safetensors"], "peft", tmp_path / "y", model=model)


def test_a_smaller_rank_says_what_it_loses(finished, trained, tmp_path, capsys):
    export_as([finished], "comfyui", tmp_path / "x.safetensors", rank=2)
    tensors = load_file(tmp_path / "x.safetensors")
    assert {float(t) for key, t in tensors.items() if key.endswith(".alpha")} == {2.0}
    found, _ = load(tensors, comfyui_map("stable_diffusion", denoiser_of(plain(finished))), {})
    expected = changes_of(trained)
    lost = sum(float((found[n] - c).square().sum()) for n, c in expected.items())
    whole = sum(float(c.square().sum()) for c in expected.values())
    assert f"rank 2 keeps the LoRA but for {(lost / whole) ** 0.5:.2%}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RUN", "--format", "onnx"], "--format='onnx' is not known; formats: diffusers, comfyui"),
        (["RUN", "--format", "comfyui", "--output", "OUT/x"], "writes one file; end its name in .safetensors"),
        (["RUN", "--format", "peft", "--output", "OUT/x.safetensors"], "writes a folder; name one"),
        (["RUN", "--format", "comfyui", "--output", "RUN"], "exists; name another"),
        (["RUN", "--format", "comfyui", "--dtype", "int8"], "--dtype='int8' is not known"),
        (["RUN", "--rank", "2"], "--rank is for --format, which is not given"),
        (["RUN", "--format", "comfyui", "--redo"], "--repair and --redo are for a run's own stage"),
        (["OUT/nothing.safetensors", "--format", "kohya"], "is neither a run nor a file"),
        (["RUN/recipe.yaml", "--format", "kohya"], "does not say what model it is for; name it with --model"),
        (["OUT/nothing.safetensors", "--format", "kohya", "--model", "MODEL"], "is neither a run nor a file"),
        (["RUN/recipe.yaml", "--format", "kohya", "--model", "MODEL"], "is no LoRA that diffusers reads"),
    ],
)
def test_what_cannot_be_done_is_one_line(arguments, message, finished, tmp_path, capsys):
    model = read_recipe(finished / "recipe.yaml").model.path
    for word, value in {"RUN": str(finished), "OUT": str(tmp_path), "MODEL": model}.items():
        arguments = [argument.replace(word, value) for argument in arguments]
    assert mpo("export", *arguments) == 2
    lines = capsys.readouterr().out.strip().splitlines()
    assert message in lines[-1]
    assert not list(tmp_path.iterdir())
