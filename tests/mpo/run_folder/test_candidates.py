import os
import shutil
import subprocess
import sys

import pytest

from mpo.run_folder.candidates import compare_candidates, remember_candidates
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


IN_ANOTHER_PROCESS = """
import sys
from mpo.run_folder.candidates import compare_candidates
from mpo.run_folder.paths import RunFolder
missing, damaged = compare_candidates(RunFolder(sys.argv[1]))
print(len(missing), len(damaged))
"""


def test_what_was_found_right_is_not_read_again_by_another_process(run):
    def missing_damaged() -> tuple[int, int]:
        command = [sys.executable, "-c", IN_ANOTHER_PROCESS, str(run.folder)]
        missing, damaged = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        return int(missing), int(damaged)

    run.seen_candidates.unlink(missing_ok=True)
    assert compare_candidates(run) == ([], [])
    assert not run.seen_candidates.exists()  # comparing writes nothing
    remember_candidates(run)
    unread, changed, gone = sorted(run.candidates.rglob("*.png"))[:3]
    before = unread.stat()
    unread.write_bytes(unread.read_bytes()[:-1] + b"\0")
    os.utime(unread, ns=(before.st_atime_ns, before.st_mtime_ns))  # size and time say that nobody has written it
    changed.write_bytes(changed.read_bytes()[:-1] + b"\0")
    gone.unlink()
    assert missing_damaged() == (1, 1)
    run.seen_candidates.write_bytes(b"damaged")
    assert missing_damaged() == (1, 2)
