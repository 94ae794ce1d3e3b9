import json
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock
from PIL import Image

from reward import Checklist, load_checklist
from reward.bulk import CHUNK
from tests.faults.kill import Moment, interrupted
from tests.helpers.command import environment, killed, launched, reward
from tests.helpers.documents import section
from tests.helpers.pictures import datasets

CHECKLIST = """
{name: reds, version: 1, kind: image, subdimensions: [
  {name: s, dimension: colour, questions: [{id: red, text: 'Red?', weight: 2}, {id: share, text: 'How red?', weight: 3, continuous: true}]},
  {name: t, dimension: mood, questions: [{id: warm, text: 'Warm?', weight: 1}]}]}
"""
NUM_ROWS = 4 * CHUNK + 9  # five chunks, the last one short


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Pictures whose red is 0, 51, … 255 fifths of the whole, a broken one, a checklist and a table of all of them."""
    folder = tmp_path_factory.mktemp("table")
    for fifths in range(6):
        Image.new("RGB", (4, 4), (51 * fifths, 0, 0)).save(folder / f"{fifths}.png")
    (folder / "broken.png").write_text("x")
    (folder / "reds.yaml").write_text(CHECKLIST)
    write(folder / "list.jsonl", [f"{row % 6}.png" for row in range(NUM_ROWS - 1)] + ["broken.png"])
    return folder


def write(table: Path, files: list[str], prompt: str = "a prompt") -> None:
    rows = [{"file": file, "prompt": f"{prompt} {row}"} for row, file in enumerate(files)]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def words(
    folder: Path, output: Path, *others: object, judge: str = "CountingJudge", table: str = "list.jsonl"
) -> tuple:
    judging = ("--judge", f"tests.helpers.judges:{judge}", "--checklist", folder / "reds.yaml")
    return ("score", folder / table, "--output", output, *judging, *others)


@pytest.fixture(scope="module")
def undisturbed(folder, tmp_path_factory) -> bytes:
    output = tmp_path_factory.mktemp("undisturbed") / "s.parquet"
    code, out, err = reward(*words(folder, output))
    assert code == 1  # of the broken picture
    assert err.count(f"{NUM_ROWS} of {NUM_ROWS} items") == 1
    assert f"1 could not be scored; column 'error' of {output} says why" in err
    assert re.fullmatch(rf"{output}: {NUM_ROWS} items in \d+\.\d s, \d+\.\d items a second, 1 failures\n", out)
    assert [path.name for path in output.parent.iterdir()] == ["s.parquet"]
    return output.read_bytes()


def stop(output: Path, *words: object) -> None:
    """Ends `reward WORDS`, in this process, before it has kept the third chunk."""
    with interrupted(output.parent, Moment("os.rename", "*.parts/000000002.parquet", 1)):
        reward(*words)


@pytest.fixture
def output(tmp_path) -> Path:
    return tmp_path / "s.parquet"


def test_a_table_s_scores_by_hand(folder, undisturbed, output):
    output.write_bytes(undisturbed)
    table = pq.read_table(output)
    assert table.column_names == ["row", "file", "prompt", "p_yes", "colour", "mood", "total", "error"]
    rows = table.to_pylist()
    assert [row["row"] for row in rows] == list(range(NUM_ROWS))
    # Red 1/5: p_yes 0.2, so no (-1), 0.2 and no: colour 2 * -1 + 3 * 0.2 = -1.4, mood -1.
    assert rows[1] | {"p_yes": None} == {
        "row": 1, "file": "1.png", "prompt": "a prompt 1", "p_yes": None, "colour": pytest.approx(-1.4), "mood": -1.0,
        "total": pytest.approx(-2.4), "error": None,
    }  # fmt: skip
    assert rows[1]["p_yes"] == pytest.approx([0.2, 0.2, 0.2])
    # Red 5/5: yes, 1 and yes: colour 2 + 3 = 5, mood 1.
    assert (rows[5]["colour"], rows[5]["mood"], rows[5]["total"]) == (5.0, 1.0, 6.0)
    failed = rows[-1]
    assert "broken.png' cannot be decoded" in failed.pop("error")
    known = {"row": NUM_ROWS - 1, "file": "broken.png", "prompt": f"a prompt {NUM_ROWS - 1}"}
    assert failed == {**dict.fromkeys(failed), **known}  # nothing is scored 0 for want of an answer
    said = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    checklist = load_checklist(folder / "reds.yaml")
    assert said.pop("table")
    assert Checklist.model_validate_json(said.pop("asked")) == checklist
    assert said == {
        "judge": "counting", "checklist": checklist.fingerprint, "questions": "red,share,warm", "dimensions": "colour,mood",
    }  # fmt: skip


def test_a_scorer_s_number_is_kept_as_it_is(folder, output):
    """Any real number, such as a picture's mean level: 255 of three channels of one, so 85."""
    (folder / "one.csv").write_text("file,prompt\n5.png,a prompt\n")
    words = ("score", folder / "one.csv", "--judge", "tests.helpers.judges:BrightnessScorer", "--output", output)
    assert reward(*words)[0] == 0
    (row,) = pq.read_table(output).to_pylist()
    assert row["p_yes"] == [85.0]


