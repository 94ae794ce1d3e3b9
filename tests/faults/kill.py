"""Ends a program at a chosen moment of its work on files, to see that the next run makes up for it.

    python tests/faults/kill.py RUN EVENT PATTERN NTH ARGUMENTS...

runs `mpo ARGUMENTS` and kills the process with SIGKILL. Three kinds of event, as the interpreter's audit hooks name them:
"open", a file is opened for writing; "os.rename", a whole file or folder is about to take its place; "shutil.rmtree", a
folder is about to be deleted. PATTERN is
compared, as fnmatch does, with the path relative to the folder RUN; NTH tells which of the matching events, from 1.
What libraries write by code that is not Python (safetensors, parquet) raises no "open", but their "os.rename" follows.
"""

import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

KILL = str(Path(__file__))


class Moment(NamedTuple):
    """When to end: just before the NTH event of a kind on a path that matches."""

    event: str  # "open", "os.rename" or "shutil.rmtree"
    pattern: str
    nth: int  # from 1

    @property
    def arguments(self) -> tuple[str, str, str]:
        return self.event, self.pattern, str(self.nth)


class Interrupted(BaseException):
    """Stands for the end of the process where it is not ended; no `except Exception` catches it."""


def path_of(event: str, arguments: tuple[Any, ...]) -> Any:
    """What an event is about; None for a file that is only read."""
    if event == "os.rename":
        return arguments[1]
    if event == "shutil.rmtree":
        return arguments[0]
    path, _, flags = arguments
    return path if flags & (os.O_WRONLY | os.O_RDWR) else None


def watch(folder: Path, moment: Moment, end: Callable[[], None]) -> Callable[[str, tuple[Any, ...]], None]:
    """An audit hook that calls `end` at the moment. An audit hook stays as long as its process."""
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event != moment.event:
            return
        path = path_of(event, arguments)
        if not isinstance(path, (str, os.PathLike)):  # none, a descriptor, or bytes
            return
        path = os.path.abspath(path)
        if path.startswith(f"{folder}{os.sep}") and fnmatch(os.path.relpath(path, folder), moment.pattern):
            count += 1
            if count == moment.nth:
                end()

    return hook


_hooks: list[Callable[[str, tuple[Any, ...]], None]] = []  # of the moments that are waited for


def _dispatch(event: str, arguments: tuple[Any, ...]) -> None:
    for hook in _hooks:
        hook(event, arguments)


@cache
def _install() -> None:
    sys.addaudithook(_dispatch)


@contextmanager
def at(folder: Path, moment: Moment, act: Callable[[], None]) -> Iterator[None]:
    """Call `act` at the moment, within this process."""
    _install()
    _hooks.append(watch(folder.absolute(), moment, act))
    try:
        yield
    finally:
        _hooks.pop()


@contextmanager
def interrupted(folder: Path, moment: Moment, by: type[BaseException] = Interrupted) -> Iterator[None]:
    """Raise Interrupted, or Ctrl-C's error, at the moment, within this process. Fails where the moment never comes.

    Interrupted is swallowed here.

    A hundredth of the time of a process that is killed, but `finally` clauses run.
    """

    def end() -> None:
        raise by

    try:
        with at(folder, moment, end):
            yield
    except Interrupted:
        return
    raise AssertionError(f"{moment} did not come")


@contextmanager
def full_disk(folder: Path, moment: Moment) -> Iterator[None]:
    """From the moment on, the disk takes no more of what matches: the error that the system gives."""

    def fail() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), moment.pattern)

    with at(folder, moment, fail):
        yield


def kill_at(folder: Path, moment: Moment) -> None:
    """This process will be killed with SIGKILL at the moment."""
    sys.addaudithook(watch(folder.absolute(), moment, lambda: os.kill(os.getpid(), signal.SIGKILL)))


def main() -> None:
    folder, event, pattern, nth, *arguments = sys.argv[1:]
    from mpo.cli import main as mpo

    kill_at(Path(folder), Moment(event, pattern, int(nth)))
    sys.argv = ["mpo", *arguments]
    mpo()


if __name__ == "__main__":
    main()
