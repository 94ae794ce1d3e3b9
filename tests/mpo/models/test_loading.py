from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPImageProcessor

from mpo import MpoError
from mpo.models.checks import check_model
from mpo.models.loading import ModelNotFoundError, load_pipeline
from mpo.recipe import Model, RecipeError, parse_recipe
from mpo.run import run_recipe
from mpo.runtime.hub import OfflineError
from tests.helpers.one_file import picture, save_as_one_file
from tests.helpers.pipelines import build_pipeline
from tests.helpers.recipes import TRAIN_PROMPTS


@pytest.fixture(scope="module")
def one_file(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("one") / "small.safetensors"
    save_as_one_file(build_pipeline(), file)
    return file


@pytest.fixture
def config_folder(model_folder, tmp_path) -> Path:
    """The pipeline's small files, without any weights."""
    for source in model_folder.rglob("*"):
        if source.is_file() and source.suffix != ".safetensors":
            target = tmp_path / "config" / source.relative_to(model_folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    return tmp_path / "config"


def test_one_file_gives_the_same_pictures_as_the_folder(one_file, config_folder, model_folder):
    of_file = load_pipeline(Model(path=str(one_file), config=str(config_folder)))
    of_folder = load_pipeline(Model(path=str(model_folder)))
    assert torch.equal(picture(of_file, TRAIN_PROMPTS[0]), picture(of_folder, TRAIN_PROMPTS[0]))


def test_parts_that_are_not_needed_are_not_loaded_from_one_file_either(one_file, config_folder):
    model = Model(path=str(one_file), config=str(config_folder), dtype="bfloat16")
    trained = load_pipeline(model, without=("text_encoders",))
    assert trained.text_encoder is None and trained.unet.dtype == torch.bfloat16  # noqa: PT018
    encoding = load_pipeline(model, without=("denoiser",))
    assert encoding.unet is None and encoding.text_encoder is not None  # noqa: PT018


def test_a_recipe_runs_on_one_file(one_file, config_folder, fields, tmp_path):
    """Through training: what sampling, encoding and the LoRA need is all there. 5 s."""
    fields["model"] = {"path": str(one_file), "config": str(config_folder)}
    run_recipe(
        parse_recipe(fields, source="small"),
        tmp_path / "run",
        stages=("generate", "score", "select", "encode", "train"),
    )
    assert (tmp_path / "run" / "trained.json").exists()


@pytest.mark.parametrize(
    ("section", "values", "words"),
    [
        ("model", {"sizes": [[36, 32]]}, "multiples of 8"),
        ("train", {"lora_targets": ["to_nothing"]}, r"lora_targets=\['to_nothing'\] cannot be adapted"),
        ("train", {"timestep_shift": 3.0}, "used by flow models alone"),
    ],
)
def test_small_files_are_checked_for_one_file_too(section, values, words, one_file, config_folder, fields):
    fields["model"] = {"path": str(one_file), "config": str(config_folder)}
    fields[section] |= values
    with pytest.raises(MpoError, match=words):
        check_model(parse_recipe(fields, source="small"))


def test_what_is_missing_without_a_config_is_said(one_file, fields):
    fields["model"] = {"path": str(one_file)}
    words = "looks like stable-diffusion-v1-5/stable-diffusion-v1-5, whose configuration is not in the local cache.*model.config"
    with pytest.raises(OfflineError, match=words):
        check_model(parse_recipe(fields, source="small"))


@pytest.mark.parametrize(
    ("path", "config", "words"),
    [
        ("absent.safetensors", None, r"model.path='absent.safetensors' does not exist"),
        ("half.safetensors", None, r"model.path='half.safetensors' is not a complete .safetensors file"),
        ("small.safetensors", "./nowhere", r"model.config='./nowhere' cannot be loaded .* diffusers pipeline"),
        ("small.safetensors", "nobody/nothing", r"model.config='nobody/nothing': the hub cannot be reached"),
    ],
)
def test_what_cannot_be_read_is_named(path, config, words, one_file, fields, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("small.safetensors").write_bytes(one_file.read_bytes())
    Path("half.safetensors").write_bytes(one_file.read_bytes()[:2000])
    fields["model"] = {"path": path, "config": config}
    with pytest.raises((ModelNotFoundError, OfflineError), match=words):
        check_model(parse_recipe(fields, source="small"))


def test_a_file_that_lacks_a_part_is_one_line(one_file, config_folder, tmp_path):
    """As with files of a network alone; the part comes from the configuration's folder if its weights are there."""
    weights = {name: value for name, value in load_file(one_file).items() if not name.startswith("cond_stage_model")}
    save_file(weights, tmp_path / "part.safetensors")
    with pytest.raises(MpoError, match=r"part\.safetensors.*weights that the file lacks") as error:
        load_pipeline(Model(path=str(tmp_path / "part.safetensors"), config=str(config_folder)))
    assert "\n" not in str(error.value)
    build_pipeline().save_pretrained(tmp_path / "whole")
    whole = Model(path=str(tmp_path / "part.safetensors"), config=str(tmp_path / "whole"))
    assert load_pipeline(whole).text_encoder is not None


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"path": "model.ckpt"}, "model.path='model.ckpt': a pickle can run any code.*convert it to .safetensors"),
        ({"path": "embedded", "config": "here"}, "config is used by a path to one .safetensors file alone"),
    ],
)
def test_pickles_and_unused_configs_are_refused(model, words, fields):
    fields["model"] = model
    with pytest.raises(RecipeError, match=words):
        parse_recipe(fields, source="small")


def test_no_safety_checker_paints_pictures_black(fields, tmp_path):
    """Beside a model whose checker objects to everything: diffusers' own pictures are black, ours are not."""
    small: dict[str, Any] = {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    }  # fmt: skip
    vision = {**small, "image_size": 32, "patch_size": 16}
    config = CLIPConfig(text_config=small, vision_config=vision, projection_dim=8)
    checker = StableDiffusionSafetyChecker(config)
    with torch.no_grad():
        checker.concept_embeds_weights.fill_(-2)  # every similarity is above it
    pipeline = build_pipeline()
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    pipeline.register_modules(safety_checker=checker, feature_extractor=CLIPImageProcessor(**size))
    pipeline.register_to_config(requires_safety_checker=True)
    black: Any = pipeline(TRAIN_PROMPTS[0], num_inference_steps=1)
    assert np.asarray(black.images[0]).max() == 0
    pipeline.save_pretrained(tmp_path / "model")
    fields["model"]["path"] = str(tmp_path / "model")
    loaded = load_pipeline(parse_recipe(fields, source="small").model)
    assert np.asarray(loaded(TRAIN_PROMPTS[0], num_inference_steps=1).images[0]).max() > 0
