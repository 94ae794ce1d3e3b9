"""Several processes: who does what, and waiting for each other. A single process works the same way.

`accelerate launch -m mpo.cli run RECIPE` starts them; they share the run directory.
"""

import os
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from mpo import MpoError

T = TypeVar("T")


# Set by `accelerate launch`; its plugins would wrap and shard what is trained, and mpo.training.sharding does the rest instead.
PLUGINS = {"ACCELERATE_USE_FSDP": "fsdp", "ACCELERATE_USE_DEEPSPEED": "deepspeed"}


SHARDER = "MPO_SHARDER"


# Work of the main process alone, or uneven shares, can take longer than the usual 10 minutes.
PATIENCE = timedelta(days=7)


def _state() -> Any:
    import torch  # late: the command line's help needs none of this
    from accelerate import PartialState

    for variable, name in PLUGINS.items():
        if os.environ.pop(variable, "false").lower() == "true":
            os.environ[SHARDER] = name
    # From DeepSpeed's configuration: accelerate would divide losses by it, but the trainer already does.
    os.environ.pop("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", None)
    num_launched = int(os.environ.get("WORLD_SIZE", "1"))
    on_cpu = num_launched > 1 and not torch.accelerator.is_available()
    if on_cpu:  # accelerate must be told, or it treats each of several CPU processes as the only one
        os.environ["ACCELERATE_USE_CPU"] = "true"
    state = PartialState(cpu=on_cpu, timeout=PATIENCE)
    if state.num_processes != num_launched:
        raise MpoError(
            f"{num_launched} processes were launched, but accelerate sees {state.num_processes}; launch them with `accelerate launch --config_file recipes/accelerate/ddp.yaml`"
        )
    return state


def is_main() -> bool:
    return _state().is_main_process


def num_processes() -> int:
    return _state().num_processes


def this_device() -> Any:
    """The torch device of this process."""
    return _state().device


def requested_sharder() -> str | None:
    """What the launch configuration spreads frozen weights with: "fsdp", "deepspeed" or None."""
    _state()
    return os.environ.get(SHARDER)


def all_reduce_max(value: int) -> int:
    """The largest of all processes' values."""
    from accelerate.utils import gather_object

    _state()
    return max(gather_object([value]))


def all_see(path: Path) -> bool:
    """Whether a file or folder is there for all processes, which may run on several machines; the same answer in each."""
    return all_reduce_max(int(not path.exists())) == 0


def broadcast_from_main(value: T) -> T:
    """The main process's value, in every process; others may give None."""
    from accelerate.utils import broadcast_object_list

    _state()
    return broadcast_object_list([value])[0]


def barrier() -> None:
    """Wait until every process has reached this point."""
    _state().wait_for_everyone()


def shard_of_rank(items: Sequence[T]) -> Sequence[T]:
    """This process's items: every N-th of N processes, so that slow items are spread evenly."""
    state = _state()
    return items[state.process_index :: state.num_processes]


def shut_down() -> None:
    """Leave the other processes, if there are any, at the end of the program."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
