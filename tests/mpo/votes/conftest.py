"""An evaluated run, made once and copied for each test."""

import shutil
from pathlib import Path

import pytest

from mpo.run_folder.paths import RunFolder
from tests.helpers.votes import evaluated_run


@pytest.fixture(scope="session")
def _evaluated(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return evaluated_run(tmp_path_factory.mktemp("evaluated") / "run")


@pytest.fixture
def run(_evaluated: RunFolder, tmp_path: Path) -> RunFolder:
    """Four prompts at two seeds, to be written into."""
    shutil.copytree(_evaluated.folder, tmp_path / "run")
    return RunFolder(tmp_path / "run")
