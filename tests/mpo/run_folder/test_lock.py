"""What holds between machines. Two processes of one, and a dead one: tests/faults/test_damage.py."""

import signal
import subprocess
import sys
import time

import pytest

from mpo import MpoError
from mpo.run_folder import lock
from mpo.run_folder.lock import locked
from mpo.run_folder.manifest import is_foreign

# Holds a folder as a process of another machine does, whose system's lock is not felt here.
ELSEWHERE = """
import socket, sys, time
socket.gethostname = lambda: "elsewhere"
from filelock import SoftFileLease
lease = SoftFileLease(sys.argv[1], lease_duration=float(sys.argv[2]))
lease.acquire(timeout=0)
print("held", flush=True)
time.sleep(60)
"""


def test_another_machine_keeps_the_folder_while_it_gives_signs_of_life(tmp_path, monkeypatch, capsys):
    """And loses it when it does not: killed there, it leaves its lease behind."""
    monkeypatch.setattr(lock, "LEASE_S", 3.0)
    (tmp_path / ".owner.json").write_text('{"pid": 7, "host": "elsewhere"}', "utf-8")
    command = [sys.executable, "-c", ELSEWHERE, str(tmp_path / ".lease"), "3.0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(MpoError, match=r"is in use by process 7 on elsewhere; wait for it, or stop it"), locked(tmp_path):  # fmt: skip
            pass
        process.kill()
    assert "was in use by process 7 on elsewhere; waiting 3 s for a sign of life" in capsys.readouterr().err
    started_s = time.monotonic()
    with locked(tmp_path), locked(tmp_path):  # twice by one process
        assert time.monotonic() - started_s < 5
        assert (tmp_path / ".lease").exists()
    assert not (tmp_path / ".lease").exists()
    assert all(is_foreign(name) for name in lock.OWN)  # none is taken for a stage's work


def lose(lease, *, to_another: bool) -> None:
    """As when this machine stood still for long enough, and another took the folder over, or did so and has finished."""
    lease.unlink()
    if to_another:
        (lease.parent / ".owner.json").write_text('{"pid": 7, "host": "elsewhere"}', "utf-8")
        lease.write_text("another's", "utf-8")


@pytest.fixture
def interruptible():
    """By Ctrl-C, which a shell has its background ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_holder_whose_folder_is_taken_over_stops_at_once(tmp_path, monkeypatch, interruptible):
    monkeypatch.setattr(lock, "LEASE_S", 0.6)
    until_s = time.monotonic() + 30
    with pytest.raises(MpoError, match=r"was taken over by process 7 on elsewhere, since this process gave no sign of life .*; wait for it, or stop it, and run the same command again"):  # fmt: skip
        hold_and_lose(tmp_path, until_s)
    assert time.monotonic() < until_s
    assert (tmp_path / ".lease").read_text("utf-8") == "another's"  # which stays
    (tmp_path / ".lease").unlink()
    with locked(tmp_path):  # once the other has finished
        assert (tmp_path / ".lease").exists()


def hold_and_lose(folder, until_s: float) -> None:
    with locked(folder):
        lose(folder / ".lease", to_another=True)
        while time.monotonic() < until_s:
            time.sleep(0.1)


def test_a_holder_that_has_lost_its_lease_says_so_before_the_next_stage(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "LEASE_S", 0.6)
    with locked(tmp_path):
        lose(tmp_path / ".lease", to_another=False)
        until_s = time.monotonic() + 30
        words = (
            r"is no longer held by this process: its .lease was deleted; run the same command again, which continues"
        )
        with pytest.raises(MpoError, match=words):
            take_until(tmp_path, until_s)
        assert time.monotonic() < until_s
    with locked(tmp_path):
        assert (tmp_path / ".lease").exists()


def take_until(folder, until_s: float) -> None:
    while time.monotonic() < until_s:
        with locked(folder):  # as each stage does
            time.sleep(0.1)


BACKGROUND = """
import signal, sys, time
from pathlib import Path
from mpo.run_folder import lock
signal.signal(signal.SIGINT, signal.SIG_IGN)
lock.LEASE_S = 0.6
folder = Path(sys.argv[1])
with lock.locked(folder):
    (folder / ".lease").unlink()
    (folder / ".lease").write_text("another's")
    time.sleep(60)
"""


def test_so_does_one_in_a_shells_background_where_interruptions_are_ignored(tmp_path):
    """A process that imports torch, as the lock does."""
    done = subprocess.run(
        [sys.executable, "-c", BACKGROUND, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGTERM
    assert f"{tmp_path} was taken over by " in done.stderr
