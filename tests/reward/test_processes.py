import os
import signal

import pytest

from reward.errors import RewardError
from reward.processes import launched, run_workers, take_one_gpu, visible_gpus


def work(job, number, num_processes, advance):
    """Of a worker: notes its GPU, and fails in a way that the job names."""
    folder, fate = job
    (folder / f"{number}").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "none"))
    if fate and number == 1:
        fate()
    advance(number + 10)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refuse() -> None:
    raise RewardError("x is wrong; mend it")


def crash() -> None:
    raise ZeroDivisionError


def run(folder, fate=None, num_workers=2) -> list[int]:
    told: list[int] = []
    run_workers(work, (folder, fate), num_workers, told.append)
    return told


def test_each_worker_reports_and_is_left_one_gpu_in_turn(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, 7")
    assert sorted(run(tmp_path, num_workers=3)) == [10, 11, 12]
    assert [(tmp_path / f"{number}").read_text() for number in range(3)] == ["4", "7", "4"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4, 7"


def test_where_no_gpu_may_be_used_none_is_assigned(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == []
    take_one_gpu(1, [])
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.parametrize(
    ("fate", "message"),
    [
        (kill, r"^a worker ended with exit code -9 \(killed by SIGKILL\); run the same command again, which continues"),
        (crash, r"^a worker ended with exit code 1 \(it says why above\); run the same command again"),
        (refuse, "^x is wrong; mend it$"),
    ],
)
def test_what_ends_a_worker_is_one_line(tmp_path, fate, message):
    with pytest.raises(RewardError, match=message):
        run(tmp_path, fate)


def test_who_one_is_among_launched_processes(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert launched() == (0, 1)
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert launched() == (2, 4)
