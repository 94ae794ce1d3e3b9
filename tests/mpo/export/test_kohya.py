from typing import Any

import pytest
import torch
from diffusers import FluxPipeline

from mpo import MpoError
from mpo.export import comfyui, kohya
from mpo.export.layers import LoraLayer
from tests.helpers.lora_readers import assert_same_changes, kohya_flux_map, load


def test_flux_in_kohyas_form_is_read_by_rule_and_by_diffusers():
    """At the published widths, which diffusers' reader has built in; queries, keys and values in one tensor."""
    generator = torch.Generator().manual_seed(0)
    rows = dict.fromkeys(
        (
            "attn.to_q",
            "attn.to_k",
            "attn.to_v",
            "attn.add_q_proj",
            "attn.add_k_proj",
            "attn.add_v_proj",
            "attn.to_out.0",
            "proj_out",
        ),
        3072,
    )
    rows |= {"proj_mlp": 12288, "ff.net.0.proj": 12288, "norm1.linear": 18432}
    names = [
        f"transformer_blocks.0.{n}" for n in rows if n.startswith("attn") or n in ("ff.net.0.proj", "norm1.linear")
    ]
    names += [
        f"single_transformer_blocks.1.{n}" for n in ("attn.to_q", "attn.to_v", "proj_mlp", "proj_out")
    ]  # no LoRA on to_k

    def num_outputs(name: str) -> int:
        return rows[name.split(".", 2)[2]]

    lora = {
        name: LoraLayer(torch.randn(2, 64, generator=generator), torch.randn(num_outputs(name), 2, generator=generator))
        for name in names
    }
    tensors = kohya.to_tensors(lora, "flux", num_outputs)
    outputs = {
        f"{block}.{i}.{n}": r
        for n, r in rows.items()
        for i in range(2)
        for block in ("transformer_blocks", "single_transformer_blocks")
    }
    found, left = load(tensors, kohya_flux_map(), outputs)
    assert not left
    assert_same_changes(found, {name: layer.delta for name, layer in lora.items()})
    read: Any = FluxPipeline.lora_state_dict(dict(tensors))
    for name, layer in lora.items():
        a, b = (read[f"transformer.{name}.lora_{end}.weight"] for end in "AB")
        torch.testing.assert_close(b @ a, layer.delta, rtol=1e-4, atol=1e-4)


def test_stable_diffusion_is_in_this_form_already():
    """sd-scripts names the layers as diffusers does, with underscores: one file serves ComfyUI, A1111 and Forge."""
    for family in ("stable_diffusion", "stable_diffusion_xl"):
        assert kohya.NAMINGS[family] == comfyui.NAMINGS[family]


@pytest.mark.parametrize("family", ["sana", "wan", "stable_diffusion_3"])
def test_families_without_this_form_are_refused(family):
    with pytest.raises(MpoError, match=f"have no {family} in this form; use --format=comfyui"):
        kohya.to_tensors({}, family, len)
