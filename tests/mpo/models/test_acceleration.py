from collections import Counter

import pytest
import torch

from mpo import MpoError
from mpo.models.acceleration import set_up_acceleration
from mpo.models.families import denoiser_of
from mpo.models.loading import load_pipeline
from mpo.recipe import read_recipe
from mpo.stages.train import train
from tests.helpers.pipelines import build
from tests.helpers.recipes import (
    settings_of,
)
from tests.helpers.runs import trainable


def test_gradient_checkpointing_keeps_less(finished, fields):
    """What autograd keeps for the backward, counted."""
    kept = {}
    for on in (False, True):
        recipe = read_recipe(finished / "recipe.yaml")
        pipeline = load_pipeline(recipe.model)
        denoiser = denoiser_of(pipeline).train()
        if on:
            denoiser.enable_gradient_checkpointing()
        sizes: Counter = Counter()
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, sizes=sizes: sizes.update({t.untyped_storage()._cdata: t.untyped_storage().nbytes()}) or t,
            lambda t: t,
        ):
            denoiser(torch.ones(4, 4, 16, 16), torch.tensor([500] * 4), torch.ones(4, 24, 32))
        parameters = {p.untyped_storage()._cdata for p in denoiser.parameters()}
        kept[on] = sum(size for cdata, size in sizes.items() if cdata not in parameters)
    assert kept[True] < 0.5 * kept[False]


def test_xformers_is_used_or_named(finished, fields, tmp_path):
    fields["train"] |= {"num_steps": 1, "checkpoint_interval_steps": 1, "warmup_steps": 0, "attention": "xformers"}
    run = trainable(finished, tmp_path / "run", fields)
    if torch.cuda.is_available():
        train(run.folder)
    else:
        with pytest.raises(MpoError, match="attention='xformers' cannot be used here"):
            train(run.folder)


@pytest.mark.parametrize(("name", "processor"), [("sana", "SanaLinearAttnProcessor2_0"), ("qwen_image", "QwenDouble")])
def test_xformers_does_not_take_the_place_of_other_attention(name, processor):
    with pytest.raises(MpoError, match=f"cannot replace this model's .*{processor}"):
        set_up_acceleration(denoiser_of(build(name)), settings_of(attention="xformers"))
