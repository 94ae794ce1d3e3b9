import csv
import json
import shutil

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mpo import MpoError
from mpo.run_folder.paths import RunFolder
from mpo.votes.interchange import Imported, export_tasks, export_votes, import_votes
from mpo.votes.store import CHOICES, read_votes, standing
from tests.helpers.votes import evaluated_run, vote_for, vote_on_all


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    return evaluated_run(tmp_path_factory.mktemp("evaluated") / "run")


@settings(max_examples=10)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ann", "b-0_B"]), st.integers(0, 7), st.sampled_from(CHOICES), st.sampled_from(["base", "tuned"]),
            st.booleans(), st.sampled_from(["overall", "quality"]),
        ),
        min_size=1, max_size=10, unique_by=lambda vote: (vote[0], vote[1], vote[4], vote[5]),
    ),
    st.sampled_from([".json", ".csv"]),
)  # fmt: skip
def test_a_round_trip_gives_the_same_votes(tmp_path_factory, evaluated, votes, suffix):
    folder = tmp_path_factory.mktemp("trip")
    run, other = (RunFolder(shutil.copytree(evaluated.folder, folder / name)) for name in ("one", "other"))
    for rater, place, choice, left, repeat, question in votes:
        vote_for(run, rater, place, choice, left=left, repeat=repeat, question=question)
    export_votes(run, folder / f"votes{suffix}")
    assert import_votes(other, folder / f"votes{suffix}") == Imported(len(votes), 0, 0, 0)
    assert read_votes(other) == read_votes(run)


def test_tasks_do_not_show_which_model_made_what(run, tmp_path):
    written = export_tasks(run, tmp_path / "tasks.json", question="quality")
    assert [path.name for path in written] == ["tasks.json", "tasks.xml", "tasks-media"]
    text = (tmp_path / "tasks.json").read_text("utf-8")
    assert "tuned" not in text
    assert "base" not in text
    tasks = [task["data"] for task in json.loads(text)]
    assert len(tasks) == 9  # 8 pairs, and one again
    assert {task["question"] for task in tasks} == {"quality"}
    for task in tasks:
        for side in ("left", "right"):
            assert task[side].startswith("/data/local-files/?d=tasks-media/")
            with Image.open(tmp_path / "tasks-media" / task[side].rpartition("/")[2]) as image:
                assert image.info == {}
    assert len({task["left"] for task in tasks} | {task["right"] for task in tasks}) == 16


def test_clips_go_out_as_browsers_play_them(tmp_path):
    run = evaluated_run(tmp_path / "run", 1, 1, clips=True)
    export_tasks(run, tmp_path / "tasks.json")
    assert (tmp_path / "tasks.xml").read_text().count("<Video ") == 2
    files = list((tmp_path / "tasks-media").iterdir())
    assert [file.suffix for file in files] == [".mp4", ".mp4"]
    for file in files:
        with av.open(str(file)) as container:
            assert (container.streams.video[0].format.name, "mpo" in container.metadata) == ("yuv420p", False)


def rows_of(file) -> list[dict[str, str]]:
    return list(csv.DictReader(file.read_text("utf-8-sig").splitlines()))


