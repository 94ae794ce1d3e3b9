"""The weights that ship."""

import json

import pytest
import torch

from mpo.data.prompts import read_prompts
from mpo.models import EMBEDDED
from mpo.models.loading import load_pipeline
from mpo.recipe import Model, PromptSource
from reward import VisionReward


@pytest.fixture(scope="module")
def pipeline():
    return load_pipeline(Model(path="embedded"))


def test_the_shipped_model_is_small_stock_and_documented(pipeline):
    assert type(pipeline).__name__ == "StableDiffusionPipeline"
    files = [p for p in EMBEDDED.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) <= 12e6
    assert {p.suffix for p in files} <= {".json", ".safetensors", ".md"}
    assert json.loads((EMBEDDED / "model_index.json").read_text())["safety_checker"] == [None, None]
    card = (EMBEDDED / "README.md").read_text()
    assert "mpo.embedded.train_base" in card


@torch.no_grad()
def test_pictures_show_what_was_asked(pipeline):
    """Far above chance: a picture bears out its own prompt much more often than another's."""
    prompts = read_prompts(PromptSource(path="prompts/shapes-heldout.txt"), field="prompts")[:32]
    images = pipeline(
        prompts, num_inference_steps=20, guidance_scale=1.0, generator=torch.Generator().manual_seed(0)
    ).images
    assert images[0].size == (64, 64)
    reward = VisionReward("measured", "image", questions=["alignment"])
    own = reward.score(images, prompts).p_yes[:, 0]
    other = reward.score(images, prompts[1:] + prompts[:1]).p_yes[:, 0]
    assert own.mean() > other.mean() + 0.25
    assert (own >= 0.5).mean() >= 0.3
