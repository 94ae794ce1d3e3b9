from mpo.runtime.machine import describe_machine


def test_the_processor_or_the_gpus_are_named_and_the_processes_counted():
    alone, shared = describe_machine(), describe_machine(3)
    assert "CPU core" in alone or "GPU" in alone or "GiB" in alone
    assert shared == f"{alone}, 3 processes"
