"""What judges that load a model from a folder or the hub share."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, BitsAndBytesConfig
from transformers.utils import find_adapter_config_file

from reward.errors import JudgeError, first_line
from reward.judges.options import (
    ClipScoreOptions,
    CogVLM2Options,
    HPSv3Options,
    ImageRewardOptions,
    MeasuredOptions,
    Options,
    PickScoreOptions,
    ServerOptions,
    VideoRewardOptions,
    VlmOptions,
    VqaScoreOptions,
    check_options,
)
from reward.judges.own import is_own

LOADING_ERRORS = (OSError, ValueError, ImportError, AttributeError, KeyError)  # what from_pretrained raises
BUILDING_ERRORS = (*LOADING_ERRORS, NotImplementedError, RuntimeError)  # what the meta device lacks among them
# How far the log-odds of a fast mode may be from those of "sequential" before it is rejected. Rounding alone gives
# about 1e-5 in float32 and up to a few tenths in bfloat16.
TOLERANCE = {torch.float32: 0.01, torch.float64: 0.01, torch.bfloat16: 0.5, torch.float16: 0.5}


def loading_options(device_map: Any, quantization: str | None, **others: Any) -> dict[str, Any]:
    """Keywords for from_pretrained. device_map None = the first GPU if there is one, else the CPU; quantization: bitsandbytes.

    Other keywords are left out if None.
    """
    options = {name: value for name, value in others.items() if value is not None}
    if device_map is None and torch.cuda.is_available():
        device_map = {"": torch.cuda.current_device()}
    if device_map is not None:
        options["device_map"] = device_map
    if quantization == "4bit":
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
        )
    elif quantization == "8bit":
        options["quantization_config"] = BitsAndBytesConfig(load_in_8bit=True)
    return options


def count_parameters(name: str, options: Mapping[str, Any]) -> int:
    """How many parameters a judge's model has, from its configuration; no weights are loaded, and no memory is used.

    0 for the judges that load no model here. An adapter's own parameters do not count.
    Raises JudgeError if an option is wrong, if the configuration cannot be read, as without the hub, and for judges of one's own.
    """
    if is_own(name):
        raise JudgeError("a judge of one's own does not say how many it has")
    checked = check_options(name, options)
    if isinstance(checked, (MeasuredOptions, ServerOptions)):
        return 0
    try:
        return sum(each.numel() for each in build_without_weights(checked).parameters())
    except BUILDING_ERRORS as error:
        raise JudgeError(
            f"the size of model={getattr(checked, 'model', name)!r} is unknown ({first_line(error)})"
        ) from error


def build_without_weights(options: Options) -> Any:
    """A judge's network on the meta device, which takes no memory; of an adapter, its base. Raises BUILDING_ERRORS."""
    if not isinstance(options, (VlmOptions, CogVLM2Options)):
        return _build_scorer(options)
    model, revision = options.model, options.revision
    auto_class: Any = AutoModelForImageTextToText if isinstance(options, VlmOptions) else AutoModelForCausalLM
    trusted = {"trust_remote_code": options.trust_remote_code}
    adapter = find_adapter_config_file(model, revision=revision)
    if adapter is not None:
        model, revision = json.loads(Path(adapter).read_text("utf-8"))["base_model_name_or_path"], None
    config = AutoConfig.from_pretrained(model, revision=revision or "main", **trusted)
    with torch.device("meta"):
        return auto_class.from_config(config, **trusted)


def _build_scorer(options: Options) -> Any:
    """A scorer's network on the meta device."""
    with torch.device("meta"):
        match options:  # each case imports only what it needs
            case ImageRewardOptions():
                from reward.judges.scorers.imagereward import build_without_weights as build
            case ClipScoreOptions() | PickScoreOptions():
                from reward.judges.scorers.clip import build_without_weights as build
            case HPSv3Options():
                from reward.judges.scorers.hpsv3 import build_without_weights as build
            case VideoRewardOptions():
                from reward.judges.scorers.videoreward import build_without_weights as build
            case VqaScoreOptions():
                from reward.judges.scorers.vqascore import build_without_weights as build
            case _:
                raise ValueError("it loads no network")
        return build(options)  # type: ignore[arg-type]


def weights_digest(model: Any) -> str:
    """Digest over 256 values of every weight, spread evenly: tells tuned from untuned weights without reading all.

    For offloaded weights, which are not in memory, the path that the model was loaded from is hashed instead.
    """
    sha = hashlib.sha256(str(model.dtype).encode())
    for name, value in model.state_dict().items():
        sha.update(f"{name}{tuple(value.shape)}".encode())
        if value.device.type == "meta":
            sha.update(f"{model.config._name_or_path}{getattr(model.config, '_commit_hash', None)}".encode())
            continue
        flat = value.detach().flatten()
        sample = flat[:: max(1, len(flat) // 256)].cpu()
        sha.update((sample.float() if sample.is_floating_point() else sample).numpy().tobytes())
    return sha.hexdigest()
