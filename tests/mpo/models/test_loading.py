from typing import Any

import numpy as np
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from transformers import CLIPConfig, CLIPImageProcessor

from mpo.models.loading import load_pipeline
from mpo.recipe import parse_recipe
from tests.helpers.pipelines import build_pipeline
from tests.helpers.recipes import (
    TRAIN_PROMPTS,
)


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
