"""Runs that are ready to be trained, what they leave behind, and several processes at once."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from mpo.recipe import dump_recipe, parse_recipe, recipes_folder
from mpo.run_folder.paths import RunFolder
from mpo.stages.train import train
from mpo.training.checkpoint_files import checkpoint_folder

MADE_BY_TRAINING = ("checkpoints", "train*.json*", "lora", "evaluation", "validation", "validation.jsonl", "errors")


def trainable(finished: Path, folder: Path, fields: dict) -> RunFolder:
    """A run whose pairs and encodings are there, with this recipe's training to be done."""
    run = RunFolder(folder)
    shutil.copytree(finished, run.folder, ignore=shutil.ignore_patterns(*MADE_BY_TRAINING))
    run.recipe.write_text(dump_recipe(parse_recipe(fields, source="small")), "utf-8")
    return run


def lora_of(run: RunFolder, step: int, name: str = "lora") -> torch.Tensor:
    state = load_file(checkpoint_folder(run, step) / f"{name}.safetensors")
    return torch.cat([state[key].flatten() for key in sorted(state)])


def log_of(run: RunFolder) -> list[dict]:
    return [json.loads(line) for line in run.training_log.read_text().splitlines()]


def resumes_exactly(whole: RunFolder, tmp_path: Path, fields: dict) -> None:
    """The run's four steps equal two, their checkpoint in a fresh run, and two more."""
    resumed = trainable(whole.folder, tmp_path / "resumed", fields)
    shutil.copytree(checkpoint_folder(whole, 2), checkpoint_folder(resumed, 2))
    resumed.training_log.write_text("".join(whole.training_log.read_text().splitlines(keepends=True)[:2]), "utf-8")
    train(resumed.folder)
    torch.testing.assert_close(lora_of(resumed, 4), lora_of(whole, 4), rtol=0, atol=0)
    assert resumed.training_log.read_bytes() == whole.training_log.read_bytes()


def files_of(run: Path) -> dict[str, bytes]:
    """All that a run leaves behind, but what holds times, processes, and the trackers' files. The page says what took how long."""
    varying = {"log.jsonl", "timing.jsonl", ".lock", ".owner.json", ".seen.parquet", "report.html", "report.json"}
    kept = (p for p in sorted(run.rglob("*")) if p.is_file() and p.name not in varying and "trackers" not in p.parts)
    return {str(p.relative_to(run)): p.read_bytes() for p in kept}


LAUNCHES = recipes_folder() / "accelerate"


def launch(*arguments: str, processes: int, config: str = "ddp", machines: int = 1) -> subprocess.CompletedProcess:
    """With a shipped configuration; on a machine without GPU its processes join by gloo.

    machines: so many launches that find each other by an address, as on machines of their own; the first one's output.
    """
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(LAUNCHES / f"{config}.yaml")]
    command += [f"--num_processes={processes}", "--num_cpu_threads_per_process=1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    if machines == 1:
        command += ["--main_process_port=0", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command += [f"--num_machines={machines}", "--main_process_ip=127.0.0.1", f"--main_process_port={port}"]
    launches = [[*command, f"--machine_rank={k}", *arguments] for k in range(machines)]
    started = [subprocess.Popen(each, stdout=-1, stderr=-1, text=True, env=environment) for each in launches]
    (output, errors), *others = [process.communicate() for process in started]
    codes = [process.returncode for process in started]
    shown = "\n".join([errors, *(words for _, words in others)])
    return subprocess.CompletedProcess(launches[0], max(codes, key=abs), output, shown)
