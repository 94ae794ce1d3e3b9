"""Counts what a model's memory and time follow from, on its configuration, without weights.

Everything runs on torch's meta device, which computes shapes only, in the precision that a bfloat16 recipe gives each part,
and for one picture or clip. Multiply-accumulates are half of the floating-point operations that torch's FlopCounterMode
sees: matrix products, convolutions and attention. Bytes kept for the backward are the distinct storages that autograd
saves, besides parameters, if only a LoRA of rank 16 is trained. With gradient checkpointing these are the bytes saved
between the blocks, plus those of the largest block: a block's own exist only while it is computed again. Without a
backward, the peak is the most bytes that results of operators hold at once.

Attention and RMS norm are what a GPU would run: on the meta device torch falls back on forms that keep far more.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import peft
import torch
from torch import Tensor

from mpo.models.counting.gpu_kernels import kernels_of_a_gpu
from mpo.models.counting.inputs import (
    conditioning_shapes,
    decode_latents,
    encoded,
    frames_a_latent,
    predict,
    run_text_encoder,
)
from mpo.models.counting.measuring import kept_bytes, measure, millions, peak_bytes, trained_millions
from mpo.models.counting.parts import Parts, in_own_precision, own_size
from mpo.models.loading import tile_autoencoder
from mpo.models.offloading import blocks_of
from mpo.models.quantization import quantizable
from mpo.sizes import Size, SizeRule, parse_size, size_fields

RANK = 16


def count(parts: Parts, size: Size | None = None) -> dict[str, Any]:
    """An entry of model_costs.yaml, for pictures or clips of a size; None = the pipeline's own.

    Takes up to a minute for large models. Injects a LoRA into `parts.denoiser`.
    """
    size = size or own_size(parts)
    float32_vae = in_own_precision(parts)
    networks = {"denoiser": (parts.denoiser,), "vae": (parts.vae,), "text_encoders": parts.text_encoders}
    networks["others"] = parts.others
    parameters = {name: sum(map(millions, group)) for name, group in networks.items()}
    weights = weights_entry(parts)
    with kernels_of_a_gpu():
        pipeline = parts.pipeline()
        latents = encoded(parts, pipeline, size)
        points = [(encoded(parts, pipeline, point), point) for point in sizes_to_fit(parts.size_rule, size)]
        parts.denoiser.eval()
        measured = [measure(lambda x=x: predict(parts, pipeline, x)) for x, _ in points]
        ratios = [x.numel() / latents.numel() for x, _ in points]
        work: dict[str, Any] = {"denoiser": fit(ratios, [tmac for tmac, _ in measured])}
        digest = parts.digest()
        targets = parts.family.lora_targets(parts.denoiser)
        with torch.device("meta"):
            adapter = peft.LoraConfig(r=RANK, lora_alpha=RANK, target_modules=targets, init_lora_weights=False)
            peft.inject_adapter_in_model(adapter, parts.denoiser)
        torch.nn.Module.to(parts.denoiser, torch.bfloat16)
        lora = trained_millions(parts.denoiser)
        plain, checkpointed = kept_bytes(parts.denoiser, lambda: predict(parts, pipeline, latents))
        text = [measure(lambda e=e: run_text_encoder(e.eval(), parts)) for e in parts.text_encoders]
        vae = autoencoder_costs(parts, pipeline, size, latents)
    return {
        "pipeline": parts.pipeline_class,
        "digest": digest,
        "size": size_fields(size),
        "frames_a_latent": frames_a_latent(parts, size, latents),
        "attends_over": "frame" if type(parts.denoiser).__name__ == "UNetMotionModel" else "clip",
        "distilled_guidance": bool(getattr(parts.denoiser.config, "guidance_embeds", False)),
        "float32_vae": float32_vae,
        "parameters": parameters,
        **weights,
        "lora_millions": lora,
        "tmac": {**work, "text": sum(tmac for tmac, _ in text)},
        "activations_gb": {
            "plain": plain / 1e9,
            "checkpointed": checkpointed / 1e9,
            "sampling": measured[0][1] / 1e9,
            "text": max((peak for _, peak in text), default=0) / 1e9,
        },
        "autoencoder": vae,
        "encoded_values": {
            "sample": latents.numel(),
            "prompt": sum(torch.Size(shape).numel() for shape in conditioning_shapes(parts).values()),
        },
    }


def weights_entry(parts: Parts) -> dict[str, Any]:
    """Millions of parameters that can be held in fewer bits, and those in the denoiser's blocks, before a LoRA is added."""
    groups = {"denoiser": (parts.denoiser,), "others": parts.others, "text_encoders": parts.text_encoders}
    blocks = [millions(block) for block in blocks_of(parts.denoiser)]
    return {
        "quantizable": {
            name: {
                how: sum(layer.weight.numel() for network in group for _, layer in quantizable(network, how)) / 1e6
                for how in ("8bit", "4bit")
            }
            for name, group in groups.items()
        },
        "blocks": {"all": sum(blocks), "largest": max(blocks, default=0.0)},
        "largest_text_encoder": max(map(millions, parts.text_encoders), default=0.0),
    }


