import json
import logging
from hashlib import sha256

import pytest

from reward.preferences import PreferenceError, read_preferences


def write(file, *rows: dict) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def row(a: str, b: str, preferred: str = "a", **more) -> dict:
    return {"prompt": "p", "a": a, "b": b, "preferred": preferred, **more}


def test_a_folder_of_lines_is_read_each_file_relative_to_itself(tmp_path):
    write(tmp_path / "votes" / "bob.jsonl", row("../x.png", "../y.png", "b"))
    write(tmp_path / "votes" / "ann.jsonl", row("x.png", "y.png"), row("y.png", "x.png", "tie"))
    (tmp_path / "votes" / "notes.txt").write_text("not these")
    found = read_preferences(tmp_path / "votes", "jsonl")
    assert [(each.a.as_posix(), each.preferred) for each in found] == [
        (f"{tmp_path}/votes/x.png", 1.0), (f"{tmp_path}/votes/y.png", 0.5), (f"{tmp_path}/votes/../x.png", 0.0),
    ]  # fmt: skip
    assert read_preferences(tmp_path / "votes", "jsonl", root="/data")[0].a.as_posix() == "/data/x.png"
    assert len(read_preferences(tmp_path / "votes", "jsonl", limit=2)) == 2
    write(tmp_path / "votes" / "bob.jsonl", {"prompt": "p"})
    with pytest.raises(PreferenceError, match=r"votes/bob\.jsonl, row 0: has no field 'a'"):
        read_preferences(tmp_path / "votes", "jsonl")
    with pytest.raises(PreferenceError, match="holds no preference"):
        read_preferences(tmp_path, "jsonl")


def test_a_row_that_another_corrects_does_not_count(tmp_path):
    write(
        tmp_path / "x.jsonl",
        row("1", "2", "a", id="one"), row("3", "4", "a"), row("1", "2", "b", id="two", replaces="one"),
        row("1", "2", "tie", id="three", replaces="two"),
    )  # fmt: skip
    assert [each.preferred for each in read_preferences(tmp_path / "x.jsonl", "jsonl")] == [1.0, 0.5]
    assert [each.preferred for each in read_preferences(tmp_path / "x.jsonl", "jsonl", limit=1)] == [1.0]


def test_a_row_whose_file_has_changed_does_not_count_and_is_told(tmp_path, caplog):
    for name in ("x.png", "y.png"):
        (tmp_path / name).write_text(name)
    digests = {f"{side}_sha256": sha256(name.encode()).hexdigest() for side, name in (("a", "x.png"), ("b", "y.png"))}
    rows = [
        row("x.png", "y.png", **digests),
        row("x.png", "y.png", a_sha256=digests["a_sha256"]),
        row("y.png", "x.png", "b"),
    ]
    write(tmp_path / "x.jsonl", *rows)
    assert len(read_preferences(tmp_path / "x.jsonl", "jsonl")) == 3
    (tmp_path / "y.png").write_text("another")
    with caplog.at_level(logging.WARNING, logger="reward"):
        assert [each.preferred for each in read_preferences(tmp_path / "x.jsonl", "jsonl")] == [1.0, 0.0]
    assert "1 of 3 rows are left out: their files are missing or are no longer those that were judged" in caplog.text
    (tmp_path / "x.png").unlink()
    write(tmp_path / "x.jsonl", *rows[:2])
    with pytest.raises(PreferenceError, match=r"2 of 2 rows are left out: .*; none is left"):
        read_preferences(tmp_path / "x.jsonl", "jsonl")


def test_half_a_line_at_the_end_is_left_out_and_told_and_one_before_is_an_error(tmp_path, caplog):
    whole = json.dumps(row("x", "y"))
    (tmp_path / "x.jsonl").write_text(f"{whole}\n{whole[:20]}")
    with caplog.at_level(logging.WARNING, logger="reward"):
        assert len(read_preferences(tmp_path / "x.jsonl", "jsonl")) == 1
    assert "half a line at its end is left out" in caplog.text
    (tmp_path / "x.jsonl").write_text(f"{whole}\n{whole}")
    assert len(read_preferences(tmp_path / "x.jsonl", "jsonl")) == 2
    (tmp_path / "x.jsonl").write_text(f"{whole[:20]}\n{whole}\n")
    with pytest.raises(PreferenceError, match=r"x\.jsonl cannot be read"):
        read_preferences(tmp_path / "x.jsonl", "jsonl")
