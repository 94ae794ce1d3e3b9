"""Counts what a model's memory and time follow from, on its configuration, without weights.

Everything runs on torch's meta device, which computes shapes only, in the precision that a bfloat16 recipe gives each part,
and for one picture or clip. Multiply-accumulates are half of the floating-point operations that torch's FlopCounterMode
sees: matrix products, convolutions and attention. Bytes kept for the backward are the distinct storages that autograd
saves, besides parameters, if only a LoRA of rank 16 is trained. With gradient checkpointing these are the bytes saved
between the blocks, plus those of the largest block: a block's own exist only while it is computed again. Without a
backward, the peak is the most bytes that results of operators hold at once.

Attention and RMS norm are what a GPU would run: on the meta device torch falls back on forms that keep far more.
"""

import hashlib
import inspect
import math
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import diffusers
import numpy as np
import peft
import torch
import transformers
from diffusers import DiffusionPipeline
from diffusers.models.transformers import transformer_hidream_image as hidream
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from mpo.models.families import Configs, family_of_class, size_rule_of
from mpo.models.loading import readable_config, tile_autoencoder
from mpo.recipe import Model
from mpo.sizes import Size, SizeRule, parse_size, size_fields

RANK = 16
# Tokens of a prompt by pipeline: (for T5, Gemma, Qwen, GLM or Llama, cut at the pipeline's default; kept as conditions).
# Qwen-Image does not pad prompts: 64 tokens here, and its template adds 34 that are dropped afterwards. HunyuanVideo's
# template has 95. Z-Image pads them for the language model alone. CogView 4 pads to multiples of 16: 64 here, too.
TOKENS = {
    "StableDiffusion3Pipeline": (256, 256), "FluxPipeline": (512, 512), "SanaPipeline": (300, 300),
    "PixArtSigmaPipeline": (300, 300), "QwenImagePipeline": (98, 64), "QwenImage21Pipeline": (78, 64),
    "CogVideoXPipeline": (226, 226),
    "WanPipeline": (512, 512), "LTXPipeline": (128, 128), "HunyuanVideoPipeline": (351, 256),
    "ZImagePipeline": (512, 64), "Flux2Pipeline": (512, 512), "Flux2KleinPipeline": (512, 512),
    "ChromaPipeline": (512, 512), "Lumina2Pipeline": (256, 256), "CogView4Pipeline": (64, 64),
    "HiDreamImagePipeline": (128, 128),
}  # fmt: skip
DEFAULT_SIZE = 1024  # for pipelines whose network has no sample_size, and whose call no default: FLUX.1 and Qwen-Image
FRAMES_AT_A_TIME = 16  # through an autoencoder of pictures: the families' and the pipelines' own number


@dataclass(frozen=True)
class Parts:
    """A pipeline's networks on the meta device, frozen."""

    pipeline_class: str
    denoiser: Any
    vae: Any
    text_encoders: tuple[Any, ...]
    others: tuple[Any, ...] = ()  # that sampling alone holds: the other of two denoisers, a motion adapter
    options: Mapping[str, Any] = field(default_factory=dict)  # the pipeline's own settings, such as expand_timesteps

    def digest(self) -> str:
        """Equal for models of the same classes with parameters of the same shapes, such as a model and its fine-tunes."""
        sha = hashlib.sha256(self.pipeline_class.encode())
        for part in (self.denoiser, self.vae, *self.text_encoders):
            shapes = sorted(tuple(parameter.shape) for parameter in part.parameters())  # names differ between versions
            sha.update(f"{type(part).__name__}{shapes}".encode())
        return sha.hexdigest()[:16]

    @property
    def family(self) -> Any:
        return family_of_class(self.pipeline_class)

    @property
    def size_rule(self) -> SizeRule:
        configs: Configs = {"denoiser": self.denoiser.config, "vae": self.vae.config}
        return size_rule_of(self.family, configs)

    def pipeline(self) -> Any:
        """The pipeline's class around the networks, without tokenizers, and with any scheduler: what a family's functions take."""
        cls = getattr(diffusers, self.pipeline_class)
        names = inspect.signature(cls.__init__).parameters
        given: dict[str, Any] = {name: None for name, p in names.items() if p.default is p.empty and name != "self"}
        given |= {"unet" if "unet" in names else "transformer": self.denoiser, "vae": self.vae}
        given |= {"processor": NoProcessor()} if "processor" in names else {}
        given["scheduler"] = diffusers.FlowMatchEulerDiscreteScheduler()
        encoders = [name for name in names if name.startswith("text_encoder")]
        given |= dict(zip(encoders, self.text_encoders, strict=False))
        settings = {**self.options, "requires_safety_checker": False}
        return cls(**given | {name: value for name, value in settings.items() if name in names})


