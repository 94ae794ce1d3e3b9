import errno
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpo import MpoError
from mpo.run_folder.paths import RunFolder
from mpo.votes.pairs import Pair
from mpo.votes.store import (
    CHOICES,
    account_rater,
    checked_rater,
    make_vote,
    opened,
    read_file,
    read_votes,
    standing,
    votes_file,
)
from reward.preferences import read_preferences
from tests.helpers.command import environment
from tests.helpers.votes import add, vote_of

# Appends one vote after the other, and prints the id of each once it is stored.
ENDLESS = """
import sys
from pathlib import Path
from mpo.run_folder.paths import RunFolder
from mpo.votes.pairs import Pair
from mpo.votes.store import make_vote, opened
pair = Pair(3, "p" * 300, 7, Path("base/x.png"), Path("tuned/x.png"), "b" * 64, "c" * 64)
told = {"time": "2026-01-31T12:00:00Z", "rater": "ann", "question": "overall", "repeat": False, "seconds": 1.0}
for number in range(1_000_000):
    vote = make_vote(pair, id=f"{sys.argv[2]}-{number}", left="base", choice="left", **told)
    with opened(RunFolder(sys.argv[1]), "overall", "ann") as file:
        file.append(vote)
    print(vote.id, flush=True)
"""


@pytest.mark.parametrize(
    ("left", "choice", "preferred", "winner", "outcome"),
    [
        ("base", "left", "a", "base", 0.0),
        ("base", "right", "b", "tuned", 1.0),
        ("tuned", "left", "a", "tuned", 1.0),
        ("tuned", "right", "b", "base", 0.0),
        ("tuned", "tie", "tie", None, 0.5),
        ("base", "both_bad", "tie", None, 0.5),
    ],
)
def test_who_wins_follows_from_side_and_choice(left, choice, preferred, winner, outcome):
    vote = vote_of("1", choice, left=left)
    assert (vote.preferred, vote.winner, vote.outcome) == (preferred, winner, outcome)


def test_a_line_is_one_that_fit_and_agree_read(tmp_path):
    run = RunFolder(tmp_path)
    for model in ("base", "tuned"):
        (run.samples / model).mkdir(parents=True)
        (run.samples / model / "x.png").write_bytes(model.encode())
    files = [run.samples / model / "x.png" for model in ("base", "tuned")]
    base, tuned = files
    digests = [sha256(file.read_bytes()).hexdigest() for file in files]
    pair = Pair(3, "p", 7, base, tuned, digests[0], digests[1])
    told = {"time": "2026-01-31T12:00:00Z", "rater": "ann", "question": "quality", "repeat": False, "seconds": 1.0}
    with opened(run, "quality", "ann") as file:
        file.append(make_vote(pair, id="1", left="tuned", choice="left", **told))
        file.append(make_vote(pair, id="2", left="tuned", choice="right", replaces="1", **told))
    (found,) = read_preferences(run.votes / "quality", "jsonl")
    assert (found.prompt, found.preferred, found.dimensions) == ("p", 0.0, {"quality": 0.0})
    assert found.a.read_bytes() == b"tuned"
    assert found.b.read_bytes() == b"base"


def test_votes_come_back_as_they_were_and_corrected_ones_do_not_count(tmp_path):
    run = RunFolder(tmp_path)
    votes = [
        vote_of("1"),
        vote_of("2", "tie"),
        vote_of("3", "right", replaces="1"),
        vote_of("4", "both_bad", replaces="3"),
    ]
    for vote in votes:
        add(run, vote)
    assert read_votes(run) == votes
    assert [vote.id for vote in standing(votes)] == ["2", "4"]


