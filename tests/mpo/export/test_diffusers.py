import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from mpo.export.diffusers import _sort_header
from mpo.models.loading import load_pipeline
from mpo.models.lora import add_lora, load_lora
from mpo.recipe import read_recipe
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import read_table
from mpo.training.checkpoints import final_lora


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
    load_lora(add_lora(own, recipe.train), final_lora(run))
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
