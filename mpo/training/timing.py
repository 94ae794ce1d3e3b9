"""Measures a step's time and memory: timing.jsonl, apart from the logs that must repeat byte for byte."""

import resource
import sys
import time
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Timing:
    """Time and memory of one step."""

    seconds_per_step: float
    pairs_per_s: float  # over all processes
    peak_memory_gib: float  # of this process so far: GPU memory, or the machine's if there is no GPU

    def __str__(self) -> str:
        return f"{self.pairs_per_s:.1f} pairs/s  {self.peak_memory_gib:.1f} GiB"


def measure_step(started_s: float, num_pairs: int) -> Timing:
    """Measure a step of `num_pairs` pairs that began at `started_s` of `time.perf_counter`."""
    seconds = time.perf_counter() - started_s
    return Timing(seconds, num_pairs / seconds, peak_memory_gib())


def peak_memory_gib() -> float:
    """The most memory that this process has held so far."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS, else KiB
    return peak / 2**30 if sys.platform == "darwin" else peak / 2**20
