"""What memory and time of the large models follow from, counted on their classes in full size, without weights.

    python -m benchmarks.model_sizes                       # the entries of mpo/facts.yaml; minutes
    python -m benchmarks.model_sizes black-forest-labs/FLUX.1-dev

Configurations: model_configs.yaml. All on torch's meta device, which computes nothing, in bfloat16, batch 1, at the model's
own size. Multiply-accumulates are torch's FlopCounterMode's floating-point operations by two: matrix products, convolutions
and attention. Bytes kept for the backward are the distinct storages that autograd saves beside parameters, of a network
whose LoRA of rank 16 alone is trained; with gradient checkpointing, those saved between the blocks and the largest
block's own, since a block's are there only while it is computed anew.

Attention and RMS norm are what a GPU would run: on the meta device torch falls back on forms that keep far more.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import diffusers
import peft
import torch
import transformers
import yaml
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mpo.models.families import family_of_class

RANK = 16
Inputs = dict[str, Any]


def configs() -> dict[str, dict[str, Any]]:
    """By hub id."""
    return yaml.safe_load(Path(__file__).with_name("model_configs.yaml").read_text("utf-8"))["models"]


def zeros(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.zeros(*shape, dtype=dtype, device="meta")


# What a GPU would run.


def attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False, **_: Any,
) -> Tensor:  # fmt: skip
    """Flash attention without a mask and for heads up to 256, the memory-efficient one with a mask, else plain."""
    if enable_gqa and key.shape[-3] != query.shape[-3]:
        repeats = query.shape[-3] // key.shape[-3]
        key, value = key.repeat_interleave(repeats, -3), value.repeat_interleave(repeats, -3)
    aten = torch.ops.aten
    if attn_mask is None and query.shape[-1] <= 256:
        return aten._scaled_dot_product_flash_attention(query, key, value, 0.0, is_causal, False, scale=scale)[0]
    if attn_mask is not None:
        mask = attn_mask.to(query.dtype).expand(*query.shape[:3], key.shape[2])
        return aten._scaled_dot_product_efficient_attention(query, key, value, mask, True, 0.0, False, scale=scale)[0]
    return torch.softmax(query @ key.transpose(-1, -2), -1) @ value


class FusedRMSNorm(torch.autograd.Function):
    """Keeps its input and a number a row."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, zeros(*x.shape[:-1], 1, dtype=torch.float32), *([] if weight is None else [weight]))
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx: Any, *grad: Any) -> Any:
        return grad[0], None


@contextmanager
def kernels_of_a_gpu() -> Iterator[None]:
    def rms_norm(x: Tensor, shape: Any, weight: Tensor | None = None, eps: float | None = None) -> Tensor:
        return FusedRMSNorm.apply(x, weight)  # type: ignore[return-value]

    functional = torch.nn.functional
    with (
        patch.object(functional, "scaled_dot_product_attention", attention),
        patch.object(functional, "rms_norm", rms_norm),
        patch.object(torch, "rms_norm", rms_norm),
    ):
        yield


# Building and calling.


def build(spec: dict[str, Any]) -> Any:
    """A model of diffusers or transformers, frozen."""
    fields = {key: value for key, value in spec.items() if key not in ("class", "tokens", "config")}
    with torch.device("meta"):
        if "config" in spec:
            cls = getattr(transformers, spec["class"])
            config = cls.config_class(**spec["config"])
            config._attn_implementation = "eager"
            model = cls(config)
        else:
            model = getattr(diffusers, spec["class"])(**fields)
    return model.to(torch.bfloat16).requires_grad_(False)


