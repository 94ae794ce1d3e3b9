"""Counts what a model's memory and time follow from, on its configuration, without weights.

Everything runs on torch's meta device, which computes shapes only, in bfloat16 and batch 1. Multiply-accumulates are half
of the floating-point operations that torch's FlopCounterMode sees: matrix products, convolutions and attention. Bytes kept
for the backward are the distinct storages that autograd saves, besides parameters, if only a LoRA of
rank 16 is trained. With gradient checkpointing these are the bytes saved between the blocks, plus those of the largest
block: a block's own exist only while it is computed again.

Attention and RMS norm are what a GPU would run: on the meta device torch falls back on forms that keep far more.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import diffusers
import peft
import torch
import transformers
from diffusers import DiffusionPipeline
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mpo.models.families import family_of_class
from mpo.models.loading import readable_config
from mpo.recipe import Model

RANK = 16
# Tokens of a prompt by pipeline: (for T5, Gemma or Qwen, cut at the pipeline's default; kept as conditions).
# Qwen-Image does not pad prompts: 64 tokens here, and its template adds 34 that are dropped afterwards.
TOKENS = {
    "StableDiffusion3Pipeline": (256, 256), "FluxPipeline": (512, 512), "SanaPipeline": (300, 300),
    "PixArtSigmaPipeline": (300, 300), "QwenImagePipeline": (98, 64),
}  # fmt: skip
DEFAULT_SIZE = 1024  # for pipelines whose network has no sample_size: FLUX.1 and Qwen-Image


@dataclass(frozen=True)
class Parts:
    """A pipeline's networks on the meta device, frozen."""

    pipeline_class: str
    denoiser: Any
    vae: Any
    text_encoders: tuple[Any, ...]

    def digest(self) -> str:
        """Equal for models of the same classes with parameters of the same shapes, such as a model and its fine-tunes."""
        sha = hashlib.sha256(self.pipeline_class.encode())
        for part in (self.denoiser, self.vae, *self.text_encoders):
            shapes = sorted(tuple(parameter.shape) for parameter in part.parameters())  # names differ between versions
            sha.update(f"{type(part).__name__}{shapes}".encode())
        return sha.hexdigest()[:16]


def build_parts(model: Model) -> Parts:
    """The networks, from the model's small files. Raises ModelNotFoundError, or OfflineError."""
    with readable_config(model) as source:
        index: Any = DiffusionPipeline.load_config(source, revision=model.revision)
        configs: dict[str, tuple[Any, Any]] = {}
        for name, entry in index.items():
            if name in ("unet", "transformer", "vae"):
                cls = getattr(diffusers, entry[1])
                configs[name] = cls, cls.load_config(source, subfolder=name, revision=model.revision)
            elif name.startswith("text_encoder") and entry[1]:
                cls = getattr(transformers, entry[1])
                config = cls.config_class.from_pretrained(source, subfolder=name, revision=model.revision)
                configs[name] = cls, config
    built = {name: build(cls, config) for name, (cls, config) in configs.items()}
    denoiser = built.pop("unet") if "unet" in built else built.pop("transformer")
    return Parts(index["_class_name"], denoiser, built.pop("vae"), tuple(built.values()))


def build(cls: Any, config: Any) -> Any:
    """A model of diffusers (config: a mapping) or transformers, without weights, in bfloat16."""
    with torch.device("meta"):
        if isinstance(config, Mapping):
            model = cls.from_config(dict(config))
        else:
            config._attn_implementation = "eager"
            model = cls(config)
    return torch.nn.Module.to(model, torch.bfloat16).requires_grad_(False)  # diffusers' own `to` warns at each call


