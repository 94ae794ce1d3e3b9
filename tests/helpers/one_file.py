"""Stable Diffusion's weights as its authors laid them out: one file, as people have them. The inverse of diffusers' reading."""

import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
UNET = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0", "conv_out": "out.2",
}  # fmt: skip
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def save_as_one_file(pipeline: Any, file: Path) -> None:
    """A `StableDiffusionPipeline` (1.x) in the original layout."""
    unet, vae = pipeline.unet, pipeline.vae
    state = {f"model.diffusion_model.{unet_name(k, unet.config)}": v for k, v in unet.state_dict().items()}
    for name, value in vae.state_dict().items():
        matrix = ".attentions." in name and value.ndim == 2  # the original has convolutions of one pixel there
        state[f"first_stage_model.{vae_name(name, vae.config)}"] = value[:, :, None, None] if matrix else value
    for name, value in pipeline.text_encoder.state_dict().items():
        state[f"cond_stage_model.transformer.text_model.{name.removeprefix('text_model.')}"] = value
    save_file({name: value.detach().clone().contiguous() for name, value in state.items()}, file)


def unet_name(name: str, config: Any) -> str:
    """Blocks are numbered in the order of the forward; a block's first entry is its resnet, then attention, then a scaling."""
    layer, _, kind = name.rpartition(".")
    if layer in UNET:
        return f"{UNET[layer]}.{kind}"
    per_down, per_up = config.layers_per_block + 1, config.layers_per_block + 1
    if match := re.match(r"mid_block\.(resnets|attentions)\.(\d)\.(.*)", name):
        number = 2 * int(match[2]) + (match[1] == "attentions")
        return f"middle_block.{number}.{resnet(match[3]) if match[1] == 'resnets' else match[3]}"
    match = re.match(r"(down|up)_blocks\.(\d)\.(resnets|attentions|downsamplers|upsamplers)\.(\d)\.(.*)", name)
    assert match, name
    block, kind, layer_number, rest = int(match[2]), match[3], int(match[4]), match[5]
    if match[1] == "down":
        if kind == "downsamplers":
            return f"input_blocks.{(block + 1) * per_down}.0.{rest.replace('conv.', 'op.')}"
        place = f"input_blocks.{1 + block * per_down + layer_number}"
    elif kind == "upsamplers":
        has_attention = "CrossAttn" in config.up_block_types[block]
        return f"output_blocks.{(block + 1) * per_up - 1}.{1 + has_attention}.{rest}"
    else:
        place = f"output_blocks.{block * per_up + layer_number}"
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


def picture(pipeline: Any, prompt: str) -> torch.Tensor:
    """(1, 3, H, W) in [0, 1], two steps from a fixed noise."""
    generator = torch.Generator().manual_seed(3)
    return pipeline(prompt, num_inference_steps=2, generator=generator, output_type="pt").images
