from pathlib import Path

import pytest

from mpo import MpoError
from mpo.runtime.pieces import Piece, Work, do_share, wait_until_seen


class Upper(Work[str]):
    """Words in capitals, a file each; it holds nothing, and counts how often it was loaded."""

    description = "capitals"

    def __init__(self, folder: Path, words: list[str]):
        self.folder = folder
        self.num_loads = 0
        self.pieces = [Piece(word, 1, (folder / word,)) for word in words]

    def load(self) -> str:
        self.num_loads += 1
        return "held"

    def is_done(self, piece):
        return (self.folder / piece.content).exists()

    def do(self, held, piece, advance):
        assert held == "held"
        (self.folder / piece.content).write_text(piece.content.upper(), "utf-8")
        advance(1)

    def words(self, piece):
        return [piece.content]


def test_only_missing_pieces_are_done_with_one_load(tmp_path):
    (tmp_path / "b").write_text("kept", "utf-8")
    work = Upper(tmp_path, ["a", "b", "c"])
    do_share(work)
    assert [(tmp_path / name).read_text("utf-8") for name in "abc"] == ["A", "kept", "C"]
    assert work.num_loads == 1
    do_share(work)
    assert work.num_loads == 1


def test_a_piece_is_named_by_its_content_whatever_its_place(tmp_path):
    one, other = Upper(tmp_path, ["a", "b"]), Upper(tmp_path, ["b"])
    assert one.name(one.pieces[1]) == other.name(other.pieces[0]) != one.name(one.pieces[0])


def test_a_file_that_is_never_seen_is_named(tmp_path):
    with pytest.raises(MpoError, match=r"capitals: .*a was written, but is not to be seen from here; all machines"):
        wait_until_seen(Upper(tmp_path, ["a"]), patience_s=0.1)


def test_what_is_known_to_be_done_is_not_waited_for(tmp_path):
    """Such as pictures of a piece whose record a killed process has not written."""
    work = Upper(tmp_path, ["a"])
    (tmp_path / "a").write_text("A", "utf-8")
    work.pieces = [Piece("a", 1, (tmp_path / "record",))]
    do_share(work)
    assert work.num_loads == 0
