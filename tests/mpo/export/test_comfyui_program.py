"""The files for ComfyUI through ComfyUI's own loader: `make test-comfyui COMFYUI=FOLDER`, not by default.

ComfyUI's own networks in the sizes of our small pipelines, their weights zero, so that what its loader adds can be read off.
"""

import importlib
import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import SD3Transformer2DModel, UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor

from mpo.export import comfyui
from mpo.export.convert import outputs_of
from mpo.export.diffusers import write_lora
from mpo.export.layers import from_peft
from mpo.models.families import denoiser_of, family_name
from tests.helpers.lora_readers import MORE_TARGETS, build_any, changes_of, comfyui_map, tuned

pytestmark = [
    pytest.mark.comfyui,
    pytest.mark.skipif("COMFYUI" not in os.environ, reason="no ComfyUI; run `make test-comfyui COMFYUI=FOLDER`"),
    pytest.mark.filterwarnings("default"),
]

UNET = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 32, "num_res_blocks": [1, 1],
    "channel_mult": [1, 2], "num_heads": 4, "use_spatial_transformer": True, "transformer_depth": [0, 1],
    "transformer_depth_output": [0, 0, 1, 1], "transformer_depth_middle": 1, "context_dim": 32, "legacy": False,
}  # fmt: skip
STREAMS = {
    "in_channels": 4, "out_channels": 4, "vec_in_dim": 32, "context_in_dim": 32, "mlp_ratio": 4.0, "num_heads": 2,
    "depth": 1, "depth_single_blocks": 1, "theta": 10000, "qkv_bias": True, "guidance_embed": True,
}  # fmt: skip
WAN = {
    "model_type": "t2v", "in_dim": 4, "out_dim": 4, "dim": 24, "ffn_dim": 32, "freq_dim": 16, "text_dim": 32, "num_heads": 2,
    "num_layers": 2,
}  # fmt: skip
# Of our small pipelines: the class of `comfy.model_base`, and the network of `comfy.ldm` with its configuration.
NETWORKS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "stable_diffusion": ("BaseModel", "modules.diffusionmodules.openaimodel.UNetModel", UNET),
    "stable_diffusion_xl": (
        "SDXL",
        "modules.diffusionmodules.openaimodel.UNetModel",
        UNET | {"context_dim": 80, "use_linear_in_transformer": True, "num_classes": "sequential", "adm_in_channels": 80},
    ),
    "stable_diffusion_3": (
        "SD3",
        "modules.diffusionmodules.mmdit.OpenAISignatureMMDITWrapper",
        {
            "input_size": None, "patch_size": 2, "in_channels": 4, "depth": 2, "adm_in_channels": 64, "qk_norm": "rms",
            "pos_embed_max_size": 16, "num_patches": 256, "x_block_self_attn_layers": [0],
            "context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": 64, "out_features": 128}},
        },
    ),
    "flux": ("Flux", "flux.model.Flux", STREAMS | {"hidden_size": 32, "axes_dim": [4, 4, 8], "patch_size": 2}),
    "pixart_sigma": (
        "PixArt",
        "pixart.pixartms.PixArtMS",
        {"input_size": 16, "hidden_size": 32, "depth": 2, "num_heads": 2, "caption_channels": 32, "micro_condition": False},
    ),
    "qwen_image": (
        "QwenImage",
        "qwen_image.model.QwenImageTransformer2DModel",
        {
            "in_channels": 16, "out_channels": 4, "num_layers": 2, "attention_head_dim": 16, "num_attention_heads": 2,
            "joint_attention_dim": 64, "axes_dims_rope": (4, 4, 8),
        },
    ),
    "chroma": (
        "Chroma",
        "chroma.model.Chroma",
        {
            # As many channels out as a patch of 2x2 has: its last layer counts them so, as the first does not.
            "in_channels": 4, "out_channels": 16, "context_in_dim": 32, "hidden_size": 32, "mlp_ratio": 4.0, "num_heads": 2,
            "depth": 1, "depth_single_blocks": 2, "axes_dim": [4, 4, 8], "theta": 10000, "patch_size": 2, "qkv_bias": True,
            "in_dim": 16, "out_dim": 32, "hidden_dim": 32, "n_layers": 1,
        },
    ),
    "lumina2": (
        "Lumina2",
        "lumina.model.NextDiT",
        {
            "in_channels": 4, "dim": 48, "n_layers": 2, "n_refiner_layers": 1, "n_heads": 2, "n_kv_heads": 1, "multiple_of": 16,
            "qk_norm": True, "cap_feat_dim": 16, "axes_dims": [8, 8, 8], "axes_lens": [300, 32, 32],
        },
    ),
    "hidream_image": (
        "HiDream",
        "hidream.model.HiDreamImageTransformer2DModel",
        {
            "patch_size": 8, "in_channels": 4, "out_channels": 4, "num_layers": 1, "num_single_layers": 2,
            "attention_head_dim": 8, "num_attention_heads": 4, "caption_channels": [32, 16], "text_emb_dim": 64,
            "num_routed_experts": 3, "num_activated_experts": 2, "axes_dims_rope": (4, 2, 2), "llama_layers": [0, 2, 2],
        },
    ),
    "wan": ("WAN21", "wan.model.WanModel", WAN),
    "wan_5b": ("WAN22", "wan.model.WanModel", WAN),
    "ltx": (
        "LTXV",
        "lightricks.model.LTXVModel",
        {
            "in_channels": 4, "cross_attention_dim": 24, "attention_head_dim": 12, "num_attention_heads": 2,
            "caption_channels": 32, "num_layers": 2,
        },
    ),
    "hunyuan_video": (
        "HunyuanVideo",
        "hunyuan_video.model.HunyuanVideo",
        STREAMS | {"hidden_size": 24, "axes_dim": [4, 4, 4], "patch_size": [1, 2, 2], "byt5": False, "meanflow": False},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def comfy() -> Any:
    """ComfyUI's package; it reads the command line as it is imported."""
    sys.path.append(os.environ["COMFYUI"])
    given, sys.argv = sys.argv, ["main.py", "--cpu"]
    try:
        importlib.import_module("comfy.options").enable_args_parsing()
        for name in ("lora", "lora_convert", "model_base", "ops"):
            importlib.import_module(f"comfy.{name}")
    finally:
        sys.argv = given
    return sys.modules["comfy"]


def model_of(comfy: Any, name: str) -> Any:
    """ComfyUI's model around its network, without weights."""
    base, path, config = NETWORKS[name]
    if not hasattr(comfy.model_base, base):
        pytest.skip(f"this ComfyUI has no {base}")
    module, _, cls = path.rpartition(".")
    network = getattr(importlib.import_module(f"comfy.ldm.{module}"), cls)
    model = object.__new__(getattr(comfy.model_base, base))
    torch.nn.Module.__init__(model)
    operations = comfy.ops.disable_weight_init
    model.diffusion_model = network(**config, dtype=torch.float32, device="meta", operations=operations)
    model.model_config = SimpleNamespace(unet_config=config)
    return model


def small_pipeline(name: str) -> Any:
    pipeline = build_any(name)
    if hasattr(pipeline, "unet"):  # its norms have 32 groups
        wider = {**pipeline.unet.config, "block_out_channels": (32, 64), "norm_num_groups": 32}
        pipeline.unet = UNet2DConditionModel.from_config(wider)
    if name == "stable_diffusion_3":  # ComfyUI takes it to be 64 channels wide for each layer
        pipeline.transformer = SD3Transformer2DModel(
            sample_size=16, patch_size=2, in_channels=4, num_layers=2, attention_head_dim=64, num_attention_heads=2,
            joint_attention_dim=64, caption_projection_dim=128, pooled_projection_dim=64, out_channels=4,
            pos_embed_max_size=16, dual_attention_layers=(0,), qk_norm="rms_norm",
        )  # fmt: skip
    return pipeline


def loaded_by(comfy: Any, model: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """What ComfyUI adds to each weight at strength 1, by the name in the file that it found it under."""
    names = comfy.lora.model_lora_keys_unet(model, {})
    patches = comfy.lora.load_lora(comfy.lora_convert.convert_lora(dict(tensors)), names)
    shapes = {key: value.shape for key, value in model.state_dict().items()}
    changes: dict[str, Tensor] = {}
    for name, target in names.items():
        if target not in patches or not any(key.startswith(f"{name}.lora_") for key in tensors):
            continue
        key, offset = (target, None) if isinstance(target, str) else target[:2]
        weight = comfy.lora.calculate_weight([(1.0, patches[target], 1.0, offset, None)], torch.zeros(shapes[key]), key)
        changes[name] = weight if offset is None else weight.narrow(*offset)
    return changes


CASES = [(name, None) for name in NETWORKS] + [
    (name, targets) for name, targets in MORE_TARGETS.items() if name in NETWORKS
]


@pytest.mark.parametrize(("name", "targets"), CASES)
def test_comfyui_loads_every_tensor_and_changes_the_weights_as_training_did(comfy, name, targets, caplog):
    pipeline, state = tuned(name, targets, small_pipeline(name))
    expected = changes_of(pipeline)
    tensors = comfyui.to_tensors(from_peft(state, 6 / 4), family_name(pipeline), outputs_of(pipeline))
    model = model_of(comfy, name)
    plain = small_pipeline(name)
    layers = comfyui_map(family_name(plain), denoiser_of(plain))
    caplog.clear()
    found = loaded_by(comfy, model, tensors)
    assert "not loaded" not in caplog.text
    assert set(found) == {key.rpartition(".lora_")[0] for key in tensors if ".lora_" in key}
    outputs = outputs_of(plain)
    seen = set()
    for file_name, change in found.items():
        parts = layers[file_name]
        rows = [expected.get(part, torch.zeros(outputs(part), *change.shape[1:])).flatten(1) for part in parts]
        torch.testing.assert_close(change.flatten(1), torch.cat(rows), rtol=1e-5, atol=1e-6)
        seen |= {part for part in parts if part in expected}
    assert seen == expected.keys()


@pytest.mark.parametrize("name", NETWORKS)
def test_the_form_for_diffusers_is_not_enough(comfy, name, tmp_path, caplog):
    """Of diffusers' own file ComfyUI finds nothing, or what it finds acts at rank / alpha of its strength."""
    pipeline, state = tuned(name, None, small_pipeline(name))
    write_lora(tmp_path, pipeline, state, denoiser_of(pipeline).peft_config["default"])
    files = load_file(next(tmp_path.glob("*.safetensors")))
    caplog.clear()
    found = loaded_by(comfy, model_of(comfy, name), files)
    missed = caplog.text.count("not loaded")
    weaker = ("stable_diffusion_3", "flux", "pixart_sigma", "qwen_image", "chroma", "hidream_image")
    assert (len(found), missed) == ((len(files) // 2, 0) if name in weaker else (0, len(files)))
    expected = changes_of(pipeline)
    for layer, change in found.items():
        whole = expected[layer.removeprefix("transformer.").removeprefix("base_model.model.")]
        torch.testing.assert_close(change, whole * 4 / 6, rtol=1e-5, atol=1e-6)
