"""Several processes of this machine for one command: `mpo run RECIPE --processes N`.

torch's own launcher starts them; over several machines, or with weights spread over GPUs, `accelerate launch` does
(docs/training.md).
"""

import logging
import os
import sys
from collections.abc import Sequence

RUN_ID = "mpo"  # torch's launcher tells it to the processes that it starts


def is_launched() -> bool:
    """Whether `launch` has started this process."""
    return os.environ.get("TORCHELASTIC_RUN_ID") == RUN_ID


def launch(arguments: Sequence[str], num_processes: int) -> int:
    """Run `mpo ARGUMENTS` in so many processes that work on it together; returns the exit code, as of the first that failed.

    Each gets its share of the cores, unless OMP_NUM_THREADS says otherwise. A signal stops all: exit code 128 + its number.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException  # late: the help needs no torch
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // num_processes)))
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # a failing process has said why itself
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=num_processes, run_id=RUN_ID, rdzv_backend="c10d",
        rdzv_endpoint="localhost:0", max_restarts=0, monitor_interval=0.5,
    )  # fmt: skip
    try:
        elastic_launch(config, sys.executable)("-m", "mpo.cli", *arguments)
    except ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
        return code if code >= 0 else 128 - code
    except SignalException as stopped:
        return 128 + int(stopped.sigval)
    return 0
