"""How other programs find a LoRA's tensors, written out name by name: the rules of their loaders, not those of our writer.

And small pipelines with a LoRA to try them on.
"""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import DiffusionPipeline
from peft.tuners.lora import LoraLayer as PeftLayer
from torch import Tensor

from mpo.models.families import denoiser_of
from mpo.models.lora import add_lora, lora_state
from mpo.recipe import load_recipe
from tests.helpers.pipelines import build
from tests.helpers.video_pipelines import build_video

PICTURES = (
    "stable_diffusion", "stable_diffusion_xl", "stable_diffusion_3", "flux", "flux2", "flux2_klein", "pixart_sigma",
    "qwen_image", "qwen_image_21", "z_image", "chroma", "lumina2", "hidream_image",
)  # fmt: skip
CLIPS = ("cogvideox_2b", "cogvideox_5b", "wan", "wan_5b", "wan_a14b", "ltx", "hunyuan_video")
# Beside a family's own.
MORE_TARGETS = {
    "stable_diffusion": load_recipe("quickstart").train.lora_targets,
    "stable_diffusion_xl": load_recipe("quickstart").train.lora_targets,
    "flux": ("to_q", "proj_mlp", "proj_out", "ff.net.0.proj", "ff_context.net.2", "norm1.linear"),
    "flux2": ("to_q", "add_v_proj", "to_qkv_mlp_proj", "ff.linear_in", "ff_context.linear_out", "x_embedder"),
    "z_image": ("to_q", "w1", "w2", "w3", "0.adaLN_modulation.0"),
    "chroma": ("to_q", "proj_mlp", "proj_out", "ff.net.0.proj", "ff_context.net.2"),
    "lumina2": ("to_k", "feed_forward.linear_2", "norm1.linear"),
    "hidream_image": ("to_q", "to_out_t", "w2"),
    "wan": ("to_q", "to_v", "ffn.net.0.proj", "ffn.net.2"),
    "cogvideox_2b": ("to_k", "ff.net.0.proj", "ff.net.2"),
    "ltx": ("to_out.0", "ff.net.0.proj", "ff.net.2"),
    "hunyuan_video": ("to_q", "add_k_proj", "proj_mlp", "ff.net.0.proj", "ff_context.net.2"),  # parts of fused weights
}
QKV = ("to_q", "to_k", "to_v")
ADDED = ("add_q_proj", "add_k_proj", "add_v_proj")
SINGLE = ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")

