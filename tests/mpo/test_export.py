import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors import safe_open

from mpo.recipe import read_recipe
from mpo.store import Run, read_table


def test_stock_diffusers_makes_the_trainers_own_pictures(finished):
    """A LoRA whose alpha (8) differs from rank (4): a loader that took alpha = rank would give other pictures."""
    run, recipe = Run(finished), read_recipe(finished / "recipe.yaml")
    pipeline = StableDiffusionPipeline.from_pretrained(recipe.model.path)
    pipeline.set_progress_bar_config(disable=True)
    rows = [r for r in read_table(run.evaluation_table, made_by="evaluate").to_pylist() if r["model"] == "tuned"][:3]
    prompts = {r["prompt_id"]: r["prompt"] for r in read_table(run.heldout_prompts, made_by="run").to_pylist()}

    def sample() -> list[np.ndarray]:
        generators = [torch.Generator().manual_seed(row["seed"]) for row in rows]
        out = pipeline(
            [prompts[row["prompt_id"]] for row in rows], num_inference_steps=2, guidance_scale=1.0, generator=generators
        )
        return [np.asarray(image, dtype=int) for image in out.images]

    untuned = sample()
    pipeline.load_lora_weights(run.lora)
    loaded = sample()
    own = [np.asarray(Image.open(run.samples / row["file"]), dtype=int) for row in rows]
    for a, b, base in zip(loaded, own, untuned, strict=True):
        assert np.abs(a - b).max() <= 1  # a rounding of the last bit
        assert np.abs(a - base).max() > 1


def test_the_file_is_plain_safetensors_with_its_alpha(finished):
    with safe_open(str(Run(finished).lora_weights), framework="pt") as file:
        assert all(name.startswith("unet.") for name in file.keys())  # noqa: SIM118
        assert '"unet.lora_alpha": 8.0' in str(file.metadata())


def test_the_card_says_how_it_was_made_and_what_it_is_not(finished):
    card = (finished / "lora" / "README.md").read_text()
    assert card.startswith("---\n")
    for words in ("Diffusion-DPO", "win rate", "No person has rated it", "num_candidates: 4"):
        assert words in card
