import os
from types import SimpleNamespace

import psutil
import torch

from mpo.runtime.machine import describe_machine, gpu_sizes, memory_gib, num_cores


def test_the_processor_or_the_gpus_are_named_and_the_processes_counted():
    alone, shared = describe_machine(), describe_machine(3)
    assert "CPU core" in alone or "GPU" in alone or "GiB" in alone
    assert shared == f"{alone}, 3 processes"


def test_cores_and_memory_are_those_that_this_process_may_use(monkeypatch):
    assert 1 <= num_cores() <= (os.cpu_count() or 1)
    assert 0 < memory_gib() <= psutil.virtual_memory().total / 2**30
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=2**28))
    assert memory_gib() == 0.25


def test_gpus_by_name_and_size_and_none_where_the_driver_is_too_old(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda k: SimpleNamespace(name="A", total_memory=24e9))
    assert gpu_sizes() == [("A", 24.0)]

    def too_old(k: int) -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old")

    monkeypatch.setattr(torch.cuda, "get_device_properties", too_old)
    assert gpu_sizes() == []
