from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import Qwen2_5_VLConfig

from reward import JudgeError
from reward.judges.loading import count_parameters
from tests.reward.judges.small_vlms import BUILDERS, gemma3, lfm2_vl, paligemma, qwen3_5


@pytest.mark.parametrize("build", [*BUILDERS.values(), gemma3, lfm2_vl, paligemma, qwen3_5])
def test_the_configuration_tells_the_number_of_parameters(build, tmp_path):
    model, _ = build("sdpa")
    model.config.save_pretrained(tmp_path)  # no weights, no processor
    assert count_parameters("vlm", {"model": str(tmp_path)}) == sum(each.numel() for each in model.parameters())


def test_a_model_of_billions_needs_no_memory(tmp_path):
    """Qwen2.5-VL-7B as published has 8,292,166,656 parameters: 33 GB in float32."""
    text: dict[str, Any] = {
        "vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4, "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1e6},
    }  # fmt: skip
    vision: dict[str, Any] = {
        "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 3584,
    }  # fmt: skip
    Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=False).save_pretrained(tmp_path)
    default = torch.get_default_device()
    assert count_parameters("vlm", {"model": tmp_path}) == 8_292_166_656
    assert torch.get_default_device() == default


def test_an_adapter_counts_as_its_base(tmp_path):
    model, _ = BUILDERS["qwen2_5_vl"]("sdpa")
    expected = sum(each.numel() for each in model.parameters())
    model.save_pretrained(tmp_path / "base")
    model.name_or_path = str(tmp_path / "base")
    get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(str(tmp_path / "tuned"))
    assert count_parameters("vlm", {"model": tmp_path / "tuned"}) == expected


def test_what_is_not_known_is_said():
    assert count_parameters("measured", {}) == 0
    assert count_parameters("server", {"base_urls": "http://127.0.0.1:9/v1"}) == 0
    with pytest.raises(JudgeError, match=r"^the size of model='nobody/nothing' is unknown \(.*\)$"):
        count_parameters("vlm", {"model": "nobody/nothing"})
    with pytest.raises(JudgeError, match="did you mean 'packed'"):
        count_parameters("vlm", {"model": "nobody/nothing", "mode": "paked"})
