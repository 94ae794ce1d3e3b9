"""Whole files or none: a file is written under another name first, then renamed."""

import errno
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reward.errors import RewardError

REMEDY = "make room and run the same command again, which continues from here"


@contextmanager
def replacing(path: Path, *, error: type[Exception] = RewardError, remedy: str = REMEDY) -> Iterator[Path]:
    """A temporary path in the same folder that takes the place of `path` when the block ends without an error.

    Raises `error` if the disk is full.
    """
    # By machine, too: several may write to one disk, and numbers of processes repeat.
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.part")
    with named_if_full(path, error=error, remedy=remedy):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            if temporary.is_dir():
                if path.exists():
                    shutil.rmtree(path)
            else:
                with temporary.open("rb") as file:
                    os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            if temporary.is_dir():
                shutil.rmtree(temporary)
            else:
                temporary.unlink(missing_ok=True)


@contextmanager
def named_if_full(path: Path, *, error: type[Exception] = RewardError, remedy: str = REMEDY) -> Iterator[None]:
    """Turns a library's error about a full disk into one line that says what to do."""
    try:
        yield
    except Exception as raised:
        # safetensors and pyarrow raise their own errors, which quote the system's.
        full = isinstance(raised, OSError) and raised.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or "No space left on device" in str(raised):
            raise error(f"the disk is full: {path} cannot be written; {remedy}") from raised
        raise