@pytest.mark.parametrize("pattern", ["s.parquet.parts/000000003.parquet", "s.parquet"])
def test_a_killed_run_continues_to_the_same_bytes(folder, undisturbed, output, pattern):
    """Two processes of seconds: killed after three chunks, and between the last chunk and the whole file."""
    killed(output.parent, Moment("os.rename", pattern, 1), *words(folder, output))
    assert not output.exists()
    num_kept = 3 * CHUNK if "parts" in pattern else NUM_ROWS
    code, out, err = reward(*words(folder, output))
    assert code == 1
    assert f": {NUM_ROWS} items ({num_kept} kept from an earlier run) in " in out
    assert ("items, " in err) == (num_kept < NUM_ROWS)
    assert output.read_bytes() == undisturbed
    assert [path.name for path in output.parent.iterdir()] == ["s.parquet"]


def test_as_many_workers_as_one_likes_give_the_same_bytes(folder, undisturbed, output):
    """Starts two processes: what is sent to a worker can be sent."""
    code, out, err = reward(*words(folder, output, "--workers", 2))
    assert code == 1
    assert f"{NUM_ROWS} items in" in out
    assert f"{NUM_ROWS} of {NUM_ROWS} items" in err
    assert output.read_bytes() == undisturbed


def test_workers_killed_with_the_process_that_started_them_are_made_up_for(folder, undisturbed, output):
    """Takes seconds: a real SIGKILL of the first process, after which its workers end by themselves."""
    command = [sys.executable, "-m", "reward.cli", *map(str, words(folder, output, "--workers", 2))]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    parts = output.with_name("s.parquet.parts")
    while not (parts / "job.json").exists():
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    code, *_ = reward(*words(folder, output))
    assert code == 1
    assert output.read_bytes() == undisturbed


def test_launched_processes_share_the_work(folder, undisturbed, output):
    """Takes seconds: each process imports torch, to wait for the other."""
    first, second = launched(2, *words(folder, output))
    assert first[0] == 1
    assert f"{NUM_ROWS} items in" in first[1]
    assert second == (0, "")  # the first one speaks for all
    assert output.read_bytes() == undisturbed


def test_what_was_made_of_something_else_is_refused_in_one_line(folder, undisturbed, output):
    write(folder / "other.jsonl", ["1.png", "2.png"])
    (folder / "other.yaml").write_text(CHECKLIST.replace("weight: 2", "weight: 4"))
    ours = ("-o", "above=0.5")

    def refused(message: str, *others: object, table: str = "list.jsonl") -> None:
        code, out, err = reward(*words(folder, output, "-q", *others, judge="ThresholdJudge", table=table))
        assert (code, out) == (2, "")
        assert re.fullmatch(f"reward: {message}\n", err)

    # Left beside an output that is not there yet.
    stop(output, *words(folder, output, *ours, judge="ThresholdJudge"))
    left, remedy = re.escape(f"{output}.parts") + " holds parts of a run", "; finish that one, or delete the folder"
    refused(rf"{left} with another judge \(threshold-0.5, now threshold-0.6\){remedy}", "-o", "above=0.6")
    refused(
        rf"{left} with another checklist \(reds@1:\w+, now reds@1:\w+\){remedy}",
        *ours,
        "--checklist",
        folder / "other.yaml",
    )
    refused(f"{left} with another table{remedy}", *ours, table="other.jsonl")
    # An output that is there.
    assert reward(*words(folder, output, *ours, judge="ThresholdJudge"))[0] == 1
    made = output.read_bytes()
    there = re.escape(str(output)) + " exists and was made"
    refused(
        rf"{there} with another judge \(threshold-0.5, now threshold-0.6\); give another name, or --overwrite",
        "-o",
        "above=0.6",
    )
    refused(f"{there} with another table; give another name, or --overwrite", *ours, table="other.jsonl")
    code, out, _ = reward(*words(folder, output, *ours, judge="ThresholdJudge"))
    assert f"{NUM_ROWS} items ({NUM_ROWS} kept from an earlier run)" in out
    assert code == 1
    assert output.read_bytes() == made
    assert reward(*words(folder, output, "--overwrite"))[0] == 1
    assert output.read_bytes() == undisturbed


