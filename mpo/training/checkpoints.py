"""Checkpoints of training: safetensors and JSON, a folder each, which appears once it is complete.

Its state.json holds the digests of the other files, and of the training log up to its step.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file

from mpo import MpoError
from mpo.models.lora import load_lora, lora_state
from mpo.run_folder.files import read_lines, replacing, sha256, write_lines
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tensors import write_tensors
from mpo.runtime.processes import barrier, is_main
from mpo.runtime.progress import say
from mpo.training.checkpoint_files import (
    EMA,
    checkpoint_folder,
    last_checkpoint,
    read_state,
    seal,
    start_of,
    unvalidated_steps,
)
from mpo.training.setup import Training
from mpo.training.validation_log import Validated, read_validations


def save_checkpoint(t: Training, step: int) -> None:
    """LoRA, its running mean, optimizer state, counters. Called by every process, which waits; the main one writes."""
    lora = lora_state(t.denoiser)
    mean = ema_state(t.denoiser, t.ema)
    tensors, values = split_state(t.optimizer.state_dict()["state"])
    if is_main():
        with replacing(checkpoint_folder(t.run, step)) as folder:
            folder.mkdir()
            write_tensors(folder / "lora.safetensors", lora)
            if mean is not None:
                write_tensors(folder / EMA, mean)
            write_tensors(folder / "optimizer.safetensors", tensors)
            kept = ("base_lrs", "last_epoch", "_step_count", "_last_lr")
            scaler = t.accelerator.scaler
            state = {
                "step": step,
                "schedule": {key: value for key, value in t.schedule.state_dict().items() if key in kept},
                "optimizer": values,
                "ema_steps": t.ema.optimization_step if t.ema else None,
                "scaler": scaler.state_dict() if scaler else None,
                "training_log": sha256(t.run.training_log),
                "files": {file.name: sha256(file) for file in sorted(folder.iterdir())},
            }
            (folder / "state.json").write_text(json.dumps(seal(state), indent=2) + "\n", "utf-8")
    barrier()


def resume(t: Training) -> tuple[int, list[dict[str, Any]], list[Validated]]:
    """Continue from the newest checkpoint up to train.num_steps: its step, and the logs up to it. (0, [], []) if there is none.

    Later checkpoints, of a run that was longer before, stay and are not used.
    Raises MpoError if the checkpoint or a log is damaged, or more steps were taken and none has a checkpoint at num_steps.
    """
    step = start_of(t.run, t.recipe.train.num_steps)
    if step:
        restore_checkpoint(t, step)
        check_log(t.run, step)
        check_validations(t)
    if step < last_checkpoint(t.run):
        say(
            f"train: ends at the checkpoint of step {step}; those of later steps, to {last_checkpoint(t.run)}, are not used"
        )
    return step, *trim_logs(t.run, step)


def restore_checkpoint(t: Training, step: int) -> None:
    """The inverse of `save_checkpoint`, in every process. Raises MpoError if the checkpoint does not fit the recipe."""
    folder = checkpoint_folder(t.run, step)
    state = read_state(folder)
    load_lora(t.denoiser, folder / "lora.safetensors")
    moments = join_state(load_file(folder / "optimizer.safetensors"), state["optimizer"])
    t.optimizer.load_state_dict({"state": moments, "param_groups": t.optimizer.state_dict()["param_groups"]})
    t.schedule.load_state_dict(t.schedule.state_dict() | state["schedule"])
    for group, rate in zip(t.optimizer.param_groups, state["schedule"]["_last_lr"], strict=True):
        group["lr"] = rate
    if t.ema is not None:
        if EMA not in state["files"]:
            raise MpoError(
                f"{folder} has no running mean, which train.ema_decay needs; set it to null, or run `mpo train {t.run.folder} --redo`"
            )
        mean = load_file(folder / EMA)
        for name, shadow in zip(_trained_names(t.denoiser), t.ema.shadow_params, strict=True):
            shadow.copy_(mean[_peft_name(name)])
        t.ema.optimization_step = state["ema_steps"]
    if t.accelerator.scaler and state["scaler"]:
        t.accelerator.scaler.load_state_dict(state["scaler"])


def check_log(run: RunFolder, step: int) -> None:
    """Raises MpoError if training.jsonl up to a step is not what it was when the step's checkpoint was written."""
    lines = [json.dumps(record) + "\n" for record in read_lines(run.training_log) if record.get("step", 0) <= step]
    found = hashlib.sha256("".join(lines).encode()).hexdigest()
    if found != read_state(checkpoint_folder(run, step))["training_log"]:
        raise MpoError(
            f"{run.training_log} is not what it was at step {step}: lines are lost or changed; put it back, or run `mpo train {run.folder} --redo`, which trains again"
        )


def check_validations(t: Training) -> None:
    """Raises MpoError if validation.jsonl has lost a step: another checkpoint might then pass for the best."""
    settings = t.recipe.validation
    lost = unvalidated_steps(t.run, settings.interval_steps) if settings else []
    if lost:
        raise MpoError(
            f"{t.run.validation_log} has lost the validation of step {lost[0]}; run `mpo train {t.run.folder} --repair`, which continues from before it"
        )


def trim_logs(run: RunFolder, step: int) -> tuple[list[dict[str, Any]], list[Validated]]:
    """training.jsonl and validation.jsonl up to a step.

    Drops from the files half a line of a killed run, and what is past the last checkpoint: this run repeats those steps.
    """
    last = max(step, last_checkpoint(run))
    trained = [record for record in read_lines(run.training_log) if record.get("step", 0) <= last]
    validated = [record for record in read_validations(run) if record.step <= last]
    timed = [record for record in read_lines(run.timing_log) if record.get("step", 0) <= last]
    barrier()  # all must have read what the main process rewrites
    if is_main():
        write_lines(run.training_log, trained)
        write_lines(run.timing_log, timed)
        if run.validation_log.exists():
            write_lines(run.validation_log, map(vars, validated))
    barrier()
    return [record for record in trained if record.get("step", 0) <= step], [v for v in validated if v.step <= step]


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
