"""Commands of mpo, each in a process of its own that can be killed.

Such a process is forked from one that has imported the libraries already: afresh, Python needs more seconds to import
torch and diffusers than a small run takes.
"""

import multiprocessing
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from mpo.cli import main
from mpo.dependencies import STAGES
from tests.faults.kill import Moment, kill_at

_forks = multiprocessing.get_context("forkserver")
tqdm.get_lock()  # made before processes are forked: a killed one would leave a lock of its own behind
# What a command imports late, before it is forked. tests first: from then on annotations are checked.
_forks.set_forkserver_preload(
    ["tests.helpers.pipelines", "mpo.cli", "mpo.run", *(f"mpo.stages.{stage.replace('-', '_')}" for stage in STAGES)]
)


def mpo(*arguments: str | Path, kill: tuple[Path, Moment] | None = None, output: Path | None = None) -> int:
    """The exit code of `mpo ARGUMENTS`; -9 after a SIGKILL.

    kill: a run folder, and the moment of the work on its files when the process dies. output: what it writes to standard
    output and error.
    """
    process = _forks.Process(target=_run, args=([str(argument) for argument in arguments], kill, output))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def _run(arguments: Sequence[str], kill: tuple[Path, Moment] | None, output: Path | None) -> None:
    file = os.open(output or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(file, stream)
    if kill:
        kill_at(*kill)
    sys.argv = ["mpo", *arguments]
    main()