class NoProcessor:
    """Stands in for the one that Qwen-Image 2.1 asks, as it is built, which tokens its template has."""

    @property
    def tokenizer(self) -> "NoProcessor":
        return self

    def encode(self, text: str) -> list[int]:
        return [0]

    def apply_chat_template(self, *messages: Any, **options: Any) -> list[list[int]]:
        return [[]]


def build_parts(model: Model) -> Parts:
    """The networks, from the model's small files. Raises ModelNotFoundError, or OfflineError."""
    with readable_config(model) as source:
        index: Any = DiffusionPipeline.load_config(source, revision=model.revision)
        configs: dict[str, tuple[Any, Any]] = {}
        for name, entry in index.items():
            if name in ("unet", "transformer", "vae", "transformer_2", "motion_adapter") and entry[1]:
                cls = getattr(diffusers, entry[1])
                configs[name] = cls, cls.load_config(source, subfolder=name, revision=model.revision)
            elif name.startswith("text_encoder") and entry[1]:
                cls = getattr(transformers, entry[1])
                config = cls.config_class.from_pretrained(source, subfolder=name, revision=model.revision)
                configs[name] = cls, config
    built = {name: build(cls, config) for name, (cls, config) in configs.items()}
    denoiser = built.pop("unet") if "unet" in built else built.pop("transformer")
    vae = built.pop("vae")
    others = tuple(built.pop(name) for name in ("transformer_2", "motion_adapter") if name in built)
    options = {name: value for name, value in index.items() if not name.startswith("_") and not isinstance(value, list)}
    return Parts(index["_class_name"], denoiser, vae, tuple(built.values()), others, options)


def build(cls: Any, config: Any) -> Any:
    """A model of diffusers (config: a mapping) or transformers, without weights, in bfloat16."""
    with torch.device("meta"):
        if isinstance(config, Mapping):
            taken = inspect.signature(cls.__init__).parameters  # diffusers leaves others out, too, with a warning
            model = cls.from_config({name: value for name, value in config.items() if name in taken})
        else:
            config._attn_implementation = "eager"
            model = cls(config)
    return torch.nn.Module.to(model, torch.bfloat16).requires_grad_(False)  # diffusers' own `to` warns at each call


def count(parts: Parts, size: Size | None = None) -> dict[str, Any]:
    """An entry of model_costs.yaml, for pictures or clips of a size; None = the pipeline's own.

    Takes up to a minute for large models. Injects a LoRA into `parts.denoiser`.
    """
    size = size or own_size(parts)
    float32_vae = in_own_precision(parts)
    networks = {"denoiser": (parts.denoiser,), "vae": (parts.vae,), "text_encoders": parts.text_encoders}
    parameters = {name: sum(map(millions, group)) for name, group in (*networks.items(), ("others", parts.others))}
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


def in_own_precision(parts: Parts) -> bool:
    """Bring the autoencoder to float32 if its family keeps it so; whether that was done."""
    float32_vae = "vae" in getattr(parts.family, "FLOAT32_PARTS", ())
    if float32_vae:
        torch.nn.Module.to(parts.vae, torch.float32)
    return float32_vae


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


# Counting.


def millions(model: torch.nn.Module) -> float:
    return sum(parameter.numel() for parameter in model.parameters()) / 1e6


