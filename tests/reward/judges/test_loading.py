from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import Qwen2_5_VLConfig

from reward import JudgeError, load_checklist
from reward.judges import check_kind
from reward.judges.loading import count_parameters
from tests.reward.judges.small_vlms import (
    BUILDERS,
    chat_template,
    gemma3,
    lfm2_vl,
    paligemma,
    qwen3_5,
    save_without_weights,
)


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


@pytest.mark.parametrize("family", BUILDERS)
def test_files_show_whether_a_model_takes_clips_before_its_weights_are_loaded(family, tmp_path):
    save_without_weights(family, tmp_path)
    check_kind("vlm", {"model": tmp_path}, load_checklist("image"))
    if family == "smolvlm":  # its processor has a template of its own for clips
        check_kind("vlm", {"model": tmp_path}, load_checklist("video"))
        return
    if family != "idefics3":
        check_kind("vlm", {"model": tmp_path}, load_checklist("video"))
        save_without_weights(family, tmp_path, template=chat_template("<image>", ""))  # no place for clips
    said = (
        rf"judge 'vlm' with model='{tmp_path}' takes images only; use a .* with a place for them in its chat template"
    )
    with pytest.raises(JudgeError, match=said):
        check_kind("vlm", {"model": tmp_path}, load_checklist("video"))


def test_an_adapter_looks_at_what_its_base_does(tmp_path):
    for family in ("idefics3", "smolvlm"):
        model, processor = BUILDERS[family]("sdpa")
        model.config.save_pretrained(tmp_path / family)
        model.name_or_path = str(tmp_path / family)
        get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(str(tmp_path / "tuned"))
        processor.save_pretrained(tmp_path / "tuned")
        if family == "smolvlm":
            check_kind("vlm", {"model": tmp_path / "tuned"}, load_checklist("video"))
        else:
            with pytest.raises(JudgeError, match="takes images only"):
                check_kind("vlm", {"model": tmp_path / "tuned"}, load_checklist("video"))


def test_other_judges_say_what_they_look_at():
    trusted = {"trust_remote_code": True}
    check_kind("cogvlm2", trusted, load_checklist("video"))
    check_kind("cogvlm2", trusted | {"kind": "image"}, load_checklist("image"))
    for kind, other in (("video", "image"), ("image", "video")):
        words = rf"is about {other}s; judge 'cogvlm2' with model='.*', kind='{kind}' takes {kind}s only; use a judge or"
        with pytest.raises(JudgeError, match=words):
            check_kind("cogvlm2", trusted | {"kind": kind}, load_checklist(other))
        check_kind("measured", {}, load_checklist(kind))
        check_kind("server", {"base_urls": "http://127.0.0.1:9/v1"}, load_checklist(kind))


def test_what_files_do_not_show_is_left_to_loading(tmp_path):
    """A hub that is out of reach, a folder without a processor."""
    BUILDERS["idefics3"]("sdpa")[0].config.save_pretrained(tmp_path)
    for model in ("nobody/nothing", tmp_path, tmp_path / "absent"):
        check_kind("vlm", {"model": model}, load_checklist("video"))
    with pytest.raises(JudgeError, match="did you mean 'packed'"):
        check_kind("vlm", {"model": "nobody/nothing", "mode": "paked"}, load_checklist("video"))
