"""`reward serve` in a process of its own."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[tuple[str, int]]:
    """(url, process id) of a service at a free port, run in a folder; it must end well."""
    log = folder / "log.txt"
    with open(log, "w") as file:
        command = [sys.executable, "-m", "reward.cli", "serve", "--port", "0", *arguments]
        process = subprocess.Popen(command, cwd=folder, stderr=file)
    try:
        deadline = time.monotonic() + 120
        while not (found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text())):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield found[0], process.pid
    finally:
        process.terminate()
    # uvicorn raises the signal again once it has closed
    assert process.wait(20) in (0, -signal.SIGTERM), log.read_text()