def trained_millions(model: torch.nn.Module) -> float:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad) / 1e6


def measure(call: Callable[[], Any]) -> tuple[float, int]:
    """10^12 multiply-accumulates, and the most bytes that results of operators hold at once."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter, Alive() as alive:
        call()
    return counter.get_total_flops() / 2e12, alive.peak


def peak_bytes(call: Callable[[], Any]) -> int:
    """The second of `measure` alone, in a fifth of the time."""
    with torch.no_grad(), Alive() as alive:
        call()
    return alive.peak


class Alive(TorchDispatchMode):
    """Bytes of the storages that operators have made and that still exist."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.bytes = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                if storage._cdata not in self.sizes and storage._cdata not in given:
                    self.sizes[storage._cdata] = storage.nbytes()
                    self.bytes += storage.nbytes()
                    weakref.finalize(storage, self._freed, storage._cdata)
        self.peak = max(self.peak, self.bytes)
        return result

    def _freed(self, key: int) -> None:
        self.bytes -= self.sizes.pop(key)


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


# What goes into the networks.


def zeros(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.zeros(*shape, dtype=dtype, device="meta")


def own_size(parts: Parts) -> Size:
    """Of the pipeline's own pictures or clips: as its network's configuration or its call says."""
    rule, pipeline, config = parts.size_rule, parts.pipeline(), parts.denoiser.config
    defaults = inspect.signature(type(pipeline).__call__).parameters
    scale = getattr(pipeline, "vae_scale_factor_spatial", None) or getattr(pipeline, "vae_scale_factor", 1)
    square = getattr(config, "sample_size", None)

    def side(name: str) -> int:
        latents = getattr(config, f"sample_{name}", None) or square
        return latents * scale if latents else defaults[name].default or DEFAULT_SIZE

    if rule.kind == "image":
        return rule.nearest(Size(side("width"), side("height")))
    frames = getattr(config, "sample_frames", None) or defaults["num_frames"].default
    return rule.nearest(Size(side("width"), side("height"), frames, rule.fps))


@torch.no_grad()
def encoded(parts: Parts, pipeline: Any, size: Size) -> Tensor:
    """Latents of one picture or clip, by the family's own function."""
    frames = () if size.frames is None else (size.frames,)
    pixels = zeros(1, *frames, 3, size.height, size.width, dtype=torch.float32)
    return parts.family.encode_media(pipeline, pixels).to(torch.bfloat16)


def latent_axes(vae: Any, latents: Tensor) -> Tensor:
    """Latents of one picture or clip as the families have them -> as the autoencoder takes them."""
    channels = getattr(vae.config, "latent_channels", None) or vae.config.z_dim
    if latents.ndim == 4 and latents.shape[1] == 4 * channels:  # FLUX.2's: in patches
        return torch.nn.functional.pixel_shuffle(latents, 2)
    of_clips = any(isinstance(layer, torch.nn.Conv3d) for layer in vae.modules()) or "temperal_downsample" in vae.config
    if not of_clips:  # frames are a batch
        return latents if latents.ndim == 4 else latents[0].movedim(1, 0)
    if latents.ndim == 4:  # a picture by an autoencoder of clips
        return latents.unsqueeze(2)
    return latents if latents.shape[1] == channels else latents.movedim(2, 1)


def decode_latents(vae: Any, latents: Tensor) -> None:
    whole = latent_axes(vae, latents).to(vae.dtype)
    for chunk in whole.split(FRAMES_AT_A_TIME):
        if getattr(vae.config, "timestep_conditioning", False):
            vae.decode(chunk, zeros(1))
        else:
            vae.decode(chunk)


def frames_a_latent(parts: Parts, size: Size, latents: Tensor) -> float:
    """Frames that become one of the latents, after the first; 1 for pictures."""
    if size.frames is None:
        return 1.0
    shape = latent_axes(parts.vae, latents).shape
    num_latents = shape[0] if len(shape) == 4 else shape[2]
    return (size.frames - 1) / max(1, num_latents - 1)


def conditioning_shapes(parts: Parts) -> dict[str, tuple[int, ...]]:
    """Shapes of one prompt's conditioning, as the denoiser takes it, without masks."""
    configs = [encoder.config for encoder in parts.text_encoders]
    kept = TOKENS.get(parts.pipeline_class, (0, 0))[1]
    network = parts.denoiser.config
    match parts.pipeline_class:
        case "StableDiffusionPipeline" | "AnimateDiffPipeline":
            return {"encoder_hidden_states": (configs[0].max_position_embeddings, configs[0].hidden_size)}
        case "StableDiffusionXLPipeline":
            width = sum(config.hidden_size for config in configs)
            return {
                "encoder_hidden_states": (configs[0].max_position_embeddings, width),
                "text_embeds": (configs[-1].projection_dim,),
            }
        case "StableDiffusion3Pipeline":
            return {
                "encoder_hidden_states": (configs[0].max_position_embeddings + kept, network.joint_attention_dim),
                "pooled_projections": (network.pooled_projection_dim,),
            }
        case "FluxPipeline":
            return {
                "encoder_hidden_states": (kept, network.joint_attention_dim),
                "pooled_projections": (network.pooled_projection_dim,),
            }
        case "HunyuanVideoPipeline":
            return {
                "encoder_hidden_states": (kept, network.text_embed_dim),
                "pooled_projections": (network.pooled_projection_dim,),
            }
        case "HiDreamImagePipeline":
            t5, llama = network.caption_channels
            return {
                "encoder_hidden_states_t5": (kept, t5),
                "encoder_hidden_states_llama3": (configs[-1].num_hidden_layers, kept, llama),
                "pooled_embeds": (network.text_emb_dim,),
            }
        case "QwenImagePipeline" | "ChromaPipeline" | "Flux2Pipeline" | "Flux2KleinPipeline":
            return {"encoder_hidden_states": (kept, network.joint_attention_dim)}
        case "QwenImage21Pipeline":
            return {"encoder_hidden_states": (kept, network.context_in_dim)}
        case _:
            names = ("caption_channels", "text_embed_dim", "text_dim", "cap_feat_dim")
            width = next(getattr(network, name) for name in names if hasattr(network, name))
            return {"encoder_hidden_states": (kept, width)}


def predict(parts: Parts, pipeline: Any, latents: Tensor) -> Tensor:
    """One forward of the denoiser, by the family's own function."""
    shapes = conditioning_shapes(parts)
    conditioning = {name: zeros(1, *shape) for name, shape in shapes.items()}
    num_tokens = next(iter(shapes.values()))[0]
    conditioning |= {
        "encoder_attention_mask": zeros(1, num_tokens),
        "encoder_hidden_states_mask": torch.ones(1, num_tokens),  # asked for its values: not on the meta device
        "guidance": zeros(1, dtype=torch.float32),
        "fps": zeros(1, dtype=torch.float32),
    }
    if parts.pipeline_class == "Lumina2Pipeline":  # asked for its values, too
        conditioning["encoder_attention_mask"] = torch.ones(1, num_tokens, dtype=torch.long)
    if not getattr(parts.denoiser.config, "guidance_embeds", False):
        del conditioning["guidance"]
    return parts.family.predict(pipeline, latents, zeros(1, dtype=torch.float32), conditioning)


def run_text_encoder(encoder: Any, parts: Parts) -> None:
    """Run one prompt through it; in a vision-language model, through the language model alone."""
    kind = type(encoder).__name__
    tokens = encoder.config.max_position_embeddings if "CLIP" in kind else TOKENS[parts.pipeline_class][0]
    ids = torch.zeros(1, tokens, dtype=torch.long, device="meta")
    match kind:
        case "T5EncoderModel" | "UMT5EncoderModel":
            encoder(input_ids=ids)
        case "Gemma2Model":  # a finished mask: making one needs values
            mask = zeros(1, 1, tokens, tokens)
            masks = {"full_attention": mask, "sliding_attention": mask}
            encoder(input_ids=ids, position_ids=ids, attention_mask=masks, use_cache=False)
        case (
            "LlamaModel" | "LlamaForCausalLM" | "GlmModel" | "GlmForCausalLM" | "Qwen3Model" | "Qwen3ForCausalLM"
            | "Mistral3ForConditionalGeneration"
        ):  # fmt: skip
            mask = zeros(1, 1, tokens, tokens)
            encoder(input_ids=ids, position_ids=ids, attention_mask=mask, use_cache=False)
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


def kept_bytes(denoiser: Any, forward: Callable[[], Any]) -> tuple[int, int]:
    """Bytes kept for the backward of one forward: plain, and at the peak with gradient checkpointing."""
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
        forward()
    denoiser.enable_gradient_checkpointing()
    between = Kept(denoiser)
    with between.hooks():
        forward()
    return plain.bytes, between.bytes + max(blocks)


# What a GPU would run.


def attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False, **_: Any,
) -> Tensor:  # fmt: skip
    """Flash attention without a mask and for heads up to 256, else the memory-efficient one."""
    if enable_gqa and key.shape[-3] != query.shape[-3]:
        repeats = query.shape[-3] // key.shape[-3]
        key, value = key.repeat_interleave(repeats, -3), value.repeat_interleave(repeats, -3)
    aten = torch.ops.aten
    if attn_mask is None and query.shape[-1] <= 256:
        return aten._scaled_dot_product_flash_attention(query, key, value, 0.0, is_causal, False, scale=scale)[0]
    mask = None if attn_mask is None else attn_mask.to(query).expand(*query.shape[:3], key.shape[2])
    return aten._scaled_dot_product_efficient_attention(query, key, value, mask, True, 0.0, False, scale=scale)[0]


