import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from mpo import MpoError
from mpo.recipe import parse_recipe
from mpo.run import run_recipe
from mpo.run_folder.paths import RunFolder
from mpo.training.checkpoint_files import checkpoint_folder
from mpo.training.sharding import check_sharder
from mpo.training.validation_log import read_validations
from tests.helpers.pipelines import build
from tests.helpers.recipes import small_fields, with_validation
from tests.helpers.runs import launch, log_of, lora_of, trainable

SHARDED = """
import os
import sys
import torch
from mpo.models.families import denoiser_of
from mpo.training import sharding
if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
    # On CPUs it would exchange weights by code that it compiles first, for a minute and a half; torch's serves here.
    import deepspeed
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
shard = sharding.shard_frozen
def sharded(pipeline, *arguments):
    shard(pipeline, *arguments)
    denoiser = denoiser_of(pipeline)
    frozen = [p for p in denoiser.parameters() if not p.requires_grad]
    held = sum((p.ds_tensor if hasattr(p, "ds_tensor") else p.to_local()).numel() for p in frozen)
    whole = sum(p.ds_numel if hasattr(p, "ds_tensor") else p.numel() for p in frozen)
    lora = {type(p).__name__ + str(p.dtype) for p in denoiser.parameters() if p.requires_grad}
    assert isinstance(torch.nn.functional.linear, type(len)), "the program's own linear layer was replaced"
    sys.stdout.write(f"share {held / whole} {' '.join(lora)}\\n")  # one piece: the other process writes, too
sharding.shard_frozen = sharded
from mpo.stages.train import train
for folder in sys.argv[1:]:
    train(folder)
"""
FAMILIES = ("stable_diffusion", "flux")


def recipe_of(name: str, folder: Path) -> dict:
    """Four steps on a family's small pipeline.

    One picture to validate with, so that one process samples it and the other must not be missed.
    """
    folder.mkdir()
    build(name).save_pretrained(folder / "model")
    fields = with_validation(small_fields(folder / "model", folder), folder)
    fields["model"]["sizes"] = [[32, 32]]
    if name == "flux":  # as the large ones are trained
        fields["model"]["dtype"], fields["train"]["mixed_precision"] = "bfloat16", "bf16"
    fields["validation"] |= {"batch_size": 1, "num_seeds": 1}
    fields["prompts"]["validation"] = {"path": fields["prompts"]["validation"], "limit": 1}
    fields["train"] |= {
        "num_steps": 4,
        "checkpoint_interval_steps": 2,
        "gradient_checkpointing": True,
        "ema_decay": 0.5,
    }
    run_recipe(parse_recipe(fields, source="small"), folder / "run", stages=("generate", "score", "select", "encode"))
    return fields


