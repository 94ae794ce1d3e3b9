import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline

from mpo import MpoError
from mpo.export.layers import LoraLayer, from_peft
from mpo.export.merged import check_one_file, merge, write_one_file
from mpo.models.families import denoiser_of
from tests.helpers.lora_readers import tuned
from tests.helpers.one_file import picture
from tests.helpers.pipelines import build

PROMPT = "a red circle"


@pytest.mark.parametrize(
    ("name", "cls"), [("stable_diffusion", StableDiffusionPipeline), ("stable_diffusion_xl", StableDiffusionXLPipeline)]
)
@torch.no_grad()
def test_one_file_makes_the_pictures_of_model_and_lora(name, cls, tmp_path):
    """Read by diffusers' own reader of the authors' layout, with the configuration beside it."""
    pipeline, state = tuned(name)
    expected = picture(pipeline, PROMPT)
    plain = build(name)
    assert (picture(plain, PROMPT) - expected).abs().max() > 1e-3
    merge(plain, from_peft(state, 6 / 4))
    plain.save_pretrained(tmp_path / "folder")
    write_one_file(tmp_path / "one.safetensors", plain)
    for merged in (
        DiffusionPipeline.from_pretrained(tmp_path / "folder"),
        cls.from_single_file(str(tmp_path / "one.safetensors"), config=str(tmp_path / "folder")),
    ):
        merged.set_progress_bar_config(disable=True)
        torch.testing.assert_close(picture(merged, PROMPT), expected, rtol=1e-3, atol=1e-3)


def test_the_sum_is_taken_in_float32():
    pipeline = build("stable_diffusion").to(torch.bfloat16)
    name, layer = next((n, m) for n, m in denoiser_of(pipeline).named_modules() if n.endswith("to_q"))
    before = layer.weight.float()
    lora = LoraLayer(torch.full((1, before.shape[1]), 1e-3), torch.full((before.shape[0], 1), 1e-3))
    merge(pipeline, {name: lora})
    assert torch.equal(layer.weight, (before + lora.delta).to(torch.bfloat16))


def test_what_does_not_fit_is_refused():
    pipeline = build("flux")
    with pytest.raises(MpoError, match="a merged FluxPipeline is a folder"):
        check_one_file(pipeline)
    with pytest.raises(MpoError, match=r"layer 'nowhere' of shape \[2, 2\] does not fit the model"):
        merge(pipeline, {"nowhere": LoraLayer(torch.ones(1, 2), torch.ones(2, 1))})
