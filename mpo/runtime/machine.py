"""The machine: GPUs, cores and memory; what a run was made on, in words, for its log and its page."""

import os
import platform
from collections import Counter
from pathlib import Path


def describe_machine(num_processes: int = 1) -> str:
    """The GPUs that are there, or the processor, and how many processes share the work."""
    import torch  # late: the command line's help needs none of this

    shared = f", {num_processes} processes" if num_processes > 1 else ""
    if torch.cuda.is_available():
        gpus = Counter(
            f"{torch.cuda.get_device_name(k)} ({torch.cuda.get_device_properties(k).total_memory / 2**30:.0f} GiB)"
            for k in range(torch.cuda.device_count())
        )
        return ", ".join(f"{count} x {name}" for name, count in gpus.items()) + shared
    if torch.backends.mps.is_available():
        return f"Apple GPU, {_processor()}{shared}"
    return f"{num_cores()} CPU cores, {_processor()}{shared}"


def num_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpu_sizes() -> list[tuple[str, float]]:
    """Name and memory in GB of each GPU that torch can use, CUDA's or ROCm's."""
    try:
        import torch

        properties = [torch.cuda.get_device_properties(k) for k in range(torch.cuda.device_count())]
    except (ImportError, OSError, RuntimeError, AssertionError):  # a driver that is too old
        return []
    return [(each.name, each.total_memory / 1e9) for each in properties]


def memory_gib() -> float:
    """Of this machine, or of the container around this process if that is less."""
    import psutil

    limits = [psutil.virtual_memory().total]
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):  # versions 2 and 1
        text = Path(file).read_text().strip() if Path(file).is_file() else "max"
        limits += [int(text)] if text.isdigit() else []
    return min(limits) / 2**30


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()
