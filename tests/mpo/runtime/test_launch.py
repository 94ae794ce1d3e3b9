import subprocess
import sys

import pytest

from tests.helpers.command import environment

SMALL = (
    "generate.num_candidates=4",
    "generate.num_inference_steps=2",
    "generate.batch_size=2",
    "prompts.train={path: prompts/shapes-train.txt, limit: 2}",
)


def run(folder, *words: str) -> subprocess.CompletedProcess:
    sets = [word for each in SMALL for word in ("--set", each)]
    command = [sys.executable, "-m", "mpo.cli", "run", "quickstart", "--quiet", "--output", str(folder), *sets, *words]
    variables = {**environment(), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=variables, timeout=240)


@pytest.mark.slow  # four processes that import everything
def test_two_processes_make_the_files_of_one(tmp_path):
    alone, shared = (
        run(tmp_path / "alone", "--until", "score"),
        run(tmp_path / "shared", "--until", "score", "--processes", "2"),
    )
    assert (alone.returncode, shared.returncode) == (0, 0), shared.stderr
    assert shared.stderr.count("generate ...") == alone.stderr.count("generate ...")
    files = sorted(p.relative_to(tmp_path / "alone") for p in (tmp_path / "alone" / "candidates").rglob("*.png"))
    assert len(files) == 8
    for name in [*files, "candidates.parquet", "scores.parquet"]:
        assert (tmp_path / "shared" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes(), name


def test_a_mistake_is_one_line_and_its_exit_code(tmp_path):
    failed = run(tmp_path / "wrong", "--processes", "2", "--set", "train.optimizer=none")
    assert failed.returncode == 2
    assert failed.stderr.startswith("mpo: train.optimizer")
    assert failed.stderr.count("\n") == 1
