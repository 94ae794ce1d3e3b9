"""Checkpoints of training: safetensors and JSON, a folder each, which appears when all is in it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file, save_file

from mpo import MpoError
from mpo.models.lora import load_lora, lora_state
from mpo.run_folder.files import replacing
from mpo.run_folder.paths import RunFolder


def checkpoint_folder(run: RunFolder, step: int) -> Path:
    return run.checkpoints / f"step-{step:06d}"


def last_checkpoint(run: RunFolder) -> int:
    """The newest one's step; 0 where there is none."""
    return max((int(folder.name.removeprefix("step-")) for folder in run.checkpoints.glob("step-*")), default=0)


def result_of(run: RunFolder) -> int:
    """The step whose checkpoint is the result: the best by validation, else the last.

    Raises MpoError where training has not finished.
    """
    if not run.trained.is_file():
        raise MpoError(f"{run.trained} is missing; run `mpo train {run.folder}` first")
    return json.loads(run.trained.read_text("utf-8"))["result_step"]


def final_lora(run: RunFolder) -> Path:
    """The trained LoRA under peft's names: of the result, its running mean where one was kept."""
    return lora_file(checkpoint_folder(run, result_of(run)))


def lora_file(folder: Path) -> Path:
    """What a checkpoint is judged by: the running mean where one was kept, else the weights as they stood."""
    mean = folder / "ema.safetensors"
    return mean if mean.exists() else folder / "lora.safetensors"


def save_checkpoint(
    run: RunFolder,
    step: int,
    denoiser: Any,
    optimizer: Any,
    schedule: Any,
    ema: EMAModel | None,
    accelerator: Accelerator,
) -> None:
    """LoRA, its running mean, optimizer state, counters. Called by every process; the main one writes."""
    lora = lora_state(denoiser)
    mean = ema_state(denoiser, ema)
    tensors, values = split_state(optimizer.state_dict()["state"])
    if not accelerator.is_main_process:
        return
    with replacing(checkpoint_folder(run, step)) as folder:
        folder.mkdir()
        save_file(lora, folder / "lora.safetensors")
        if mean is not None:
            save_file(mean, folder / "ema.safetensors")
        save_file(tensors, folder / "optimizer.safetensors")
        kept = ("base_lrs", "last_epoch", "_step_count", "_last_lr")
        counters = {
            "step": step,
            "schedule": {key: value for key, value in schedule.state_dict().items() if key in kept},
            "optimizer": values,
            "ema_steps": ema.optimization_step if ema else None,
            "scaler": accelerator.scaler.state_dict() if accelerator.scaler else None,
        }
        (folder / "state.json").write_text(json.dumps(counters, indent=2) + "\n", "utf-8")


def restore_checkpoint(
    folder: Path, denoiser: Any, optimizer: Any, schedule: Any, ema: EMAModel | None, accelerator: Accelerator
) -> None:
    """The inverse of `save_checkpoint`, in every process."""
    load_lora(denoiser, folder / "lora.safetensors")
    counters = json.loads((folder / "state.json").read_text("utf-8"))
    state = join_state(load_file(folder / "optimizer.safetensors"), counters["optimizer"])
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    schedule.load_state_dict(schedule.state_dict() | counters["schedule"])
    for group, rate in zip(optimizer.param_groups, counters["schedule"]["_last_lr"], strict=True):
        group["lr"] = rate
    if ema is not None:
        mean = load_file(folder / "ema.safetensors")
        for name, shadow in zip(_trained_names(denoiser), ema.shadow_params, strict=True):
            shadow.copy_(mean[_peft_name(name)])
        ema.optimization_step = counters["ema_steps"]
    if accelerator.scaler and counters["scaler"]:
        accelerator.scaler.load_state_dict(counters["scaler"])


def ema_state(denoiser: Any, ema: EMAModel | None) -> dict[str, torch.Tensor] | None:
    """The running mean under the names of `lora_state`."""
    if ema is None:
        return None
    names = _trained_names(denoiser)
    shadows = zip(names, ema.shadow_params, strict=True)
    return {_peft_name(name): shadow.detach().cpu().contiguous() for name, shadow in shadows}


def _trained_names(denoiser: Any) -> list[str]:
    return [name for name, parameter in denoiser.named_parameters() if parameter.requires_grad]


def _peft_name(name: str) -> str:
    return name.replace(".default.", ".")


def split_state(state: dict[int, dict[str, Any]]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """An optimizer's state as tensors and other values, each by "PARAMETER.NAME", or "PARAMETER.GROUP.NAME" if nested."""
    entries = dict(_flatten(state))
    tensors = {name: value.cpu().contiguous() for name, value in entries.items() if isinstance(value, torch.Tensor)}
    return tensors, {name: value for name, value in entries.items() if name not in tensors}


def _flatten(nested: dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in nested.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def join_state(tensors: dict[str, torch.Tensor], values: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """The inverse of `split_state`."""
    state: dict[int, dict[str, Any]] = {}
    for name, value in {**tensors, **values}.items():
        index, *groups, key = name.split(".")
        entry = state.setdefault(int(index), {})
        for group in groups:
            entry = entry.setdefault(group, {})
        entry[key] = value
    return state
