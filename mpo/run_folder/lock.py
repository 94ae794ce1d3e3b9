"""One process at a time works on a run folder (several that were launched together count as one)."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from mpo import MpoError
from mpo.run_folder.files import named_if_full
from mpo.runtime.processes import is_main

OWN = (".lock", ".owner.json")  # files that a lock leaves in the folder

_locks: dict[Path, FileLock] = {}  # one for each folder, so that a process may take it twice


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder. The system releases it when the process ends, however it ends.

    Raises MpoError with the owner's process id and host if another process holds it.
    """
    if not is_main():
        yield
        return
    with named_if_unwritable(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with named_if_unwritable(folder):
        lock = _acquire(folder)
    try:
        with named_if_unwritable(folder):
            (folder / OWN[1]).write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}) + "\n", "utf-8")
        yield
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


def _acquire(folder: Path) -> FileLock:
    lock = _locks.setdefault(folder.resolve(), FileLock(folder / OWN[0]))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise MpoError(f"{folder} is in use by {_describe(folder / OWN[1])}; wait for it, or stop it") from None
    return lock


def _describe(owner: Path) -> str:
    try:
        held = json.loads(owner.read_text("utf-8"))
        return f"process {held['pid']} on {held['host']}"
    except (OSError, ValueError, KeyError):
        return "another process"
