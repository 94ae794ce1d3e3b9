from pathlib import Path

import pytest
import torch

from mpo import MpoError
from mpo.models.loading import load_pipeline
from mpo.models.lora import add_lora, load_lora, lora_off
from mpo.recipe import parse_recipe, read_recipe
from mpo.run import run_recipe
from mpo.run_folder.paths import RunFolder


def test_reference_is_the_network_without_lora(finished: Path):
    recipe = read_recipe(finished / "recipe.yaml")
    plain, tuned = load_pipeline(recipe.model), load_pipeline(recipe.model)
    denoiser = add_lora(tuned, recipe.train)
    inputs = (torch.ones(1, 4, 16, 16), torch.tensor([500]), torch.ones(1, 24, 32))
    with torch.no_grad():
        base = plain.unet(*inputs).sample
        torch.testing.assert_close(denoiser(*inputs).sample, base, rtol=0, atol=0)  # B = 0
        load_lora(denoiser, RunFolder(finished).checkpoints / "step-000006" / "lora.safetensors")
        assert (denoiser(*inputs).sample - base).abs().max() > 1e-6
    with lora_off(denoiser):
        torch.testing.assert_close(denoiser(*inputs).sample, base, rtol=0, atol=0)
    names = {name for name, p in denoiser.named_parameters() if p.requires_grad}
    assert names
    assert all("lora" in name for name in names)


def test_targets_that_do_not_exist_are_named(fields, tmp_path):
    fields["train"]["lora_targets"] = ["to_nothing"]
    with pytest.raises(MpoError, match=r"lora_targets=\['to_nothing'\] cannot be adapted"):
        run_recipe(parse_recipe(fields, source="small"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