# Of a block: the program's name -> diffusers' names of what it holds, row by row.
WAN = {f"self_attn.{x}": (f"attn1.{y}",) for x, y in zip("qkvo", (*QKV, "to_out.0"), strict=True)}
WAN |= {f"cross_attn.{x}": (f"attn2.{y}",) for x, y in zip("qkvo", (*QKV, "to_out.0"), strict=True)}
WAN |= {"ffn.0": ("ffn.net.0.proj",), "ffn.2": ("ffn.net.2",)}
COGVIDEOX = {x: (f"attn1.to_{x}",) for x in "qkv"}
COGVIDEOX |= {"attn_out": ("attn1.to_out.0",), "ff_proj": ("ff.net.0.proj",), "ff_out": ("ff.net.2",)}
OWN_ATTENTION = {f"attn.{x}": (f"attn.{x}",) for x in (*QKV, "to_out.0")}
LTX = {
    name: (name,)
    for name in (*(f"attn{n}.{x}" for n in (1, 2) for x in (*QKV, "to_out.0")), "ff.net.0.proj", "ff.net.2")
}
FLUX2_DOUBLE = {
    name: (name,)
    for name in (
        *(f"attn.{x}" for x in (*QKV, *ADDED, "to_out.0", "to_add_out")), "ff.linear_in", "ff.linear_out",
        "ff_context.linear_in", "ff_context.linear_out",
    )
}  # fmt: skip
FLUX2_SINGLE = {name: (name,) for name in ("attn.to_qkv_mlp_proj", "attn.to_out")}
Z_IMAGE = {
    name: (name,)
    for name in (
        *(f"attention.{x}" for x in (*QKV, "to_out.0")), *(f"feed_forward.w{n}" for n in (1, 2, 3)), "adaLN_modulation.0",
    )
}  # fmt: skip
DOUBLE = {
    "img_attn.qkv": tuple(f"attn.{x}" for x in QKV), "txt_attn.qkv": tuple(f"attn.{x}" for x in ADDED),
    "img_attn.proj": ("attn.to_out.0",), "txt_attn.proj": ("attn.to_add_out",),
    "img_mlp.0": ("ff.net.0.proj",), "img_mlp.2": ("ff.net.2",),
    "txt_mlp.0": ("ff_context.net.0.proj",), "txt_mlp.2": ("ff_context.net.2",),
    "img_mod.lin": ("norm1.linear",), "txt_mod.lin": ("norm1_context.linear",),
}  # fmt: skip
LUMINA2 = {
    "attention.qkv": tuple(f"attn.{x}" for x in QKV), "attention.out": ("attn.to_out.0",),
    **{f"feed_forward.w{n}": (f"feed_forward.linear_{n}",) for n in (1, 2, 3)}, "adaLN_modulation.1": ("norm1.linear",),
}  # fmt: skip
HIDREAM = [f"attn1.to_{x}" for x in ("q", "k", "v", "out")]
HIDREAM += [f"ff_i.{x}.w{n}" for x in ("shared_experts", *(f"experts.{i}" for i in range(4))) for n in (1, 2, 3)]
HIDREAM_TEXT = [f"attn1.to_{x}_t" for x in ("q", "k", "v", "out")] + [f"ff_t.w{n}" for n in (1, 2, 3)]
ONE_STREAM = {"linear1": SINGLE, "linear2": ("proj_out",), "modulation.lin": ("norm.linear",)}
REFINER = {
    "self_attn.qkv": tuple(f"attn.{x}" for x in QKV), "self_attn.proj": ("attn.to_out.0",),
    "mlp.0": ("ff.net.0.proj",), "mlp.2": ("ff.net.2",),
}  # fmt: skip


def blocks(theirs: str, ours: str, table: Mapping[str, tuple[str, ...]], number: int = 8) -> dict[str, tuple[str, ...]]:
    return {
        f"{theirs}.{i}.{x}": tuple(f"{ours}.{i}.{y}" for y in parts)
        for i in range(number)
        for x, parts in table.items()
    }


STREAMS = blocks("double_blocks", "transformer_blocks", DOUBLE) | blocks(
    "single_blocks", "single_transformer_blocks", ONE_STREAM
)
REFINED = blocks("txt_in.individual_token_refiner.blocks", "context_embedder.token_refiner.refiner_blocks", REFINER)


def comfyui_map(family: str, denoiser: Any) -> dict[str, tuple[str, ...]]:
    """Names under which ComfyUI looks -> the layers of diffusers' denoiser that the tensors there change."""
    names = [
        name.removesuffix(".weight")
        for name, p in denoiser.named_parameters()
        if name.endswith(".weight") and p.ndim > 1
    ]
    match family:
        case "stable_diffusion" | "stable_diffusion_xl":
            return {f"lora_unet_{name.replace('.', '_')}": (name,) for name in names}
        case "stable_diffusion_3" | "flux" | "pixart_sigma" | "qwen_image":
            return {f"transformer.{name}": (name,) for name in names}
        case "qwen_image_21":
            table = blocks("transformer_blocks", "transformer_blocks", OWN_ATTENTION)
        case "flux2":
            kinds = {"transformer_blocks": FLUX2_DOUBLE, "single_transformer_blocks": FLUX2_SINGLE}
            table = {x: y for kind, names in kinds.items() for x, y in blocks(kind, kind, names).items()}
            return {f"transformer.{x}": y for x, y in table.items()} | {"transformer.x_embedder": ("x_embedder",)}
        case "z_image":
            kinds = ("layers", "noise_refiner", "context_refiner")
            return {f"transformer.{x}": y for kind in kinds for x, y in blocks(kind, kind, Z_IMAGE).items()}
        case "chroma":  # what of Flux it has: modulation comes from one network for all blocks
            parts = {part for whole in STREAMS.values() for part in whole if "norm" not in part}
            return {f"transformer.{name}": (name,) for name in (*parts, "x_embedder", "context_embedder", "proj_out")}
        case "hidream_image":
            double = {f"block.{x}": (f"block.{x}",) for x in (*HIDREAM, *HIDREAM_TEXT)}
            single = {f"block.{x}": (f"block.{x}",) for x in HIDREAM}
            own = blocks("double_stream_blocks", "double_stream_blocks", double)
            own |= blocks("single_stream_blocks", "single_stream_blocks", single)
            return {f"transformer.{name}": parts for name, parts in own.items()}
        case "wan":
            table = blocks("blocks", "blocks", WAN)
        case "cogvideox":
            table = blocks("blocks", "transformer_blocks", COGVIDEOX)
        case "lumina2":
            table = {
                k: v for x in ("layers", "noise_refiner", "context_refiner") for k, v in blocks(x, x, LUMINA2).items()
            }
        case "ltx":
            table = blocks("transformer_blocks", "transformer_blocks", LTX) | {"patchify_proj": ("proj_in",)}
        case "hunyuan_video":
            table = STREAMS | REFINED
        case other:
            raise AssertionError(other)
    return {f"diffusion_model.{name}": parts for name, parts in table.items()}


