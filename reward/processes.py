"""Several processes that score: started here, or by `accelerate launch` or `torchrun`."""

import glob
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from typing import Any

from reward.errors import RewardError

Work = Callable[[Any, int, int, Callable[[int], object]], None]  # job, number of this process, of all, advance

DEVICES = ("nvidia[0-9]*", "dxg", "kfd")  # of NVIDIA's GPUs, the same under Windows' Linux, and AMD's
PATIENCE = timedelta(days=7)  # a share can take much longer than the others


def launched() -> tuple[int, int]:
    """(number of this process, number of processes) as `accelerate launch` and `torchrun` say; (0, 1) = started alone."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def barrier() -> None:
    """Waits until every launched process has reached this point."""
    import torch.distributed as distributed

    if not distributed.is_initialized():
        distributed.init_process_group("gloo", timeout=PATIENCE)
    distributed.barrier()


def shut_down() -> None:
    """Leave the other launched processes, if there are any."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them. Takes hold of none."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [each.strip() for each in given.split(",") if each.strip()]
    if not any(glob.glob(f"/dev/{device}") for device in DEVICES):
        return []
    import torch  # seconds, which a machine without GPUs is spared

    return [str(i) for i in range(torch.cuda.device_count())]


def take_one_gpu(number: int, gpus: Sequence[str]) -> None:
    """Leaves this process one GPU, the next one for the next number. To be called before CUDA is used."""
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]


def run_workers(work: Work, job: Any, num_workers: int, advance: Callable[[int], object]) -> None:
    """Runs `work(job, number, num_workers, advance)` in N new processes, each with a GPU of its own where there are GPUs.

    Raises RewardError for the first worker that does or that is killed; the others are stopped then.
    """
    gpus = visible_gpus()
    context = multiprocessing.get_context("spawn")  # a fork would share what CUDA and other libraries hold
    processes, running = [], {}
    try:
        for number in range(num_workers):
            here, there = context.Pipe(duplex=False)
            process = context.Process(target=_run, args=(work, job, number, num_workers, gpus, there), daemon=True)
            process.start()
            there.close()
            processes.append(process)
            running[here] = process
        while running:
            for connection in wait(list(running)):
                assert isinstance(connection, Connection)
                try:
                    message = connection.recv()
                except EOFError:  # it has ended
                    process = running.pop(connection)
                    process.join()
                    if process.exitcode:
                        raise RewardError(
                            f"a worker ended with exit code {process.exitcode} ({_meaning(process.exitcode)}); run the same command again, which continues from here"
                        ) from None
                    continue
                if isinstance(message, str):
                    raise RewardError(message)
                advance(message)
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _meaning(exit_code: int) -> str:
    return f"killed by {signal.Signals(-exit_code).name}" if exit_code < 0 else "it says why above"


def _run(work: Work, job: Any, number: int, num_workers: int, gpus: Sequence[str], parent: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first one stops the others
    take_one_gpu(number, gpus)
    try:
        try:
            work(job, number, num_workers, parent.send)
        except RewardError as error:
            parent.send(str(error))
    except BrokenPipeError:  # the first process was killed; what is written is whole
        os._exit(1)