def train_in_two_processes(runs: Sequence[RunFolder], config: str, machines: int = 1) -> None:
    """One run after the other. machines: as on so many. Asserts that each process holds half of what is frozen, and all of the LoRA in float32."""
    script = runs[0].folder.parent / "sharded.py"
    script.write_text(SHARDED, "utf-8")
    done = launch(str(script), *(str(run.folder) for run in runs), processes=2, config=config, machines=machines)
    assert done.returncode == 0, done.stderr
    shares = [line.split() for line in done.stdout.splitlines() if line.startswith("share")]
    assert len(shares) == (0 if config == "ddp" else 2 // machines * len(runs))
    assert all(float(share) < 0.6 and lora == "Parametertorch.float32" for _, share, lora in shares)


@pytest.mark.slow
@pytest.mark.parametrize("config", ["fsdp2", "deepspeed-zero3"])
def test_frozen_weights_spread_over_two_processes_train_to_the_same(config, tmp_path):
    """Against plain data parallel: half of the weights in each process, the same LoRA and pictures.

    Two launches of two processes, each of which imports the libraries.
    """
    fields = {name: recipe_of(name, tmp_path / name) for name in FAMILIES}
    plain, spread = (
        [trainable(tmp_path / k / "run", tmp_path / k / c, fields[k]) for k in FAMILIES] for c in ("ddp", config)
    )
    train_in_two_processes(plain, "ddp")
    train_in_two_processes(spread, config)
    for name, whole, shared in zip(FAMILIES, plain, spread, strict=True):
        assert lora_of(whole, 4).abs().max() > 1e-4
        assert (lora_of(shared, 4) - lora_of(whole, 4)).norm() < 1e-3 * lora_of(whole, 4).norm()
        for ours, theirs in zip(log_of(whole), log_of(shared), strict=True):
            if name == "flux":  # beta times bfloat16's rounding
                assert theirs["loss"] == pytest.approx(ours["loss"], abs=0.05)
                assert theirs["chosen_error"] == pytest.approx(ours["chosen_error"], rel=1e-4)
            else:
                assert theirs == pytest.approx(ours, rel=1e-3, abs=1e-4)
        for ours, theirs in zip(read_validations(whole), read_validations(shared), strict=True):
            assert theirs.total == pytest.approx(ours.total, abs=1e-2 if name == "flux" else 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("config", ["fsdp2", "deepspeed-zero3"])
def test_a_checkpoint_of_spread_weights_goes_on_to_the_same_bytes(config, tmp_path):
    """Four steps equal two, their checkpoint in a fresh run and new processes, and two more. A launch each.

    The second is as on two machines.
    """
    fields = recipe_of("stable_diffusion", tmp_path / "small")
    whole, resumed = (trainable(tmp_path / "small" / "run", tmp_path / name, fields) for name in ("whole", "resumed"))
    train_in_two_processes([whole], config)
    shutil.copytree(checkpoint_folder(whole, 2), checkpoint_folder(resumed, 2))
    resumed.training_log.write_text("".join(whole.training_log.read_text().splitlines(keepends=True)[:2]))
    resumed.validation_log.write_text(whole.validation_log.read_text().splitlines(keepends=True)[0])
    train_in_two_processes([resumed], config, machines=2)
    for file in ("lora", "ema", "optimizer"):
        files = [checkpoint_folder(run, 4) / f"{file}.safetensors" for run in (whole, resumed)]
        assert files[0].read_bytes() == files[1].read_bytes(), file


@pytest.mark.parametrize(
    ("sharder", "environment", "message"),
    [
        ("fsdp", {"FSDP_VERSION": "1"}, "fsdp_version=1 is ignored here; set it to 2"),
        ("fsdp", {"FSDP_ACTIVATION_CHECKPOINTING": "true"}, "set train.gradient_checkpointing=true"),
        ("fsdp", {"FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}, "cpu_ram_efficient_loading is ignored"),
        ("deepspeed", {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"}, "zero_stage=2 is ignored.*launch with ddp.yaml"),
        ("deepspeed", {"ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": "cpu"}, "offload_optimizer_device"),
    ],
)
def test_launch_settings_that_would_not_be_heeded_are_refused(sharder, environment, message, fields, monkeypatch):
    monkeypatch.setenv("MPO_SHARDER", sharder)
    monkeypatch.setenv("FSDP_VERSION", "2")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", "3")
    assert check_sharder(parse_recipe(fields, source="small"), 2, 2) == sharder
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(MpoError, match=message):
        check_sharder(parse_recipe(fields, source="small"), 2, 2)


def test_sharding_refuses_what_would_hang(fields, monkeypatch):
    assert check_sharder(parse_recipe(fields, source="small"), 2, 1) is None
    monkeypatch.setenv("MPO_SHARDER", "fsdp")
    monkeypatch.setenv("FSDP_VERSION", "2")
    with pytest.raises(MpoError, match="asks for fsdp with 1 process; raise num_processes"):
        check_sharder(parse_recipe(fields, source="small"), 2, 1)
    fields["train"]["compile"] = True
    with pytest.raises(MpoError, match=r"train.compile=true does not work with fsdp"):
        check_sharder(parse_recipe(fields, source="small"), 2, 2)
    fields["model"]["sizes"] = [[32, 32], [48, 32]]
    with pytest.raises(MpoError, match=r"samples of several sizes needs train\.micro_batch_size=1, not 2"):
        check_sharder(parse_recipe(fields, source="small"), 2, 2)


def test_sharding_refuses_prompts_of_different_lengths_where_each_is_a_forward(fields, monkeypatch, tmp_path):
    """Processes would run different numbers of forwards, and wait for each other."""
    monkeypatch.setenv("MPO_SHARDER", "fsdp")
    monkeypatch.setenv("FSDP_VERSION", "2")
    build("cogview4").save_pretrained(tmp_path / "model")
    fields["model"] = {"path": str(tmp_path / "model")}
    with pytest.raises(MpoError, match=r"fsdp needs train\.micro_batch_size=1, not 2, .* different lengths"):
        check_sharder(parse_recipe(fields, source="small"), 2, 2)
    assert check_sharder(parse_recipe(fields, source="small"), 1, 2) == "fsdp"