def kohya_flux_map() -> dict[str, tuple[str, ...]]:
    return {f"lora_unet_{name.replace('.', '_')}": parts for name, parts in STREAMS.items()}


def load(
    tensors: Mapping[str, Tensor], names: Mapping[str, tuple[str, ...]], rows: Mapping[str, int]
) -> tuple[dict[str, Tensor], set[str]]:
    """(change of each of diffusers' weights, keys that no rule reads). rows: a layer's number of outputs.

    Alpha is its own tensor, or else the rank; metadata are not read.
    """
    changes: dict[str, Tensor] = {}
    left = set(tensors)
    for name, parts in names.items():
        for up, down in (("lora_up", "lora_down"), ("lora_B", "lora_A")):
            if f"{name}.{up}.weight" not in tensors:
                continue
            b, a = tensors[f"{name}.{up}.weight"].float(), tensors[f"{name}.{down}.weight"].float()
            alpha = float(tensors.get(f"{name}.alpha", torch.tensor(float(a.shape[0]))))
            change = (b.flatten(1) @ a.flatten(1)).reshape(b.shape[0], *a.shape[1:]) * alpha / a.shape[0]
            pieces = change.split([rows[part] for part in parts]) if len(parts) > 1 else [change]
            changes |= dict(zip(parts, pieces, strict=True))
            left -= {f"{name}.{up}.weight", f"{name}.{down}.weight", f"{name}.alpha"}
    return changes, left


def assert_same_changes(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert {name for name, change in found.items() if change.any()} == expected.keys()
    for name, change in expected.items():
        torch.testing.assert_close(found[name], change, rtol=1e-5, atol=1e-6)


def build_any(name: str) -> Any:
    """A small pipeline of PICTURES or CLIPS."""
    return (build if name in PICTURES else build_video)(name)


def tuned(name: str, targets: tuple[str, ...] | None = None, pipeline: Any = None) -> tuple[Any, dict[str, Tensor]]:
    """A small pipeline, or the one that is given, with a LoRA whose alpha (6) is not its rank (4), and that LoRA's weights."""
    pipeline = pipeline or build_any(name)
    settings = load_recipe("quickstart").train.model_copy(update={"rank": 4, "alpha": 6.0, "lora_targets": targets})
    denoiser = add_lora(pipeline, settings)
    generator = torch.Generator().manual_seed(0)
    for key, parameter in denoiser.named_parameters():
        if "lora_B" in key:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return pipeline, lora_state(denoiser)


def changes_of(model: Any) -> dict[str, torch.Tensor]:
    """What peft's layers add to the weights of a denoiser, or of a pipeline's, by the layer's name."""
    network = denoiser_of(model) if isinstance(model, DiffusionPipeline) else model
    layers = {n: m for n, m in network.named_modules() if isinstance(m, PeftLayer)}
    return {name: layer.get_delta_weight(next(iter(layer.lora_A))).detach() for name, layer in layers.items()}
