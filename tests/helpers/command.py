"""The command `reward`: in this process, or in one of its own that can be killed."""

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

from reward.cli import main
from tests.faults.kill import Moment

ROOT = Path(__file__).parents[2]
KILLED = """
import sys
from pathlib import Path
from reward.cli import main
from tests.faults.kill import Moment, kill_at
folder, event, pattern, nth, *sys.argv = sys.argv[1:]
kill_at(Path(folder), Moment(event, pattern, int(nth)))
main()
"""


def reward(*words: object) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of `reward WORDS`, in this process."""
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with patch.object(sys, "argv", ["reward", *map(str, words)]), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as stopped:
            code = stopped.code
    return code if isinstance(code, int) else 0, out.getvalue(), err.getvalue()


def killed(folder: Path, moment: Moment, *words: object) -> None:
    """`reward WORDS` in a process of its own, which is killed with SIGKILL at a moment of its work on a folder's files."""
    command = [sys.executable, "-c", KILLED, str(folder), *moment.arguments, "reward", *map(str, words)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == -9, done.stderr


def launched(num_processes: int, *words: object) -> list[tuple[int, str]]:
    """(exit code, standard output) of each of N processes of `reward WORDS`, told of one another as launchers do."""
    processes = []
    for rank in range(num_processes):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": num_processes, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 29517 + os.getpid() % 1000}  # fmt: skip
        command = [sys.executable, "-m", "reward.cli", *map(str, words)]
        variables = environment() | {name: str(value) for name, value in place.items()}
        processes.append(subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True))
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    return [(process.returncode, output) for process, output in zip(processes, outputs, strict=True)]


def environment() -> dict[str, str]:
    """Of a process that imports this repository."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}