class FusedRMSNorm(torch.autograd.Function):
    """Keeps its input and one number a row."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, zeros(*x.shape[:-1], 1, dtype=torch.float32), *([] if weight is None else [weight]))
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx: Any, *grad: Any) -> Any:
        return grad[0], None


def even_experts(layer: Any, x: Tensor) -> Tensor:
    """HiDream's experts with equal shares of the tokens: which token goes where depends on values."""
    _, weights, _ = layer.gate(x)
    tokens = x.flatten(0, -2).repeat_interleave(layer.num_activated_experts, dim=0)
    shares = zip(layer.experts, tokens.tensor_split(len(layer.experts)), strict=True)
    made = torch.cat([expert(share) for expert, share in shares])
    mixed = (made.view(*weights.shape, -1) * weights.unsqueeze(-1)).sum(dim=1)
    return mixed.view_as(x) + layer.shared_experts(x)


own_patchify = hidream.HiDreamImageTransformer2DModel.patchify


def patchify(network: Any, latents: Tensor) -> tuple[Any, ...]:
    """HiDream's, with sizes as numbers: cutting pictures from patches asks for their values."""
    patches, masks, _, ids = own_patchify(network, latents)
    sizes = [tuple(side // network.config.patch_size for side in latents.shape[-2:])] * len(latents)
    return patches, masks, sizes, ids


@contextmanager
def kernels_of_a_gpu() -> Iterator[None]:
    def rms_norm(x: Tensor, shape: Any, weight: Tensor | None = None, eps: float | None = None) -> Tensor:
        return FusedRMSNorm.apply(x, weight)  # type: ignore[return-value]

    def where(condition: Tensor, *values: Any) -> Tensor:  # a condition whose values the network asked for, so not meta
        on_meta = any(isinstance(value, Tensor) and value.is_meta for value in values)
        return original(condition.to("meta") if on_meta else condition, *values)

    original = torch.where
    functional = torch.nn.functional
    with ExitStack() as stack:
        for owner, name, function in (
            (functional, "scaled_dot_product_attention", attention),
            (functional, "rms_norm", rms_norm),
            (torch, "rms_norm", rms_norm),
            (torch, "where", where),
            (hidream.MOEFeedForwardSwiGLU, "forward", even_experts),
            (hidream.HiDreamImageTransformer2DModel, "patchify", patchify),
        ):
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, function)
        yield