def write(file, rows) -> None:
    """As a spreadsheet does, with a byte order mark."""
    with file.open("w", encoding="utf-8-sig", newline="") as opened:
        writer = csv.DictWriter(opened, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def fill(file, choices, **changes) -> None:
    """Choices into the first rows of a CSV file."""
    rows = rows_of(file)
    for row, choice in zip(rows, choices, strict=False):
        row["choice"] = choice
        row.update(changes)
    write(file, rows)


def test_rows_that_were_filled_in_are_votes(run, tmp_path):
    export_tasks(run, tmp_path / "tasks.csv", rater="ann")
    fill(tmp_path / "tasks.csv", ["left", "both_bad", ""], time="2026-01-31T13:00:00+01:00", seconds="4.5")
    done = import_votes(run, tmp_path / "tasks.csv")
    assert (done.num_new, done.num_unanswered) == (2, 7)
    first, second = read_votes(run)
    assert (first.rater, first.choice, first.time, first.seconds) == ("ann", "left", "2026-01-31T12:00:00Z", 4.5)
    assert second.choice == "both_bad"


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("choice", "best", "line 3: choice='best' is unknown; use left, right, tie, both_bad, or leave it empty"),
        ("left", "x.png", "line 3: left='x.png' is neither of the pair's samples"),
        ("comparison", "", "line 3: comparison='' is no pair of this evaluation"),
        ("question", "wit", "line 3: question 'wit' is unknown"),
        ("seconds", "soon", "line 3: seconds='soon' is no duration"),
        ("time", "noon", "line 3: time='noon' is no time"),
        ("rater", "a b", "tasks.csv: rater 'a b' is no name"),
        ("rater", "", "does not say whose its answers are; name the rater with --rater"),
    ],
)
def test_a_wrong_row_is_named_and_nothing_stored(run, tmp_path, column, value, words):
    file = tmp_path / "tasks.csv"
    export_tasks(run, file, rater="ann")
    fill(file, ["left"] * 9)
    rows = rows_of(file)
    rows[1][column] = value
    write(file, rows)
    with pytest.raises(MpoError, match=words):
        import_votes(run, file)
    assert not run.votes.exists()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.csv", "comparison,left\n", "there is no column 'choice'"),
        ("x.csv", b"caf\xe9\n", "is not CSV in UTF-8"),
        ("x.json", "{", "is not JSON"),
        ("x.txt", "", r"does not end in \.json or \.csv"),
    ],
)
def test_another_file_is_named(run, tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(MpoError, match=words):
        import_votes(run, tmp_path / name, rater="ann")


def test_the_same_file_again_changes_nothing_and_later_answers_count(run, tmp_path):
    file = tmp_path / "tasks.csv"
    export_tasks(run, file, rater="ann")
    for choice, time, expected in [
        ("left", "2026-01-01T00:00:00Z", Imported(1, 0, 0, 8)),
        ("left", "2026-01-01T00:00:00Z", Imported(0, 0, 1, 8)),
        ("right", "2026-01-02T00:00:00Z", Imported(0, 1, 0, 8)),
        ("left", "2026-01-01T00:00:00Z", Imported(0, 0, 1, 8)),  # older than what is stored
    ]:
        fill(file, [choice], time=time)
        assert import_votes(run, file) == expected
    assert [vote.choice for vote in standing(read_votes(run))] == ["right"]


def test_one_export_imported_for_two_raters_gives_votes_with_ids_of_their_own(run, tmp_path):
    vote_for(run, "ann", 0, "left")
    export_votes(run, tmp_path / "votes.csv")
    for name in ("bob", "eve"):
        assert import_votes(run, tmp_path / "votes.csv", rater=name).num_new == 1
    assert len({vote.id for vote in read_votes(run)}) == 3


def test_only_votes_that_count_are_exported(run, tmp_path):
    first = vote_for(run, "ann", 0, "left")
    second = vote_for(run, "ann", 0, "right", replaces=first.id)
    vote_for(run, "ann", 1, "left")
    vote_for(run, "bob", 2, "left", question="quality")
    sample = run.samples / "base" / "000000-01.png"
    sample.write_bytes((run.samples / "base" / "000000-00.png").read_bytes())  # pair 1 is another one now
    export_votes(run, tmp_path / "ann.csv", rater="ann")
    (row,) = rows_of(tmp_path / "ann.csv")
    assert (row["id"], row["choice"], row["left"]) == (second.id, "right", "base/000000-00.png")
    with pytest.raises(MpoError, match="holds no such vote"):
        export_votes(run, tmp_path / "none.csv", rater="ann", question="quality")


def test_nothing_is_written_over(run, tmp_path):
    vote_on_all(run, "ann", lambda *_: "left")
    (tmp_path / "tasks-media").mkdir()
    (tmp_path / "votes.csv").write_text("work")
    with pytest.raises(MpoError, match=r"tasks-media exists, and may hold people's work"):
        export_tasks(run, tmp_path / "tasks.json")
    with pytest.raises(MpoError, match=r"votes\.csv exists"):
        export_votes(run, tmp_path / "votes.csv")
    with pytest.raises(MpoError, match=r"does not end in \.json or \.csv"):
        export_votes(run, tmp_path / "votes.xlsx")
    assert (tmp_path / "votes.csv").read_text() == "work"


def test_tasks_of_another_evaluation_are_refused(run, tmp_path):
    export_tasks(run, tmp_path / "tasks.csv", rater="ann")
    fill(tmp_path / "tasks.csv", ["left"])
    other = evaluated_run(tmp_path / "other", 2, 2)
    with pytest.raises(MpoError, match="is no pair of this evaluation; import what was exported from this run"):
        import_votes(other, tmp_path / "tasks.csv")
