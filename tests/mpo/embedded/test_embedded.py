import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mpo.data.prompts import read_prompts
from mpo.embedded.scenes import Defects, caption, paint, sample_defects, sample_scene
from mpo.models import EMBEDDED
from mpo.models.loading import load_pipeline
from mpo.recipe import Model, PromptSource
from reward import VisionReward
from reward.judges.depiction import parse


@pytest.fixture(scope="module")
def pipeline():
    return load_pipeline(Model(path="embedded"))


def test_scenes_are_reproducible_and_of_mixed_quality():
    def scenes():
        rng = np.random.default_rng(7)
        drawn = []
        for _ in range(60):
            scene, defects = sample_scene(rng), sample_defects(rng)
            drawn.append((caption(scene), defects, np.asarray(paint(scene, defects, rng))))
        return drawn

    for (a, da, pa), (b, db, pb) in zip(scenes(), scenes(), strict=True):
        assert (a, da) == (b, db)
        np.testing.assert_array_equal(pa, pb)
    without = sum(defects.is_none for _, defects, _ in scenes())
    assert 12 <= without <= 36
    assert Defects().is_none


def test_the_shipped_model_is_small_stock_and_documented(pipeline):
    assert type(pipeline).__name__ == "StableDiffusionPipeline"
    files = [p for p in EMBEDDED.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) <= 12e6
    assert {p.suffix for p in files} <= {".json", ".safetensors", ".md"}
    assert json.loads((EMBEDDED / "model_index.json").read_text())["safety_checker"] == [None, None]
    card = (EMBEDDED / "README.md").read_text()
    assert "mpo.embedded.train_base" in card


def test_prompts_are_single_tokens_a_word(pipeline):
    for file in ("prompts/shapes-train.txt", "prompts/shapes-heldout.txt"):
        for prompt in read_prompts(PromptSource(path=file), field="prompts"):
            parse(prompt)
            tokens = pipeline.tokenizer(prompt).input_ids
            assert len(tokens) == len(prompt.split()) + 2 <= 24


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


def test_the_training_script_runs_end_to_end(tmp_path, monkeypatch):
    """In the small: the script that made the weights still makes a pipeline that loads."""
    from mpo.embedded import train_base

    small = train_base.BaseTraining(num_scenes=250, autoencoder_steps=2, denoiser_steps=2, denoiser_batch=4)
    train_base.train(small, Path(tmp_path) / "model", log=lambda **event: None)
    made = load_pipeline(Model(path=str(tmp_path / "model")))
    assert made("a red circle", num_inference_steps=1).images[0].size == (64, 64)
