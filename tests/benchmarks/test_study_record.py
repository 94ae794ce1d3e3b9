"""The study's record: what is kept of a run, what the tables say of it, and that the page says the same."""

import numpy as np
import pytest

from benchmarks.study import Job, prepare
from benchmarks.study_arms import ARMS, GROUPS
from benchmarks.study_record import (
    PAGE,
    Line,
    finished_runs,
    main,
    read_record,
    table,
    values_of,
    with_tables,
    write_record,
)
from mpo import MpoError
from tests.helpers.study import finish


def line(arm: str, repetition: int, **measures: float) -> Line:
    return Line(arm, repetition, ARMS[arm].settings, measures)


def test_finished_runs_are_added_once_and_the_first_result_stays(tmp_path):
    record, study, page = tmp_path / "record.jsonl", tmp_path / "study", tmp_path / "page.md"
    page.write_text("Before.\n\n<!-- rounds -->\n| an | old | table |\n\nAfter.\n")
    (study / "repetition-0" / "runs" / "ipo").mkdir(parents=True)  # a run that has only begun
    prepare(study, 2)
    finish(Job(study, "rounds-2", 0, ()), 0.75)
    finish(Job(study, "dominance", 1, ()), 0.7)
    finish(Job(study, "dominance", 0, ()), 0.8)
    main(["--add", str(study), "--record", str(record), "--page", str(page)])
    assert [(x.arm, x.repetition, x.measures["total"]) for x in read_record(record)] == [
        ("dominance", 0, 0.8), ("dominance", 1, 0.7), ("rounds-2", 0, 0.75),
    ]  # fmt: skip
    before, (head, _, row) = record.read_text(), page.read_text().split("\n\n")[1].splitlines()[1:]
    assert head == "| difference from dominance | dominance (1) | rounds-2 (1) |"
    assert row == "| total | 0.800 | -0.050 |"
    assert page.read_text().startswith("Before.\n\n<!-- rounds -->\n| difference from")
    assert page.read_text().endswith(" |\n\nAfter.\n")
    empty = "<!-- margins -->\n\nNothing yet.\n"
    assert with_tables(empty, read_record(record)) == empty
    again = tmp_path / "again"
    prepare(again, 1)
    finish(Job(again, "dominance", 0, ()), 0.1)
    main(["--add", str(again), "--record", str(record), "--page", str(page)])
    assert record.read_text() == before


def test_a_study_on_trial_is_not_kept(tmp_path):
    prepare(tmp_path / "set", 1)
    finish(Job(tmp_path / "set", "dominance", 0, ("train.num_steps=20",)), 0.8)
    with pytest.raises(MpoError, match="only a study without --set is kept"):
        main(["--add", str(tmp_path / "set"), "--record", str(tmp_path / "record.jsonl")])
    for arm, own in (("dominance", "256 and 128"), ("clips-total", "48 and 128")):
        few = tmp_path / f"few-{arm}"
        prepare(few, 1, 3, 2)
        finish(Job(few, arm, 0, ()), 0.8)
        with pytest.raises(MpoError, match=f"has 3 and 2 prompts; only a study of {own} is kept"):
            main(["--add", str(few), "--record", str(tmp_path / "record.jsonl")])
    assert not (tmp_path / "record.jsonl").exists()


def test_what_is_written_is_read_again(tmp_path):
    lines = [line("total", 3, total=0.5), line("rounds-2", 0, total=1.0)]
    write_record(list(reversed(lines)), tmp_path / "record.jsonl")
    assert read_record(tmp_path / "record.jsonl") == lines
    assert read_record(tmp_path / "none.jsonl") == []
    assert list(finished_runs(tmp_path)) == []


def test_arms_are_compared_over_the_repetitions_that_both_have():
    """By hand: differences of -0.1, -0.2 and -0.3 have the mean -0.2 and, by Student's t, 4.303 * 0.1 / sqrt(3) = 0.248."""
    rates = [(0, 0.7, 0.6), (1, 0.8, 0.6), (2, 0.9, 0.6)]
    lines = [line("dominance", r, total=first, same=0.5) for r, first, _ in rates]
    lines += [line("ipo", r, total=second, same=0.5) for r, _, second in rates]
    lines += [line("dominance", 3, total=0.8, same=0.5), line("mapo", 3, total=0.9, same=0.5)]
    lines += [line("dominance", 4, total=0.0, same=0.5)]  # which no other arm of the group has
    np.testing.assert_array_equal(values_of(lines, ("dominance", "ipo"))["total"], [[0.7, 0.6], [0.8, 0.6], [0.9, 0.6]])
    assert values_of(lines, ("dominance", "mapo"))["total"].shape == (1, 2)
    assert values_of(lines, ("ipo", "hinge")) == {}
    head, _, row, power = table(lines, "objectives").splitlines()
    assert head == "| difference from dominance | dominance (4) | ipo (3) | mapo (1) |"
    assert row == "| total | 0.800 (0.670 to 0.930) | -0.200 (-0.448 to +0.048) | +0.100 |"
    # t = 0.2 / (0.1 / sqrt(3)) = 3.464 with 2 degrees of freedom, d_z = -0.2 / 0.1; of one repetition nothing is known.
    assert power == "| total: p, effect, needed | | 0.074, -2, 5 |  |"
    assert table(lines, "rounds") == ""


def test_a_settled_difference_is_bold():
    lines = [line("dominance", r, total=0.7 + r / 100) for r in range(3)]
    lines += [line("ipo", r, total=0.6 + r / 100 + (r == 1) / 1000) for r in range(3)]
    assert table(lines, "objectives").splitlines()[2].endswith("| **-0.100 (-0.101 to -0.098)** |")


def test_the_page_has_the_tables_of_the_record():
    page, lines = PAGE.read_text("utf-8"), read_record()
    assert with_tables(page, lines) == page
    for group in GROUPS:
        assert page.count(f"<!-- {group} -->\n|") == bool(table(lines, group)), group


def test_recorded_arms_are_what_they_were():
    """An arm whose settings change needs another name, or its lines are no longer true."""
    lines = read_record()
    assert lines
    assert len({(x.arm, x.repetition) for x in lines}) == len(lines)
    measures = {ARMS[x.arm].recipe: x.measures.keys() for x in lines}
    for x in lines:
        assert x.settings == ARMS[x.arm].settings
        assert x.measures.keys() == measures[ARMS[x.arm].recipe]
