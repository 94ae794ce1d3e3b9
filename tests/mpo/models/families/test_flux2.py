import numpy as np
import pytest
import torch

from mpo.models.families import find_family, shift_mu
from mpo.models.lora import add_lora
from mpo.recipe import load_recipe
from tests.helpers.lora_readers import changes_of
from tests.helpers.pipelines import build, sample
from tests.helpers.recipes import TRAIN_PROMPTS


@pytest.mark.parametrize("name", ["flux2", "flux2_klein"])
def test_every_attention_has_a_lora(name):
    """Blocks of one stream hold theirs in layers that the feed-forward shares."""
    pipeline = build(name)
    add_lora(pipeline, load_recipe("quickstart").train.model_copy(update={"lora_targets": None}))
    double = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
    assert set(changes_of(pipeline)) == {
        *(f"transformer_blocks.0.attn.{layer}" for layer in double),
        *(f"single_transformer_blocks.0.attn.{layer}" for layer in ("to_qkv_mlp_proj", "to_out")),
    }


def test_the_shift_at_1024_pixels_by_hand():
    """4096 tokens: the pipeline's lines give 1.15000 at 200 steps and 2.25624 at 10; 50 lie 40/190 of the way from 10."""
    pipeline = build("flux2_klein")
    mu = shift_mu(find_family(pipeline), pipeline.scheduler, (128, 64, 64))
    assert mu == pytest.approx(2.25624 - (2.25624 - 1.15000) * 40 / 190, abs=1e-4)


def test_klein_without_distillation_takes_guidance():
    plain, guided = (sample(build("flux2_klein"), TRAIN_PROMPTS[:1], scale).images[0] for scale in (1.0, 4.0))
    assert np.abs(np.asarray(plain, dtype=int) - np.asarray(guided, dtype=int)).max() > 0


@torch.no_grad()
def test_dev_is_told_its_guidance():
    pipeline = build("flux2")
    family = find_family(pipeline)
    conditioning = family.encode_prompts(pipeline, TRAIN_PROMPTS[:1])
    inputs = (pipeline, torch.ones(1, 16, 8, 8), torch.tensor([500.0]))
    low, high = (family.predict(*inputs, {**conditioning, "guidance": torch.full((1,), scale)}) for scale in (1.0, 4.0))
    assert (low - high).abs().max() > 1e-4