def denoiser_inputs(spec: dict[str, Any]) -> Inputs:
    """What one forward of the denoiser takes for one picture."""
    channels, height, width = spec["latents"]
    text = {name: zeros(1, *shape) for name, shape in spec["text"].items()}
    timestep = zeros(1, dtype=torch.float32)
    picture, patches = zeros(1, channels, height, width), zeros(1, height * width // 4, 4 * channels)
    match spec["pipeline"]:
        case "StableDiffusionPipeline":
            return {"sample": picture, "timestep": timestep, **text}
        case "StableDiffusionXLPipeline":
            added = {"text_embeds": text.pop("text_embeds"), "time_ids": zeros(1, 6)}
            return {"sample": picture, "timestep": timestep, "added_cond_kwargs": added, **text}
        case "StableDiffusion3Pipeline":
            return {"hidden_states": picture, "timestep": timestep, **text}
        case "FluxPipeline":
            ids = {"img_ids": zeros(patches.shape[1], 3), "txt_ids": zeros(spec["text"]["encoder_hidden_states"][0], 3)}
            return {"hidden_states": patches, "timestep": timestep, "guidance": timestep, **ids, **text}
        case "QwenImagePipeline":
            return {
                "hidden_states": patches,
                "timestep": timestep,
                "img_shapes": [[(1, height // 2, width // 2)]],
                **text,
            }
        case _:
            mask = zeros(1, spec["text"]["encoder_hidden_states"][0])
            added = {"resolution": None, "aspect_ratio": None}
            extra = {"added_cond_kwargs": added} if spec["pipeline"] == "PixArtSigmaPipeline" else {}
            return {"hidden_states": picture, "timestep": timestep, "encoder_attention_mask": mask, **extra, **text}


def run_text_encoder(encoder: Any, tokens: int) -> None:
    """One prompt through it; of a vision-language model the language model alone."""
    ids = torch.zeros(1, tokens, dtype=torch.long, device="meta")
    match type(encoder).__name__:
        case "T5EncoderModel":
            encoder(input_ids=ids)
        case "Gemma2Model":  # a ready mask: making one needs values
            mask = zeros(1, 1, tokens, tokens)
            masks = {"full_attention": mask, "sliding_attention": mask}
            encoder(input_ids=ids, position_ids=ids, attention_mask=masks, use_cache=False)
        case "Qwen2_5_VLForConditionalGeneration":
            encoder.model.language_model(input_ids=ids, position_ids=ids.expand(3, 1, tokens), use_cache=False)
        case _:
            encoder(input_ids=ids, position_ids=ids)


# Counting.


def millions(model: torch.nn.Module) -> float:
    return sum(parameter.numel() for parameter in model.parameters()) / 1e6


def tmac(call: Callable[[], Any]) -> float:
    """10^12 multiply-accumulates."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / 2e12


class Kept:
    """Bytes of the distinct storages that autograd keeps, but for parameters and buffers."""

    def __init__(self, model: torch.nn.Module):
        self.skipped = {t.untyped_storage()._cdata for t in (*model.parameters(), *model.buffers())}
        self.storages: dict[int, Any] = {}  # held, so that no address is used twice
        self.bytes = 0

    def hooks(self) -> Any:
        return torch.autograd.graph.saved_tensors_hooks(self._see, lambda tensor: tensor)

    def _see(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.skipped and storage._cdata not in self.storages:
            self.storages[storage._cdata] = storage
            self.bytes += storage.nbytes()
        return tensor


def kept_bytes(denoiser: Any, inputs: Inputs) -> tuple[int, int]:
    """Kept for the backward of one picture: plain, and at the peak with gradient checkpointing."""
    denoiser.train()
    plain, blocks = Kept(denoiser), []

    def noted(block: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Stands where checkpointing would: computes nothing anew, only notes what the block keeps."""
        before = plain.bytes
        out = block(*arguments, **options)
        blocks.append(plain.bytes - before)
        return out

    denoiser.enable_gradient_checkpointing(gradient_checkpointing_func=noted)
    with plain.hooks():
        denoiser(**inputs)
    denoiser.enable_gradient_checkpointing()
    between = Kept(denoiser)
    with between.hooks():
        denoiser(**inputs)
    return plain.bytes, between.bytes + max(blocks)


def count(spec: dict[str, Any]) -> dict[str, Any]:
    """A model's entry in mpo/facts.yaml."""
    with kernels_of_a_gpu():
        channels, height, width = spec["latents"]
        inputs = denoiser_inputs(spec)
        parameters, work = {}, {}
        denoiser = build(spec["denoiser"])
        parameters["denoiser"] = millions(denoiser)
        work["denoiser"] = tmac(lambda: denoiser.eval()(**inputs))
        targets = family_of_class(spec["pipeline"]).lora_targets(None)
        with torch.device("meta"):
            adapter = peft.LoraConfig(r=RANK, lora_alpha=RANK, target_modules=targets, init_lora_weights=False)
            peft.inject_adapter_in_model(adapter, denoiser)
        denoiser.to(torch.bfloat16)
        lora = sum(p.numel() for p in denoiser.parameters() if p.requires_grad) / 1e6
        plain, checkpointed = kept_bytes(denoiser, inputs)

        vae = build(spec["vae"]).eval()
        frames = (1,) if spec["pipeline"] == "QwenImagePipeline" else ()
        parameters["vae"] = millions(vae)
        work["vae_encode"] = tmac(lambda: vae.encode(zeros(1, 3, *frames, spec["size"], spec["size"])))
        work["vae_decode"] = tmac(lambda: vae.decode(zeros(1, channels, *frames, height, width)))

        encoders = [(build(text).eval(), text["tokens"]) for text in spec["text_encoders"]]
        parameters["text_encoders"] = sum(millions(encoder) for encoder, _ in encoders)
        work["text"] = sum(tmac(lambda e=encoder, n=tokens: run_text_encoder(e, n)) for encoder, tokens in encoders)
    return {
        "pipeline": spec["pipeline"],
        "size": spec["size"],
        "parameters": {name: round(value, 1) for name, value in parameters.items()},
        "lora_millions": round(lora, 3),
        "tmac": {name: round(value, 4 if name == "text" else 3) for name, value in work.items()},
        "activations_gb": {"plain": round(plain / 1e9, 2), "checkpointed": round(checkpointed / 1e9, 2)},
        "encoded_values": {
            "picture": channels * height * width,
            "prompt": sum(torch.Size(shape).numel() for shape in spec["text"].values()),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="hub ids; default: all")
    known = configs()
    for name in parser.parse_args().models or known:
        print(yaml.safe_dump({name: count(known[name])}, sort_keys=False, default_flow_style=None), end="", flush=True)


if __name__ == "__main__":
    main()
