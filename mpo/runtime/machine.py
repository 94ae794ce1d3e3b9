"""What a run was made on, in words, for its log and its page."""

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
    return f"{_cores()} CPU cores, {_processor()}{shared}"


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()
