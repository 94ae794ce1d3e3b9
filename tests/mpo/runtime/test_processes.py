from pathlib import Path

import pytest
import yaml

from mpo.run_folder.paths import RunFolder
from mpo.training.checkpoint_files import checkpoint_folder
from mpo.training.validation_log import read_validations
from tests.faults.kill import KILL, Moment
from tests.helpers.processes import mpo
from tests.helpers.recipes import small_fields, with_validation
from tests.helpers.runs import launch, log_of, lora_of


def test_processes_know_of_each_other(tmp_path):
    script = tmp_path / "who.py"
    script.write_text(
        "import sys, torch\nfrom pathlib import Path\n"
        "from mpo.runtime.processes import all_reduce_max, all_see, barrier, broadcast_from_main, is_main, shard_of_rank\nbarrier()\n"
        "one, both = Path(sys.argv[0]) if is_main() else Path('nowhere'), Path(sys.argv[0])\n"
        "days = torch.distributed.group.WORLD._get_backend(torch.device('cpu')).options._timeout.days\n"
        "mine = list(shard_of_rank(range(5)))\n"
        "sys.stdout.write(f'{is_main()} {mine} {all_reduce_max(len(mine))} {broadcast_from_main(mine)} {days} {all_see(one)} {all_see(both)}\\n')\n"
    )
    done = launch(str(script), processes=2)
    assert sorted(done.stdout.splitlines()) == [
        "False [1, 3] 3 [0, 2, 4] 7 False True",
        "True [0, 2, 4] 3 [0, 2, 4] 7 False True",
    ], done.stderr


def arguments_of(model_folder: Path, folder: Path) -> list[str]:
    """`mpo run` of a small recipe with accumulation, a running mean, and reference errors kept; its folder is to be added."""
    fields = with_validation(small_fields(model_folder, folder), folder)
    fields["train"] |= {"num_steps": 4, "checkpoint_interval_steps": 2, "batch_size": 4, "micro_batch_size": 1}
    fields["train"] |= {"ema_decay": 0.9, "reference_cache": "errors", "num_draws": 1}
    recipe = folder / "small.yaml"
    recipe.write_text(yaml.safe_dump(fields), "utf-8")
    return ["run", str(recipe), "--quiet", "--output"]


def test_two_processes_make_the_same_as_one(model_folder, tmp_path):
    """Pairs equal, LoRA equal but for rounding."""
    arguments, (alone, two) = arguments_of(model_folder, tmp_path), (tmp_path / name for name in ("alone", "two"))
    assert mpo(*arguments, alone) == 0  # with as many threads as each of the two: rounding depends on them
    done = launch("-m", "mpo.cli", *arguments, str(two), processes=2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("win rate") == 5  # said once, not by each
    for name in ("candidates.parquet", "scores.parquet", "pairs.parquet", "prompts.parquet"):
        assert (two / name).read_bytes() == (alone / name).read_bytes(), name
    for name in ("lora", "ema"):  # Adam makes much of a gradient's rounding where it is next to nothing
        one, other = lora_of(RunFolder(alone), 4, name), lora_of(RunFolder(two), 4, name)
        assert (one - other).norm() < 2e-2 * one.norm()
    for ours, theirs in zip(log_of(RunFolder(alone)), log_of(RunFolder(two)), strict=True):
        # The share of pairs that are right jumps where a margin is next to nothing: by one pair of four at most here.
        assert theirs.pop("accuracy") == pytest.approx(ours.pop("accuracy"), abs=0.25)
        assert theirs == pytest.approx(ours, rel=5e-3, abs=2e-3)
    assert [v.step for v in read_validations(RunFolder(two))] == [0, 2, 4]


@pytest.mark.slow
def test_two_processes_that_are_killed_go_on_as_two_machines_with_the_same_bytes(model_folder, tmp_path):
    """Killed after a checkpoint."""
    arguments, (two, killed) = arguments_of(model_folder, tmp_path), (tmp_path / name for name in ("two", "killed"))
    done = launch("-m", "mpo.cli", *arguments, str(two), processes=2)
    assert done.returncode == 0, done.stderr
    fourth_step = Moment("open", "errors/errors.jsonl", 7)  # of two a step
    died = launch(KILL, str(killed), *fourth_step.arguments, *arguments, str(killed), processes=2)
    assert died.returncode != 0
    assert [p.name for p in (killed / "checkpoints").glob("step-*")] == ["step-000002"]
    done = launch("-m", "mpo.cli", *arguments, str(killed), processes=2, machines=2)
    assert done.returncode == 0, done.stderr
    for file in ("lora", "ema", "optimizer"):
        one, other = (checkpoint_folder(RunFolder(f), 4) / f"{file}.safetensors" for f in (two, killed))
        assert one.read_bytes() == other.read_bytes(), file
    for name in ("training.jsonl", "validation.jsonl", "errors/errors.jsonl"):
        assert (two / name).read_bytes() == (killed / name).read_bytes(), name
