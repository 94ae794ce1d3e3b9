"""Jobs that are at work on a run, by their ids: they outlive a driver that is lost, and the next one ends them first.

Otherwise two trainings would write into one folder.
"""

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from mpo import MpoError
from mpo.run_folder.files import read_json, write_json
from mpo.runtime.progress import say

JOBS = ".jobs"  # in the run's folder: the ids, and where they are from
LOGS = ".slurm"  # there, too: submitit's; deleted once a stage's jobs have all ended well
END_S = 600.0  # how long is waited for their end; Slurm gives a job half a minute between asking and killing
KILL_S = 10.0  # after which processes of this machine are killed
POLL_S = 2.0
STOPS = ("SIGINT", "SIGTERM", "SIGHUP")  # the last: the login where the driver was started has ended


def note_jobs(folder: Path, cluster: str, ids: Sequence[str]) -> None:
    """cluster: slurm, or local: processes of this machine, by submitit."""
    write_json(folder / JOBS, {"cluster": cluster, "host": socket.gethostname(), "ids": list(ids)})


def forget_jobs(folder: Path) -> None:
    """Once they have ended."""
    (folder / JOBS).unlink(missing_ok=True)


def cancel_jobs(folder: Path) -> None:
    """Tell those that are noted to end, and wait for nothing."""
    if (folder / JOBS).exists():
        noted = read_json(folder / JOBS)
        with suppress(OSError):
            _cancel(folder, noted["cluster"], noted["ids"])


def end_left_jobs(folder: Path) -> None:
    """End the jobs that are noted, such as by an earlier driver, and wait until they have ended.

    Raises MpoError if they do not, or cannot be asked from here.
    """
    if not (folder / JOBS).exists():
        return
    noted = read_json(folder / JOBS)
    cluster, ids = noted["cluster"], noted["ids"]
    remedy = f"end jobs {' '.join(ids)} on {noted['host']} ({'scancel' if cluster == 'slurm' else 'kill'}), delete {folder / JOBS}, and run the same command again"
    if cluster == "local" and noted["host"] != socket.gethostname():
        raise MpoError(f"{folder}: jobs of an earlier driver may still be at work; {remedy}")
    try:
        alive = _alive(folder, cluster, ids)
        if alive:
            say(f"jobs are still at work ({' '.join(alive)}); waits until they have ended")
            _cancel(folder, cluster, alive)
        began_s = time.monotonic()
        while alive and time.monotonic() < began_s + END_S:
            time.sleep(POLL_S)
            alive = _alive(folder, cluster, ids)
            if cluster == "local" and time.monotonic() > began_s + KILL_S:
                _signal(alive, signal.SIGKILL)  # those that were started to ignore the other one
    except OSError as error:  # no such command here
        raise MpoError(f"{folder}: jobs of an earlier driver may still be at work ({error}); {remedy}") from error
    if alive:
        raise MpoError(f"{folder}: jobs of an earlier driver do not end; {remedy}")
    forget_jobs(folder)


def _cancel(folder: Path, cluster: str, ids: Sequence[str]) -> None:
    if cluster == "slurm":
        subprocess.run(["scancel", *ids], capture_output=True, check=False)  # those that have ended are no fault
    else:
        _signal(_alive(folder, cluster, ids), signal.SIGINT)


def _signal(ids: Sequence[str], number: signal.Signals) -> None:
    for each in ids:
        with suppress(ProcessLookupError):
            os.kill(int(each), number)


def _alive(folder: Path, cluster: str, ids: Sequence[str]) -> list[str]:
    """Those that have not ended, or of which that is not known. Raises OSError without the commands that tell."""
    if cluster == "slurm":
        asked = _ask("squeue", "--noheader", "--format=%F", f"--jobs={','.join(ids)}")  # %F: an array's own id
        if asked.returncode and "Invalid job id" not in asked.stderr:
            return list(ids)  # Slurm does not answer now
        return sorted(set(asked.stdout.split()))
    # By what they were started with: the ids are of those that look after them, and may be others' by now.
    rows = [line.split(maxsplit=1) for line in _ask("ps", "-A", "-ww", "-o", "pid=,args=").stdout.splitlines()]
    return [pid for pid, command in rows if " submitit." in command and command.endswith(str(folder / LOGS))]


def _ask(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP become KeyboardInterrupt, once, so that what is at work elsewhere is ended first.

    Those stay as they are that are ignored (nohup) or handled already (Ray's).
    """

    def stop(number: int, frame: object) -> None:
        for each in own:
            signal.signal(each, signal.SIG_IGN)  # a shell and its terminal may both say so
        raise KeyboardInterrupt

    own = [each for each in _signals() if signal.getsignal(each) == signal.SIG_DFL]
    for each in own:
        signal.signal(each, stop)
    try:
        yield
    finally:
        for each in own:
            signal.signal(each, signal.SIG_DFL)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Signals that would stop the driver wait for the end of the block, such as the note of what it has submitted."""
    came: list[int] = []
    held = {each: signal.getsignal(each) for each in _signals()}
    held = {each: handler for each, handler in held.items() if callable(handler)}
    for each in held:
        signal.signal(each, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        for each, handler in held.items():
            signal.signal(each, handler)
        for number in came[:1]:
            signal.raise_signal(number)


def _signals() -> list[signal.Signals]:
    """None in other threads, to which they do not come."""
    main = threading.current_thread() is threading.main_thread()
    return [signal.Signals[name] for name in STOPS if main and name in signal.Signals.__members__]
