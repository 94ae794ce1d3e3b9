import os
import shutil

import pytest

from mpo.run_folder.candidates import compare_candidates
from mpo.run_folder.paths import RunFolder


@pytest.fixture
def run(finished, tmp_path) -> RunFolder:
    return RunFolder(shutil.copytree(finished, tmp_path / "run"))


def test_files_that_are_gone_or_changed_are_named_as_often_as_one_asks(run):
    assert compare_candidates(run) == ([], [])
    gone, changed, put_back = sorted(run.candidates.rglob("*.png"))[:3]
    gone.unlink()
    changed.write_bytes(changed.read_bytes()[:-1] + b"\0")
    os.utime(put_back)
    expected = [gone.relative_to(run.folder).as_posix()], [changed.relative_to(run.folder).as_posix()]
    assert compare_candidates(run) == compare_candidates(run) == expected


def test_files_of_another_run_are_looked_at_though_their_table_is_the_same(run, tmp_path):
    assert compare_candidates(run) == ([], [])
    copy = RunFolder(shutil.copytree(run.folder, tmp_path / "copy"))
    victim = min(copy.candidates.rglob("*.png"))
    victim.write_bytes(b"")
    assert compare_candidates(copy) == ([], [victim.relative_to(copy.folder).as_posix()])
    assert compare_candidates(run) == ([], [])
