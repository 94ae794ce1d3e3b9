"""Where checkpoints are, and whether they are complete. What is in them: `mpo.training.checkpoints`."""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mpo import MpoError
from mpo.run_folder.files import read_json, read_lines, sha256
from mpo.run_folder.paths import RunFolder

FOLDER = re.compile(r"step-(\d{6,})")
EMA = "ema.safetensors"  # the running mean of the LoRA


def checkpoint_folder(run: RunFolder, step: int) -> Path:
    return run.checkpoints / f"step-{step:06d}"


def checkpoint_steps(run: RunFolder) -> list[int]:
    """Steps that have a checkpoint, in order. Folders of other names, such as a copy made by hand, are ignored."""
    found = [FOLDER.fullmatch(folder.name) for folder in run.checkpoints.glob("step-*") if folder.is_dir()]
    return sorted(int(match[1]) for match in found if match)


def last_checkpoint(run: RunFolder) -> int:
    """The newest checkpoint's step; 0 if there is none."""
    return max(checkpoint_steps(run), default=0)


def start_of(run: RunFolder, num_steps: int) -> int:
    """The step that training to `num_steps` continues from, or ends at: the newest with a checkpoint, up to that; 0 = none.

    Raises MpoError if more steps were taken, and none of their checkpoints is at num_steps.
    """
    steps = checkpoint_steps(run)
    if steps and num_steps < steps[-1] and num_steps not in steps:
        nearest = min(steps, key=lambda step: abs(step - num_steps))
        raise MpoError(
            f"train.num_steps={num_steps}, but {steps[-1]} steps were taken and step {num_steps} has no checkpoint; set it to {nearest}, which has one"
        )
    return max((step for step in steps if step <= num_steps), default=0)


def seal(state: dict[str, Any]) -> dict[str, Any]:
    """The state with a digest over everything else in it."""
    body = json.dumps({name: value for name, value in state.items() if name != "digest"}, sort_keys=True)
    return state | {"digest": hashlib.sha256(body.encode()).hexdigest()}


def read_state(folder: Path) -> dict[str, Any]:
    """A checkpoint's counters, after its files have been checked against their recorded digests.

    Raises MpoError naming a file that is missing or damaged, with the command that makes it again.
    """
    remedy = f"run `mpo train {folder.parent.parent} --repair`, which continues from the checkpoint before"
    file = folder / "state.json"
    try:
        state = json.loads(file.read_bytes())
        if seal(state) != state:
            raise ValueError
    except (OSError, ValueError, TypeError):
        raise MpoError(f"{file} is {'damaged' if file.exists() else 'missing'}; {remedy}") from None
    for name, digest in state["files"].items():
        file = folder / name
        if not file.is_file() or sha256(file) != digest:
            how = "damaged: it is not what training wrote" if file.is_file() else "missing"
            raise MpoError(f"{file} is {how}; {remedy}")
    return state


def damaged_checkpoints(run: RunFolder, files: Sequence[Path] = ()) -> list[Path]:
    """Folders from the first that is incomplete or damaged, or holds one of `files`, to the last: training makes them again in turn."""
    steps = checkpoint_steps(run)
    for place, step in enumerate(steps):
        folder = checkpoint_folder(run, step)
        try:
            read_state(folder)
            whole = folder not in {file.parent for file in files}
        except MpoError:
            whole = False
        if not whole:
            return [checkpoint_folder(run, later) for later in steps[place:]]
    return []


def unvalidated_steps(run: RunFolder, interval_steps: int) -> list[int]:
    """Steps from 0 that were validated, since training went on from them, and that validation.jsonl has lost."""
    known = {record.get("step") for record in read_lines(run.validation_log)}
    last = last_checkpoint(run)
    return [step for step in range(0, last, interval_steps) if step not in known]


def result_of(run: RunFolder) -> int:
    """The step whose checkpoint is the result: the best by validation, else the last.

    Raises MpoError if training has not finished, or trained.json is damaged.
    """
    if not run.trained.is_file():
        raise MpoError(f"{run.trained} is missing; run `mpo train {run.folder}` first")
    step = read_json(run.trained).get("result_step")
    if not isinstance(step, int) or step not in checkpoint_steps(run):
        raise MpoError(
            f"{run.trained} is damaged: result_step={step!r} has no checkpoint; run `mpo train {run.folder} --repair`"
        )
    return step


def result_file(run: RunFolder) -> Path:
    """The result's LoRA under peft's names: its running mean if one was kept."""
    return lora_file(checkpoint_folder(run, result_of(run)))


def lora_file(folder: Path) -> Path:
    """What a checkpoint is judged by: the running mean if one was kept, else the weights as they stood.

    Raises MpoError if the checkpoint is incomplete or damaged.
    """
    files = read_state(folder)["files"]
    return folder / (EMA if EMA in files else "lora.safetensors")
