"""Stable Diffusion 1 and SDXL in their authors' layout: a whole pipeline in one file, as ComfyUI, A1111 and Forge load it.

The inverse of diffusers' `from_single_file`, whose tables give the names that do not depend on the model's size.
"""

import re
from typing import Any

import torch
from diffusers.loaders.single_file_utils import DIFFUSERS_TO_LDM_MAPPING
from torch import Tensor

RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
UNET = DIFFUSERS_TO_LDM_MAPPING["unet"]["layers"] | DIFFUSERS_TO_LDM_MAPPING["unet"]["addition_embed_type"]
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def in_original_layout(pipeline: Any) -> dict[str, Tensor]:
    """The weights of a `StableDiffusionPipeline` (1.x) or a `StableDiffusionXLPipeline` by their authors' names."""
    unet, vae = pipeline.unet, pipeline.vae
    state = {f"model.diffusion_model.{unet_name(k, unet.config)}": v for k, v in unet.state_dict().items()}
    for name, value in vae.state_dict().items():
        matrix = ".attentions." in name and value.ndim == 2  # the original has convolutions of one pixel there
        state[f"first_stage_model.{vae_name(name, vae.config)}"] = value[:, :, None, None] if matrix else value
    of_xl = getattr(pipeline, "text_encoder_2", None)
    prefix = "conditioner.embedders.0.transformer." if of_xl else "cond_stage_model.transformer."
    for name, value in pipeline.text_encoder.state_dict().items():
        state[f"{prefix}text_model.{name.removeprefix('text_model.')}"] = value
    if of_xl:
        named = in_open_clip_layout(of_xl.state_dict())
        state |= {f"conditioner.embedders.1.model.{name}": value for name, value in named.items()}
    return {name: value.detach().clone().contiguous() for name, value in state.items()}


def in_open_clip_layout(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A text encoder of transformers by OpenCLIP's names: queries, keys and values in one weight, the projection transposed."""
    tables = DIFFUSERS_TO_LDM_MAPPING["openclip"]
    whole = tables["layers"]
    inner = [(a, b) for a, b in tables["transformer"].items() if not a.startswith("transformer.")]
    named: dict[str, Tensor] = {}
    fused: dict[str, list[Tensor]] = {}
    for key, value in state.items():
        if key.endswith("position_ids"):
            continue
        name = key if key.startswith(("text_model.", "text_projection")) else f"text_model.{key}"
        if name in whole:
            named[whole[name]] = value.T if name.startswith("text_projection") else value
            continue
        for ours, theirs in inner:
            name = name.replace(ours, theirs)
        if match := re.fullmatch(r"(.*\.attn)\.([qkv])_proj\.(weight|bias)", name):
            parts = fused.setdefault(f"{match[1]}.in_proj_{match[3]}", [torch.empty(0)] * 3)
            parts["qkv".index(match[2])] = value
        else:
            named[f"transformer.{name}"] = value
    return named | {f"transformer.{name}": torch.cat(parts) for name, parts in fused.items()}


def unet_name(name: str, config: Any) -> str:
    """Blocks are numbered in the order of the forward; a block's first entry is its resnet, then attention, then a scaling."""
    if name in UNET:
        return UNET[name]
    per_block = config.layers_per_block + 1
    if match := re.match(r"mid_block\.(resnets|attentions)\.(\d)\.(.*)", name):
        number = 2 * int(match[2]) + (match[1] == "attentions")
        return f"middle_block.{number}.{resnet(match[3]) if match[1] == 'resnets' else match[3]}"
    match = re.match(r"(down|up)_blocks\.(\d)\.(resnets|attentions|downsamplers|upsamplers)\.(\d)\.(.*)", name)
    assert match, name
    block, kind, layer_number, rest = int(match[2]), match[3], int(match[4]), match[5]
    if match[1] == "down":
        if kind == "downsamplers":
            return f"input_blocks.{(block + 1) * per_block}.0.{rest.replace('conv.', 'op.')}"
        place = f"input_blocks.{1 + block * per_block + layer_number}"
    elif kind == "upsamplers":
        has_attention = "Attn" in config.up_block_types[block]
        return f"output_blocks.{(block + 1) * per_block - 1}.{1 + has_attention}.{rest}"
    else:
        place = f"output_blocks.{block * per_block + layer_number}"
    return f"{place}.0.{resnet(rest)}" if kind == "resnets" else f"{place}.1.{rest}"


def resnet(name: str) -> str:
    layer, _, kind = name.rpartition(".")
    return f"{RESNET[layer]}.{kind}"


def vae_name(name: str, config: Any) -> str:
    """Blocks of the decoder are numbered from the last one."""
    name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    if match := re.match(r"(.*)mid_block\.attentions\.0\.(.*)\.(weight|bias)", name):
        return f"{match[1]}mid.attn_1.{ATTENTION[match[2]]}.{match[3]}"
    name = re.sub(r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2", name)
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
    last = len(config.block_out_channels) - 1
    name = re.sub(r"up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"up.{last - int(m[1])}.block.{m[2]}", name)
    return re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{last - int(m[1])}.upsample", name)