@settings(max_examples=25)
@given(st.lists(st.tuples(st.sampled_from(CHOICES), st.floats(0, 1)), min_size=1, max_size=6))
def test_a_line_cut_off_anywhere_costs_at_most_that_line(tmp_path_factory, steps):
    """Each vote is cut off somewhere, as a kill would, and the next one appended."""
    run = RunFolder(tmp_path_factory.mktemp("run"))
    file, whole = votes_file(run, "overall", "ann"), []
    for number, (choice, part) in enumerate(steps):
        vote = vote_of(str(number), choice)
        add(run, vote)
        content = file.read_bytes()
        start = content[:-1].rfind(b"\n") + 1
        keep = start + round(part * (len(content) - start))
        file.write_bytes(content[:keep])
        whole += [vote] if keep >= len(content) - 1 else []  # but for the end of the line, it is whole
        assert read_file(file) == whole
    last = vote_of("99")
    add(run, last)
    assert read_file(file) == [*whole, last]
    assert all(json.loads(line) for line in file.read_text().splitlines())


def test_every_acknowledged_vote_survives_a_kill(tmp_path):
    """Seconds: two processes of one rater append at once, each tells what is stored, and both are killed."""
    run = RunFolder(tmp_path)
    processes = [
        subprocess.Popen([sys.executable, "-c", ENDLESS, str(tmp_path), name], env=environment(), stdout=subprocess.PIPE, text=True)
        for name in "ab"
    ]  # fmt: skip
    acknowledged = [
        process.stdout.readline() for process in processes if process.stdout for _ in range(6)
    ]  # both are at work
    for process in processes:
        process.kill()
    for process in processes:
        acknowledged += process.communicate()[0].splitlines(keepends=True)
    acknowledged = [line[:-1] for line in acknowledged if line.endswith("\n")]
    ids = [vote.id for vote in read_votes(run)]
    assert len(acknowledged) >= 12
    assert set(acknowledged) <= set(ids)
    assert len(ids) == len(set(ids)) <= len(acknowledged) + 2  # at most one of each that it had no time to tell
    add(run, vote_of("last"))
    assert [vote.id for vote in read_votes(run)] == [*ids, "last"]


def test_threads_take_turns(tmp_path):
    run = RunFolder(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: add(run, vote_of(str(number))), range(40)))
    assert {vote.id for vote in read_votes(run)} == {str(number) for number in range(40)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"choice": "best"}, "line 2: choice: Input should be 'left', 'right', 'tie' or 'both_bad'"),
        ({"left": None}, "line 2: left: Input should be 'base' or 'tuned'"),
        ({"seed": "7"}, "line 2: seed: Input should be a valid integer"),
        ({"preferred": "b"}, "line 2: preferred='b', but choice='left'; correct the line"),
    ],
)
def test_a_line_that_was_changed_is_named(tmp_path, change, words):
    run = RunFolder(tmp_path)
    file = add(run, vote_of("1"), vote_of("2"))
    first, second = file.read_text().splitlines()
    file.write_text(f"{first}\n{json.dumps(json.loads(second) | change)}\n")
    with pytest.raises(MpoError, match=words):
        read_votes(run)
    file.write_text(f"{first}\n{second[:40]}\n{second}\n")
    with pytest.raises(MpoError, match=r"ann\.jsonl, line 2: the line: Invalid JSON"):
        read_votes(run)


def test_a_full_disk_leaves_no_half_line(tmp_path, monkeypatch):
    """The system takes a part of a line, and then no more."""
    run = RunFolder(tmp_path)
    file = add(run, vote_of("1"))
    real = os.write
    taken = []

    def write(descriptor: int, data: bytes) -> int:
        if taken:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken.append(real(descriptor, data[:50]))
        return 50

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", write)
        with pytest.raises(MpoError, match="the disk is full"):
            add(run, vote_of("2"))
    assert file.read_text().count("\n") == 1
    assert read_votes(run) == [vote_of("1")]


@pytest.mark.parametrize(
    ("account", "rater"),
    [("anna", "anna"), ("maria.lopez@example", "maria-lopez-example"), ("Ümit", "mit"), ("名", "rater")],
)
def test_an_accounts_name_becomes_a_raters(monkeypatch, account, rater):
    monkeypatch.setenv("LOGNAME", account)  # where getpass looks first
    assert checked_rater(account_rater()) == rater