def count(parts: Parts) -> dict[str, Any]:
    """An entry of model_costs.yaml. Takes about half a minute for large models. Injects a LoRA into `parts.denoiser`."""
    size, latents = own_size(parts)
    with kernels_of_a_gpu():
        inputs = denoiser_inputs(parts, latents)
        work = {"denoiser": tmac(lambda: parts.denoiser.eval()(**inputs))}
        parameters = {"denoiser": millions(parts.denoiser)}
        digest = parts.digest()
        targets = family_of_class(parts.pipeline_class).lora_targets(parts.denoiser)
        with torch.device("meta"):
            adapter = peft.LoraConfig(r=RANK, lora_alpha=RANK, target_modules=targets, init_lora_weights=False)
            peft.inject_adapter_in_model(adapter, parts.denoiser)
        torch.nn.Module.to(parts.denoiser, torch.bfloat16)
        lora = trained_millions(parts.denoiser)
        plain, checkpointed = kept_bytes(parts.denoiser, inputs)

        vae = parts.vae.eval()
        frames = (1,) if parts.pipeline_class == "QwenImagePipeline" else ()
        parameters["vae"] = millions(vae)
        work["vae_encode"] = tmac(lambda: vae.encode(zeros(1, 3, *frames, size, size)))
        work["vae_decode"] = tmac(lambda: vae.decode(zeros(1, latents[0], *frames, *latents[1:])))

        parameters["text_encoders"] = sum(map(millions, parts.text_encoders))
        work["text"] = sum(tmac(lambda e=e: run_text_encoder(e.eval(), parts)) for e in parts.text_encoders)
    return {
        "pipeline": parts.pipeline_class,
        "digest": digest,
        "size": size,
        "parameters": parameters,
        "lora_millions": lora,
        "tmac": work,
        "activations_gb": {"plain": plain / 1e9, "checkpointed": checkpointed / 1e9},
        "encoded_values": {
            "picture": torch.Size(latents).numel(),
            "prompt": sum(torch.Size(shape).numel() for shape in conditioning_shapes(parts).values()),
        },
    }


def millions(model: torch.nn.Module) -> float:
    return sum(parameter.numel() for parameter in model.parameters()) / 1e6


def trained_millions(model: torch.nn.Module) -> float:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad) / 1e6


def tmac(call: Callable[[], Any]) -> float:
    """10^12 multiply-accumulates."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / 2e12


# What goes into the networks.


def zeros(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.zeros(*shape, dtype=dtype, device="meta")


def own_size(parts: Parts) -> tuple[int, tuple[int, int, int]]:
    """The side of the pipeline's own pictures in pixels, and its latents (c, h, w)."""
    config = parts.vae.config
    if hasattr(config, "temperal_downsample"):  # Qwen-Image's; diffusers spells it so
        channels, scale = config.z_dim, 2 ** len(config.temperal_downsample)
    else:
        blocks = getattr(config, "encoder_block_out_channels", None) or config.block_out_channels
        channels, scale = config.latent_channels, 2 ** (len(blocks) - 1)
    side = getattr(parts.denoiser.config, "sample_size", None) or DEFAULT_SIZE // scale
    return side * scale, (channels, side, side)


def conditioning_shapes(parts: Parts) -> dict[str, tuple[int, ...]]:
    """Shapes of one prompt's conditioning, as the denoiser takes it."""
    configs = [encoder.config for encoder in parts.text_encoders]
    kept = TOKENS.get(parts.pipeline_class, (0, 0))[1]
    match parts.pipeline_class:
        case "StableDiffusionPipeline":
            return {"encoder_hidden_states": (configs[0].max_position_embeddings, configs[0].hidden_size)}
        case "StableDiffusionXLPipeline":
            width = sum(config.hidden_size for config in configs)
            return {
                "encoder_hidden_states": (configs[0].max_position_embeddings, width),
                "text_embeds": (configs[-1].projection_dim,),
            }
        case "StableDiffusion3Pipeline":
            network = parts.denoiser.config
            return {
                "encoder_hidden_states": (configs[0].max_position_embeddings + kept, network.joint_attention_dim),
                "pooled_projections": (network.pooled_projection_dim,),
            }
        case "FluxPipeline":
            network = parts.denoiser.config
            return {
                "encoder_hidden_states": (kept, network.joint_attention_dim),
                "pooled_projections": (network.pooled_projection_dim,),
            }
        case "QwenImagePipeline":
            return {"encoder_hidden_states": (kept, parts.denoiser.config.joint_attention_dim)}
        case _:
            return {"encoder_hidden_states": (kept, parts.denoiser.config.caption_channels)}


