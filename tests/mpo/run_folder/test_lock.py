"""What holds between machines. Two processes of one, and a dead one: tests/faults/test_damage.py."""

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
