"""Loading a diffusion model: the shipped one by name, a folder, a hub id, or one .safetensors file."""

import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import DiffusionPipeline
from diffusers.loaders.single_file_utils import (
    LDM_VAE_KEYS,
    SingleFileComponentError,
    fetch_diffusers_config,
    is_clip_model_in_single_file,
    is_t5_in_single_file,
)
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError, safe_open
from transformers.utils import logging as transformers_logging

from mpo import MpoError
from mpo.models import SHIPPED
from mpo.models.families import family_of_class
from mpo.models.offloading import offload_networks
from mpo.models.quantization import quantize
from mpo.recipe import Model
from mpo.runtime.hub import OfflineError, is_hub_id, is_offline
from mpo.runtime.processes import this_device
from reward.errors import first_line


class ModelNotFoundError(MpoError):
    """A path that holds no model, or a hub id that does not exist."""


def resolve(model: Model) -> str:
    """The folder, file or hub id behind a recipe's `model.path`."""
    return str(SHIPPED.get(model.path, model.path))


def config_source(model: Model) -> str:
    """The folder or hub id that holds the model's small files. Raises ModelNotFoundError.

    For one file this is `model.config`, which may also hold weights that the file lacks; without it, the hub id of the architecture that diffusers recognizes in the file.
    """
    if not model.is_one_file:
        return resolve(model)
    if not Path(model.path).is_file():
        raise ModelNotFoundError(
            f"model.path={model.path!r} does not exist; give a .safetensors file, a folder, or a hub id"
        )
    return model.config or fetch_diffusers_config(_shapes(model.path))["pretrained_model_name_or_path"]


def _shapes(path: str) -> dict[str, torch.Tensor]:
    """What one file holds, as tensors without values; its header has names and shapes. Raises ModelNotFoundError."""
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118  no mapping
    except (OSError, SafetensorError) as error:
        raise ModelNotFoundError(
            f"model.path={path!r} is not a complete .safetensors file ({error}); download it again"
        ) from None
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def family_of_index(index: Mapping[str, Any]) -> Any:
    """The family of a pipeline's index. Raises MpoError listing those known."""
    return family_of_class(str(index["_class_name"]))


def load_index(model: Model) -> dict[str, Any]:
    """The pipeline's class, and its parts' classes by name. Raises ModelNotFoundError, or OfflineError."""
    with readable_config(model) as source:
        index: Any = DiffusionPipeline.load_config(source, revision=model.revision)
    return dict(index)


def load_configs(model: Model) -> dict[str, dict[str, Any]]:
    """The configurations of the pipeline's "denoiser", "vae" and "scheduler". Raises as `load_index` does.

    Of the two networks with their class's defaults for what the files leave out: those may be older than a setting. A scheduler's are
    left open, since another class that takes its place has defaults of its own.
    """
    index = load_index(model)
    names = {"denoiser": denoiser_in(index, model), "vae": "vae", "scheduler": "scheduler"}
    classes = {part: getattr(diffusers, index[name][1]) for part, name in names.items()}
    with readable_config(model) as source:
        found = {
            part: dict(each.load_config(source, subfolder=names[part], revision=model.revision))
            for part, each in classes.items()
        }
    return {part: held if part == "scheduler" else _defaults(classes[part]) | held for part, held in found.items()}


def _defaults(network: Any) -> dict[str, Any]:
    parameters = inspect.signature(network.__init__).parameters
    return {name: each.default for name, each in parameters.items() if each.default is not each.empty}


def has_two_experts(index: Mapping[str, Any]) -> bool:
    """Whether a pipeline has a network for high noise and another for low noise, as Wan 2.2 A14B has."""
    return index.get("boundary_ratio") is not None


def denoiser_in(index: Mapping[str, Any], model: Model) -> str:
    """The name of the pipeline's network that is tuned."""
    if model.expert == "low":
        return "transformer_2"
    return "transformer" if "transformer" in index else "unet"


@contextmanager
def readable_config(model: Model) -> Iterator[str]:
    """Yields `config_source`; turns errors from reading the small files into one line. Raises as `load_index` does."""
    source = config_source(model)
    on_hub = is_hub_id(source)
    offline = on_hub and is_offline()
    field = "config" if model.config else "path"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The `local_dir_use_symlinks` argument")  # diffusers' own call
            yield source
    except (OSError, ValueError) as error:
        if isinstance(error, MpoError):
            raise
        if offline and model.is_one_file and not model.config:
            raise OfflineError(
                f"model.path={model.path!r} looks like {source}, whose configuration is not in the local cache, and the hub cannot be reached (offline?); connect, or name a local pipeline's folder in model.config"
            ) from None
        if offline:
            raise OfflineError.of(f"model.{field}", source) from None
        remedy = "'embedded', a folder with a model_index.json, a hub id, or a .safetensors file"
        if model.config:
            remedy = "the folder or hub id of a diffusers pipeline"
        raise ModelNotFoundError(
            f"model.{field}={getattr(model, field)!r} cannot be loaded ({first_line(error)}); give {remedy}"
        ) from None