def autoencoder_costs(parts: Parts, pipeline: Any, size: Size, latents: Tensor) -> dict[str, float]:
    """Work and peak of encoding and decoding one picture or clip, and the peaks in tiles if the autoencoder has them."""
    vae, costs = parts.vae.eval(), {}
    calls = {"encode": lambda: encoded(parts, pipeline, size), "decode": lambda: decode_latents(vae, latents)}
    for name, call in calls.items():
        costs[f"{name}_tmac"], peak = measure(call)
        costs[f"{name}_gb"] = peak / 1e9
    if hasattr(vae, "enable_tiling"):
        tile_autoencoder(vae)
        with suppress(RuntimeError):  # AutoencoderTiny's tiles assume 8 pixels a latent
            costs |= {f"tiled_{name}_gb": peak_bytes(call) / 1e9 for name, call in calls.items()}
    return costs


# How an entry's figures change with the size.


def sizes_to_fit(rule: SizeRule, size: Size) -> tuple[Size, ...]:
    """A size, and two smaller ones that the model can make: half as wide, and half as high, too."""
    narrow, small = (Size(size.width // 2, height, size.frames, size.fps) for height in (size.height, size.height // 2))
    return size, rule.nearest(narrow), rule.nearest(small)


def fit(ratios: Sequence[float], values: Sequence[float]) -> list[float]:
    """Three points -> [a, b, c] of a + b r + c r^2: text costs a, layers cost by token, attention by pairs of tokens."""
    solution, *_ = np.linalg.lstsq(np.vander(ratios, 3, increasing=True), np.array(values), rcond=None)
    return solution.tolist()


def ratios_of(entry: Mapping[str, Any], size: Size) -> tuple[float, float]:
    """How many times the latents of the entry's own size: in a frame, and by frames."""
    own = parse_size(entry["size"])
    area = size.width * size.height / (own.width * own.height)
    if own.frames is None or size.frames is None:
        return area, 1.0
    frames, own_frames = (1 + (n - 1) / entry["frames_a_latent"] for n in (size.frames, own.frames))
    return area, frames / own_frames


def denoiser_tmac(entry: Mapping[str, Any], size: Size) -> float:
    """10^12 multiply-accumulates of one forward. Networks that look at whole clips attend over all their tokens."""
    area, frames = ratios_of(entry, size)
    a, b, c = entry["tmac"]["denoiser"]
    if entry["attends_over"] == "frame":  # what its motion modules add, over few frames, is linear
        return frames * (a + b * area + c * area**2)
    return a + b * area * frames + c * (area * frames) ** 2


def autoencoder_gb(entry: Mapping[str, Any], direction: str, size: Size, *, tiled: bool) -> float:
    """GB at the peak of "encode" or "decode" of one picture or clip; in tiles it grows with what the tiles make up."""
    area, frames = ratios_of(entry, size)
    costs = entry["autoencoder"]
    whole = area * frames * costs[f"{direction}_gb"]
    in_tiles = costs.get(f"tiled_{direction}_gb") if tiled else None
    return whole if in_tiles is None else min(whole, max(1.0, area * frames) * in_tiles)


def autoencoder_tmac(entry: Mapping[str, Any], direction: str, size: Size) -> float:
    """Whole; in tiles, which overlap, it is up to half as much again."""
    return math.prod(ratios_of(entry, size)) * entry["autoencoder"][f"{direction}_tmac"]
