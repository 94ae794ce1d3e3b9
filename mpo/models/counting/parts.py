"""A pipeline's networks on the meta device, from its small files."""

import hashlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import diffusers
import torch
import transformers
from diffusers import DiffusionPipeline

from mpo.models.families import Configs, family_of_class, size_rule_of
from mpo.models.loading import readable_config
from mpo.recipe import Model
from mpo.sizes import Size, SizeRule

DEFAULT_SIZE = 1024  # for pipelines whose network has no sample_size, and whose call no default: FLUX.1 and Qwen-Image


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


def in_own_precision(parts: Parts) -> bool:
    """Bring the autoencoder to float32 if its family keeps it so; whether that was done."""
    float32_vae = "vae" in getattr(parts.family, "FLOAT32_PARTS", ())
    if float32_vae:
        torch.nn.Module.to(parts.vae, torch.float32)
    return float32_vae


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