def test_a_damaged_part_is_made_again_and_a_damaged_note_is_named(folder, undisturbed, output):
    stop(output, *words(folder, output))
    parts = output.with_name("s.parquet.parts")
    (parts / "000000001.parquet").write_bytes(b"PAR1")
    note = (parts / "job.json").read_bytes()
    (parts / "job.json").write_bytes(note[:20])
    code, _, err = reward(*words(folder, output, "-q"))
    assert code == 2
    assert err == f"reward: {parts / 'job.json'} is damaged; delete its folder, and all is scored again\n"
    (parts / "job.json").write_bytes(note)
    assert f"({CHUNK} kept from an earlier run)" in reward(*words(folder, output))[1]
    assert output.read_bytes() == undisturbed


def test_one_process_at_a_time_writes_an_output(folder, output):
    output.with_name("s.parquet.parts").mkdir()
    with FileLock(output.with_name("s.parquet.parts") / ".lock"):
        code, _, err = reward(*words(folder, output, "-q"))
    assert code == 2
    assert err == f"reward: {output} is being written by another process; wait for it, or stop it\n"


@pytest.mark.parametrize(
    ("others", "message"),
    [
        (("--output", "s.csv"), "s.csv does not end in .parquet"),
        (("--json",), "--output writes parquet; leave out --json and --csv"),
        (("--split", "test"), "--split test: "),
    ],
)
def test_what_does_not_go_together_is_one_line(folder, output, others, message):
    code, _, err = reward(*words(folder, output, *others))
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1


def test_several_processes_need_an_output(folder, monkeypatch):
    code, _, err = reward("score", folder / "1.png", "--workers", 2)
    assert (code, err) == (2, "reward: --workers 2 is for scores in a file; give --output scores.parquet\n")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "a launch of several processes is for scores in a file" in reward("score", folder / "1.png")[2]


def test_a_dimension_may_not_have_the_name_of_another_column(folder, output):
    (folder / "error.yaml").write_text(CHECKLIST.replace("dimension: mood", "dimension: error"))
    code, _, err = reward(*words(folder, output, "-q", "--checklist", folder / "error.yaml"))
    assert code == 2
    assert "has a dimension 'error', which --output needs for a column of its own; rename it" in err


def test_the_page_s_commands_and_what_it_says_of_their_output(tmp_path, monkeypatch):
    """Takes seconds: docs/scoring.md, Scoring in bulk."""
    monkeypatch.chdir(tmp_path)
    text = "a red circle on a white background"
    for name in ("a.png", "b.png"):
        Image.new("RGB", (32, 32), (200, 20, 20)).save(name)
    files = ["a.png", "absent.png", "b.png"]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps({"file": f, "prompt": text}) + "\n" for f in files))
    pq.write_table(pa.table({"picture": files, "caption": [text] * 3}), "photos.parquet")
    broken = [{"bytes": Path(name).read_bytes() if name != "absent.png" else b"x", "path": name} for name in files]
    data = datasets.Dataset.from_dict({"image": broken}, features=datasets.Features({"image": datasets.Image()}))
    datasets.DatasetDict({"test": data}).save_to_disk("saved")

    text = section("docs/scoring.md", "Scoring in bulk")
    commands, code = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    for line in commands.splitlines():
        exit_code, out, err = reward(*shlex.split(line, comments=True)[1:])
        assert exit_code == 1, line  # of the absent or broken file
        assert "1 could not be scored" in err
        assert len(out.splitlines()) in (1, 3)  # the line at the end, or two rows of CSV below their names
    names: dict[str, Any] = {}
    exec(code, names)
    assert f"# {json.dumps(names['table'].column_names)}\n" in code
    assert names["failed"] == ["absent.png"]
