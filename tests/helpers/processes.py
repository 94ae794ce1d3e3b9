"""Commands of mpo, each in a process of its own that can be killed.

Such a process is forked from one that has imported the libraries already: afresh, Python needs more seconds to import
torch and diffusers than a small run takes.
"""

import multiprocessing
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile

from tqdm import tqdm

from mpo.cli import main
from mpo.dependencies import STAGES
from tests.faults.kill import Moment, kill_at

_forks = multiprocessing.get_context("forkserver")
tqdm.get_lock()  # made before processes are forked: a killed one would leave a lock of its own behind
# This module, and what a command imports late.
_forks.set_forkserver_preload([__name__, "tests.helpers.pipelines", "mpo.run", *(f"mpo.stages.{s}" for s in STAGES)])


def mpo(*arguments: str | Path, kill: tuple[Path, Moment] | None = None) -> int:
    """The exit code of `mpo ARGUMENTS`; -9 after a SIGKILL. What it writes is shown where the test fails.

    kill: a run folder, and the moment of the work on its files when the process dies.
    """
    with NamedTemporaryFile("r", encoding="utf-8") as output:
        process = _forks.Process(target=_run, args=([str(argument) for argument in arguments], kill, output.name))
        process.start()
        process.join()
        print(output.read())
    assert process.exitcode is not None
    return process.exitcode


def _run(arguments: Sequence[str], kill: tuple[Path, Moment] | None, output: str) -> None:
    file = os.open(output, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(file, stream)
    if kill:
        kill_at(*kill)
    sys.argv = ["mpo", *arguments]
    main()