def load_pipeline(model: Model, *, without: Sequence[str] = (), device: str | None = None) -> Any:
    """The pipeline in evaluation mode, its own progress bar off, without a safety checker.

    without: parts that are not needed and not loaded: "denoiser", "text_encoders", "other_expert" (the network that is not
    tuned, of two). device: None = this process's; else nothing is offloaded.
    """
    index = load_index(model)
    family = family_of_index(index)  # or an error that lists those known
    names = [name for name, part in index.items() if not name.startswith("_") and isinstance(part, (list, tuple))]
    tuned = denoiser_in(index, model)
    experts = ("transformer", "transformer_2")
    groups = {
        "denoiser": [name for name in names if name in ("unet", *experts, "motion_adapter")],
        "other_expert": [name for name in names if name in experts and name != tuned],
        "text_encoders": [name for name in names if name.startswith(("text_encoder", "tokenizer"))],
    }
    absent: dict[str, Any] = {name: None for group in without for name in groups[group]}
    if "safety_checker" in names:  # paints pictures black, which would then be judged and trained on
        absent |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    dtype: Any = getattr(torch, model.dtype)
    if float32_parts := getattr(family, "FLOAT32_PARTS", ()):
        dtype = {"default": dtype, **dict.fromkeys(float32_parts, torch.float32)}
    options = {"revision": model.revision, "dtype": dtype, **absent}
    # Of the class that has them: DiffusionPipeline would load parts that it does not know to be optional, though they are None.
    pipeline_class = getattr(diffusers, index["_class_name"])
    try:
        with _without_chatter(model):
            if model.is_one_file:
                parts = _parts_beside_the_file(model, {name: index[name] for name in names if name not in absent})
                pipeline = pipeline_class.from_single_file(model.path, config=config_source(model), **options, **parts)
            else:
                pipeline = pipeline_class.from_pretrained(resolve(model), use_safetensors=True, **options)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, SingleFileComponentError) as error:
        text = str(error).partition("\nPlease load the component")[0]  # advice for those who call diffusers themselves
        reason = " ".join(text.split())
        remedy = "the folder or download is incomplete"
        if model.is_one_file:
            remedy = "give model.config a pipeline of the same architecture, as a folder with the weights that the file lacks"
        raise MpoError(f"model.path={model.path!r} cannot be loaded ({reason}); {remedy}") from error
    if "denoiser" in without:  # some families need its configuration, such as how many frames are in a patch
        pipeline.denoiser_config = load_configs(model)["denoiser"]
    if model.expert:
        pipeline.tuned_network = tuned
    if model.vae_tiling:
        tile_autoencoder(pipeline.vae)
    pipeline.set_progress_bar_config(disable=True)
    offloads = model.offload is not None and device is None
    device = device or str(this_device())
    for part, how in model.quantization.model_dump().items():
        for name in groups[part]:
            network = getattr(pipeline, name, None)
            if how and isinstance(network, torch.nn.Module):
                quantize(network, how, device)
    if offloads:
        offload_networks(pipeline, device)
        return pipeline
    return pipeline.to(device)


def tile_autoencoder(vae: Any) -> None:
    """Make an autoencoder work in tiles, and if it can, in groups of frames."""
    vae.enable_tiling()
    if hasattr(vae, "use_framewise_encoding"):  # LTX-Video's encoder asks the second
        vae.use_framewise_encoding = vae.use_framewise_decoding = True


def _parts_beside_the_file(model: Model, parts: Mapping[str, Any]) -> dict[str, Any]:
    """Autoencoder and text encoders that the file lacks (files of FLUX.1 and SD 3 often do), from `config_source`.

    parts: (library, class) by name.
    """
    held, found = _shapes(model.path), {}
    for name, (_, class_name) in parts.items():
        if name == "vae":
            cls, is_held = getattr(diffusers, class_name), any(key.startswith(tuple(LDM_VAE_KEYS)) for key in held)
        elif name.startswith("text_encoder") and class_name:
            cls = getattr(transformers, class_name)
            is_held = is_clip_model_in_single_file(cls, held)
            if "T5" in class_name:
                is_held = is_t5_in_single_file(held)
        else:
            continue
        if not is_held:
            found[name] = cls.from_pretrained(
                config_source(model), subfolder=name, revision=model.revision, dtype=getattr(torch, model.dtype),
                use_safetensors=True,
            ).eval()  # fmt: skip
    return found


@contextmanager
def _without_chatter(model: Model) -> Iterator[None]:
    """Silences the libraries' progress bars, and for embedded models the warning that their autoencoder is small."""
    verbosity = diffusers_logging.get_verbosity()
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    if model.path in SHIPPED:
        diffusers_logging.set_verbosity_error()
    try:
        yield
    finally:
        diffusers_logging.set_verbosity(verbosity)
        diffusers_logging.enable_progress_bar()
        transformers_logging.enable_progress_bar()
