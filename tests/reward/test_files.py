import pytest

from reward.errors import RewardError
from reward.files import replacing
from tests.faults.kill import Moment, full_disk


def test_a_file_appears_whole_or_not_at_all_and_a_full_disk_is_one_line(tmp_path):
    file = tmp_path / "below" / "a.txt"
    with replacing(file) as temporary:
        temporary.write_text("old")
        assert not file.exists()
    with (
        pytest.raises(RewardError, match=r"^the disk is full: .*a\.txt cannot be written; make room and run the same"),
        full_disk(tmp_path, Moment("open", "below/.a.txt.*", 1)),
        replacing(file) as temporary,
    ):
        temporary.write_text("new")
    assert [p.name for p in file.parent.iterdir()] == ["a.txt"]
    assert file.read_text() == "old"
