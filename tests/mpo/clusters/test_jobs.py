"""Jobs as processes of this machine, whose driver is ended; and as a Slurm that a script plays."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from mpo import MpoError
from mpo.clusters import jobs
from mpo.clusters.jobs import end_left_jobs, note_jobs, stopped_by_signals, undisturbed
from mpo.clusters.on_slurm import SlurmEngine
from tests.helpers.command import environment
from tests.helpers.stages import stage_elsewhere

DRIVER = """
import signal, sys
from contextlib import closing
from mpo.clusters.on_slurm import SlurmEngine
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell takes from what it starts in the background
try:
    with closing(SlurmEngine(1, options={"cluster": "local"})) as engine:
        engine.run_stage(sys.argv[1], "export")
except KeyboardInterrupt:
    sys.exit(130)
"""
# The first job works for ever; a second one notes whether the first is still alive.
WORK = """
import subprocess
first = folder / "first.txt"
if first.exists():
    state = subprocess.run(["ps", "-o", "stat=", "-p", first.read_text()], capture_output=True, text=True).stdout
    (folder / "second.txt").write_text(state)
else:
    (folder / "new.txt").write_text(str(os.getpid()))
    os.rename(folder / "new.txt", first)
    time.sleep(600)
"""


@pytest.fixture
def hangup_ends() -> Iterator[None]:
    """SIGHUP as a terminal leaves it, also where the tests themselves run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def is_alive(pid: str) -> bool:
    asked = subprocess.run(["ps", "-o", "stat=", "-p", pid], capture_output=True, text=True, check=False)
    return asked.stdout.strip() not in ("", "Z", "Zs", "Z+")


@pytest.mark.slow
def test_a_driver_that_is_told_to_end_ends_its_jobs_and_one_that_is_killed_leaves_them_to_the_next(
    tmp_path, monkeypatch, hangup_ends
):
    """Two drivers and three jobs, which import no torch."""
    stage_elsewhere("export", WORK, tmp_path / "path", monkeypatch)
    environ = environment() | {"PYTHONPATH": f"{tmp_path / 'path'}:{environment().get('PYTHONPATH', '')}"}
    for number in (signal.SIGHUP, signal.SIGKILL):
        folder = tmp_path / number.name
        folder.mkdir()
        with subprocess.Popen([sys.executable, "-c", DRIVER, str(folder)], env=environ) as driver:
            until_s = time.monotonic() + 120
            while not (folder / "first.txt").exists():
                assert time.monotonic() < until_s
                time.sleep(0.1)
            driver.send_signal(number)
            assert driver.wait() == (130 if number == signal.SIGHUP else -signal.SIGKILL)
        first = (folder / "first.txt").read_text("utf-8")
        if number == signal.SIGHUP:
            until_s = time.monotonic() + 30
            while is_alive(first) and time.monotonic() < until_s:
                time.sleep(0.1)
            assert not is_alive(first)
    assert is_alive(first)
    assert (folder / ".jobs").exists()
    engine = SlurmEngine(1, options={"cluster": "local"})
    try:
        engine.run_stage(folder, "export")
    finally:
        engine.close()
    assert (folder / "second.txt").read_text("utf-8").strip() in ("", "Z")  # before the second began
    assert not (folder / ".jobs").exists()


# Job 7 ends at the second question after it was cancelled, 8 never does; 9 is no longer known.
SQUEUE = """#!/bin/sh
cd "$(dirname "$0")"
case "$*" in
  *--jobs=9*) echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1;;
  *--jobs=8*) echo 8; echo 8;;
  *--jobs=7*) [ -e cancelled ] && echo . >> cancelled; [ "$(cat cancelled 2>/dev/null)" = "$(printf '7\n.\n.')" ] || echo 7;;
esac
"""
SCANCEL = """#!/bin/sh
echo "$*" > "$(dirname "$0")/cancelled"
"""


def test_jobs_of_slurm_are_cancelled_and_waited_for(tmp_path, monkeypatch):
    for name, text in (("squeue", SQUEUE), ("scancel", SCANCEL)):
        (tmp_path / name).write_text(text, "utf-8")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(jobs, "POLL_S", 0.01)
    end_left_jobs(tmp_path)  # there are none
    note_jobs(tmp_path, "slurm", ["9"])
    end_left_jobs(tmp_path)
    assert not (tmp_path / "cancelled").exists()
    note_jobs(tmp_path, "slurm", ["7"])
    end_left_jobs(tmp_path)
    assert (tmp_path / "cancelled").read_text("utf-8") == "7\n.\n.\n"
    assert not (tmp_path / ".jobs").exists()
    note_jobs(tmp_path, "slurm", ["8"])
    monkeypatch.setattr(jobs, "END_S", 0.1)
    with pytest.raises(MpoError, match=r"jobs of an earlier driver do not end; end jobs 8 on .* \(scancel\), delete .*\.jobs, and run the same command again"):  # fmt: skip
        end_left_jobs(tmp_path)


def test_jobs_that_cannot_be_asked_from_here_are_named(tmp_path, monkeypatch):
    (tmp_path / ".jobs").write_text('{"cluster": "local", "host": "elsewhere", "ids": ["7"]}', "utf-8")
    with pytest.raises(MpoError, match=r"may still be at work; end jobs 7 on elsewhere \(kill\), delete"):
        end_left_jobs(tmp_path)
    note_jobs(tmp_path, "slurm", ["7"])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MpoError, match=r"may still be at work \(.*squeue.*\); end jobs 7 on"):
        end_left_jobs(tmp_path)
    note_jobs(tmp_path, "local", [str(os.getpid())])  # a number that another process has got
    monkeypatch.undo()
    end_left_jobs(tmp_path)
    assert not (tmp_path / ".jobs").exists()


def test_signals_become_one_interruption_and_wait_for_what_must_not_be_torn(hangup_ends):
    done: list[str] = []

    def work() -> None:
        try:
            with undisturbed():
                for _ in range(2):
                    signal.raise_signal(signal.SIGHUP)
                done.append("submitted")
        finally:
            signal.raise_signal(signal.SIGHUP)  # a shell says it again, and its terminal
            done.append("cancelled")

    with pytest.raises(KeyboardInterrupt), stopped_by_signals():
        work()
    assert done == ["submitted", "cancelled"]
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # by nohup
    with stopped_by_signals():
        signal.raise_signal(signal.SIGHUP)
