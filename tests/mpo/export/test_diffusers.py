from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline
from peft.tuners.lora import LoraLayer
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mpo import MpoError
from mpo.export.diffusers import _sort_header, check_loads, write_lora
from mpo.models import EMBEDDED
from mpo.models.families import find_family
from mpo.models.loading import load_pipeline
from mpo.models.lora import add_lora, load_lora, lora_config, lora_state
from mpo.recipe import load_recipe, read_recipe
from mpo.run_folder.paths import LORA_WEIGHTS, RunFolder
from mpo.run_folder.tables import read_table
from mpo.training.checkpoint_files import result_file


@torch.no_grad()
def test_stock_diffusers_makes_the_trainers_own_pictures(finished):
    """A LoRA whose alpha (8) differs from its rank (4): a loader that took alpha = rank would give half its effect."""
    run, recipe = RunFolder(finished), read_recipe(finished / "recipe.yaml")
    pipeline = StableDiffusionPipeline.from_pretrained(recipe.model.path)
    pipeline.set_progress_bar_config(disable=True)
    inputs = (torch.ones(1, 4, 16, 16), torch.tensor([500]), torch.ones(1, 24, 32))
    base = pipeline.unet(*inputs).sample
    pipeline.load_lora_weights(str(run.lora))
    loaded = pipeline.unet(*inputs).sample

    own = load_pipeline(recipe.model)
    load_lora(add_lora(own, recipe.train), result_file(run))
    expected = own.unet(*inputs).sample
    effect = (expected - base).abs().max()
    assert effect > 1e-5
    assert (loaded - expected).abs().max() < 0.02 * effect

    rows = [r for r in read_table(run.evaluation_table, made_by="evaluate").to_pylist() if r["model"] == "tuned"][:3]
    prompts = {r["prompt_id"]: r["prompt"] for r in read_table(run.heldout_prompts, made_by="run").to_pylist()}
    generators = [torch.Generator().manual_seed(row["seed"]) for row in rows]
    texts = [prompts[row["prompt_id"]] for row in rows]
    images = pipeline(texts, num_inference_steps=2, guidance_scale=1.0, generator=generators).images
    for image, row in zip(images, rows, strict=True):
        kept = np.asarray(Image.open(run.samples / row["file"]), dtype=int)
        assert np.abs(np.asarray(image, dtype=int) - kept).max() <= 1  # a rounding of the last bit


QUICKSTART = load_recipe("quickstart")


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> tuple[Path, int]:
    """A LoRA with the quickstart's own targets, alpha unlike its rank, on the shipped model; and how many layers it has."""
    folder = tmp_path_factory.mktemp("lora")
    settings = QUICKSTART.train.model_copy(update={"rank": 4, "alpha": 12.0})
    pipeline = load_pipeline(QUICKSTART.model)
    denoiser = add_lora(pipeline, settings)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in denoiser.named_parameters():
        if "lora_B" in name:
            parameter.data = 0.05 * torch.randn(parameter.shape, generator=generator)
    config = lora_config(denoiser, find_family(pipeline), settings)
    write_lora(folder, pipeline, lora_state(denoiser), config)
    np.save(folder / "picture.npy", picture(pipeline))
    return folder, sum(isinstance(module, LoraLayer) for module in denoiser.modules())


def picture(pipeline) -> np.ndarray:
    generator = torch.Generator().manual_seed(1)
    return pipeline(["a red circle in a meadow"], num_inference_steps=4, generator=generator, output_type="np").images


def test_every_layer_of_the_quickstarts_own_targets_loads(exported):
    """Attention, convolutions and projections: 106 layers. In the form that had two kinds of keys, stock loaded 50."""
    folder, num_layers = exported
    assert num_layers == 106
    stock = DiffusionPipeline.from_pretrained(EMBEDDED).to(torch.float32)
    stock.set_progress_bar_config(disable=True)
    base = picture(stock)
    stock.load_lora_weights(str(folder))
    assert sum(isinstance(module, LoraLayer) for module in stock.unet.modules()) == num_layers
    trained = np.load(folder / "picture.npy")
    assert np.abs(trained - base).max() > 0.01
    np.testing.assert_allclose(picture(stock), trained, atol=1e-4)


@pytest.mark.filterwarnings("ignore:While injecting the PEFT adapters")  # the warning that users would overlook
@pytest.mark.parametrize("damage", ["a layer is lost", "a value is changed", "alpha is lost"])
def test_a_file_that_does_not_load_back_is_refused(damage, exported, tmp_path):
    folder, _ = exported
    state, metadata = load_file(folder / LORA_WEIGHTS), {}
    with safe_open(str(folder / LORA_WEIGHTS), framework="pt") as file:
        metadata = dict(file.metadata())
    trained = {key.removeprefix("unet."): value.clone() for key, value in state.items()}
    key = next(key for key in state if "conv1" in key and "lora_B" in key)
    if damage == "a layer is lost":
        state = {name: value for name, value in state.items() if key.rpartition(".lora_")[0] not in name}
    elif damage == "a value is changed":
        state[key][0] += 1
    else:
        metadata = {"format": "pt"}
    save_file(state, tmp_path / LORA_WEIGHTS, metadata=metadata)
    with pytest.raises(MpoError, match="does not load back as trained"):
        check_loads(tmp_path, load_pipeline(QUICKSTART.model), trained, 3.0)


def test_the_file_is_plain_safetensors_with_its_alpha(finished):
    with safe_open(str(RunFolder(finished).lora_weights), framework="pt") as file:
        assert all(name.startswith("unet.") for name in file.keys())  # noqa: SIM118
        assert '"unet.lora_alpha": 8.0' in str(file.metadata())


def test_metadata_order_does_not_reach_the_bytes(tmp_path):
    tensors = {"b": torch.ones(3), "a": torch.zeros(2, 2)}
    metadata = {str(k): "v" for k in range(12)}  # written in an order that differs from save to save
    files = [tmp_path / str(k) for k in range(8)]
    for file in files:
        save_file(tensors, file, metadata=metadata)
        _sort_header(file)
    assert len({file.read_bytes() for file in files}) == 1
    with safe_open(str(files[0]), framework="pt") as file:
        assert file.metadata() == metadata
        torch.testing.assert_close(file.get_tensor("b"), tensors["b"])
