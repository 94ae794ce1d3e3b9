"""One process at a time works on a run folder (several that were launched together count as one).

Two locks, since one is not enough. The system's own (flock) is gone with its process, however that ends; over a network it
holds between machines only if the file system says so: NFS does unless mounted with local_lock or nolock, Lustre needs the
option flock. So a lease lies beside it, a file that its holder refreshes: another machine that finds one watches it for
LEASE_S, and takes it over if nobody has refreshed it. A holder whose lease another has taken stops at once; one that only
missed it, or whose disk did not answer, before its next stage.
"""

import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, LeaseCompromise, SoftFileLease, Timeout

from mpo import MpoError
from mpo.run_folder.files import named_if_full
from mpo.runtime.processes import is_main

OWN = (".lock", ".owner.json", ".lease")  # files of a lock in the folder, some of which it leaves there
LEASE_S = 30.0  # without a sign of life, after which another machine takes over

_locks: dict[Path, tuple[FileLock, SoftFileLease]] = {}  # for each folder, so that a process may take them twice


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder. The system releases it when the process ends, however it ends.

    Raises MpoError with the owner's process id and host if another process holds it, or has taken it meanwhile.
    """
    if not is_main():
        yield
        return
    with named_if_unwritable(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with named_if_unwritable(folder):
        lock = _acquire(folder)
        try:
            lease = _acquire_lease(folder)
        except BaseException:
            lock.release()
            raise
    try:
        with named_if_unwritable(folder):
            (folder / OWN[1]).write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}) + "\n", "utf-8")
        yield
    except KeyboardInterrupt:
        if lease.compromise is not None:  # which has caused it
            raise _lost(folder, lease.compromise) from None
        raise
    finally:
        try:
            lease.release()
        finally:
            lock.release()


@contextmanager
def named_if_unwritable(folder: Path) -> Iterator[None]:
    """Turns an error of the system into one line."""
    try:
        with named_if_full(folder):
            yield
    except (PermissionError, FileExistsError, NotADirectoryError) as error:
        raise MpoError(
            f"{folder} cannot be written ({error.strerror}); use another folder, or change its rights"
        ) from None


def refuse_if_in_use(folder: Path) -> None:
    """Raises MpoError, as `locked` does, if another process holds the folder. Leaves nothing behind."""
    if (folder / OWN[0]).exists():
        with suppress(PermissionError):  # another account's folder, whose lock cannot be asked
            _acquire(folder).release()


def _locks_of(folder: Path) -> tuple[FileLock, SoftFileLease]:
    if folder.resolve() not in _locks:
        lease = SoftFileLease(folder / OWN[2], lease_duration=LEASE_S, on_compromise=_stop_if_taken)
        _locks[folder.resolve()] = (FileLock(folder / OWN[0]), lease)
    return _locks[folder.resolve()]


def _acquire(folder: Path) -> FileLock:
    lock, _ = _locks_of(folder)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise _in_use(folder) from None
    return lock


def _acquire_lease(folder: Path) -> SoftFileLease:
    """Another machine's, once it has not been refreshed for long enough; a dead process's of this machine at once."""
    _, lease = _locks_of(folder)
    if lease.is_locked and lease.compromise is not None:  # held already, and lost
        raise _lost(folder, lease.compromise)
    try:
        lease.acquire(timeout=0)
    except Timeout:
        print(
            f"{folder} was in use by {_describe(folder / OWN[1])}; waiting {LEASE_S:.0f} s for a sign of life",
            file=sys.stderr,
        )
        try:
            lease.acquire(timeout=1.5 * LEASE_S)
        except Timeout:
            raise _in_use(folder) from None
    return lease


def _stop_if_taken(lost: LeaseCompromise) -> None:
    """Called by the lease's own thread. The main thread, which works on the folder, is interrupted as by Ctrl-C."""
    if lost.reason != "owner-changed":
        return
    if callable(signal.getsignal(signal.SIGINT)):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:  # a shell has started this in its background, where Ctrl-C is ignored
        print(_lost(Path(lost.lock_file).parent, lost), file=sys.stderr, flush=True)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


def _lost(folder: Path, lost: LeaseCompromise) -> MpoError:
    if lost.reason == "owner-changed":
        return MpoError(
            f"{folder} was taken over by {_describe(folder / OWN[1])}, since this process gave no sign of life for {LEASE_S:.0f} s; wait for it, or stop it, and run the same command again, which continues from here"
        )
    why = "its .lease was deleted" if lost.reason == "marker-missing" else f"the disk did not answer ({lost.error})"
    return MpoError(
        f"{folder} is no longer held by this process: {why}; run the same command again, which continues from here"
    )


def _in_use(folder: Path) -> MpoError:
    return MpoError(f"{folder} is in use by {_describe(folder / OWN[1])}; wait for it, or stop it")


def _describe(owner: Path) -> str:
    try:
        held = json.loads(owner.read_text("utf-8"))
        return f"process {held['pid']} on {held['host']}"
    except (OSError, ValueError, KeyError):
        return "another process"