def denoiser_inputs(parts: Parts, latents: tuple[int, int, int]) -> dict[str, Any]:
    """What one forward of the denoiser takes for one picture."""
    channels, height, width = latents
    text = {name: zeros(1, *shape) for name, shape in conditioning_shapes(parts).items()}
    num_tokens = text["encoder_hidden_states"].shape[1]
    timestep = zeros(1, dtype=torch.float32)
    picture, patches = zeros(1, channels, height, width), zeros(1, height * width // 4, 4 * channels)
    match parts.pipeline_class:
        case "StableDiffusionPipeline":
            return {"sample": picture, "timestep": timestep, **text}
        case "StableDiffusionXLPipeline":
            added = {"text_embeds": text.pop("text_embeds"), "time_ids": zeros(1, 6)}
            return {"sample": picture, "timestep": timestep, "added_cond_kwargs": added, **text}
        case "StableDiffusion3Pipeline":
            return {"hidden_states": picture, "timestep": timestep, **text}
        case "FluxPipeline":
            ids = {"img_ids": zeros(patches.shape[1], 3), "txt_ids": zeros(num_tokens, 3)}
            return {"hidden_states": patches, "timestep": timestep, "guidance": timestep, **ids, **text}
        case "QwenImagePipeline":
            shape = [[(1, height // 2, width // 2)]]
            return {"hidden_states": patches, "timestep": timestep, "img_shapes": shape, **text}
        case _:
            added = {"resolution": None, "aspect_ratio": None}
            extra = {"added_cond_kwargs": added} if parts.pipeline_class == "PixArtSigmaPipeline" else {}
            mask = zeros(1, num_tokens)
            return {"hidden_states": picture, "timestep": timestep, "encoder_attention_mask": mask, **extra, **text}


def run_text_encoder(encoder: Any, parts: Parts) -> None:
    """Run one prompt through it; in a vision-language model, through the language model alone."""
    kind = type(encoder).__name__
    tokens = encoder.config.max_position_embeddings if "CLIP" in kind else TOKENS[parts.pipeline_class][0]
    ids = torch.zeros(1, tokens, dtype=torch.long, device="meta")
    match kind:
        case "T5EncoderModel":
            encoder(input_ids=ids)
        case "Gemma2Model":  # a finished mask: making one needs values
            mask = zeros(1, 1, tokens, tokens)
            masks = {"full_attention": mask, "sliding_attention": mask}
            encoder(input_ids=ids, position_ids=ids, attention_mask=masks, use_cache=False)
        case "Qwen2_5_VLForConditionalGeneration":
            encoder.model.language_model(input_ids=ids, position_ids=ids.expand(3, 1, tokens), use_cache=False)
        case _:
            encoder(input_ids=ids, position_ids=ids)


# What autograd keeps.


class Kept:
    """Bytes of the distinct storages that autograd keeps, without parameters and buffers."""

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


def kept_bytes(denoiser: Any, inputs: dict[str, Any]) -> tuple[int, int]:
    """Bytes kept for the backward of one picture: plain, and at the peak with gradient checkpointing."""
    denoiser.train()
    plain, blocks = Kept(denoiser), []

    def noted(block: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Stands in for checkpointing: recomputes nothing, only notes what the block keeps."""
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
    """Keeps its input and one number a row."""

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
    with ExitStack() as stack:
        for owner, name, function in (
            (functional, "scaled_dot_product_attention", attention),
            (functional, "rms_norm", rms_norm),
            (torch, "rms_norm", rms_norm),
        ):
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, function)
        yield
