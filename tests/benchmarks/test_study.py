"""The study as a program: the order of its work, what a stop leaves, what is compared; and, slow, all of it at a small size."""

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks import study
from benchmarks.study import Job, jobs_of, tables, work
from mpo.run_folder.paths import RunFolder
from tests.helpers.study import finish


@dataclass(frozen=True)
class Quick(Job):
    """Instead of a run: two commands, of which the second makes the file that tells a finished run."""

    def commands(self) -> Iterator[Sequence[str]]:
        yield [sys.executable, "-c", "print('first')"]
        report = RunFolder(self.run).report
        report.parent.mkdir(parents=True, exist_ok=True)
        line = f"import pathlib; pathlib.Path({str(report)!r}).touch()"
        yield [sys.executable, "-c", "raise SystemExit(3)" if (self.study / f"fail-{self.arm}").exists() else line]


def quick_jobs(folder: Path, *arms: str, repetitions: int = 1) -> list[Job]:
    jobs: list[Job] = [Quick(folder, job.arm, job.repetition, ()) for job in jobs_of(folder, arms, repetitions)]
    for job in jobs:
        job.folder.mkdir(exist_ok=True)
    return jobs


def test_the_most_important_arms_come_first_repetition_by_repetition(tmp_path):
    order = [(job.arm, job.repetition) for job in jobs_of(tmp_path, ["total", "people-learnt"], 2)]
    assert order == [
        ("dominance", 0), ("total", 0), ("dominance", 1), ("total", 1), ("people-learnt", 0), ("people-learnt", 1),
    ]  # fmt: skip


def test_each_run_follows_what_it_takes_over_and_is_done_once(tmp_path, capsys):
    jobs = quick_jobs(tmp_path, "total", "candidates-12-widest", repetitions=2)
    assert not work(jobs, workers=2, seconds=60)
    lines = capsys.readouterr().err.splitlines()
    for after, before in (("total", "dominance"), ("candidates-12-widest", "candidates-12")):
        for repetition in (0, 1):
            done = next(k for k, line in enumerate(lines) if line.startswith(f"{before}, repetition {repetition}: "))
            assert lines.index(f"{after}, repetition {repetition} ...") > done
    assert (tmp_path / "repetition-0" / "logs" / "total.txt").read_text() == "first\n"
    assert len((tmp_path / "times.jsonl").read_text().splitlines()) == len(jobs) == 8
    assert not work(jobs, workers=2, seconds=60)
    assert capsys.readouterr().err == ""


def test_a_failure_is_named_and_stops_only_what_needs_it(tmp_path, capsys):
    (tmp_path / "fail-candidates-12").touch()
    jobs = quick_jobs(tmp_path, "total", "candidates-12-widest")
    failed = work(jobs, workers=1, seconds=60)
    assert [job.arm for job in failed] == ["candidates-12"]
    assert [job.arm for job in jobs if job.is_finished] == ["dominance", "total"]
    assert "candidates-12, repetition 0 failed; see" in capsys.readouterr().err


def test_no_run_begins_once_the_seconds_are_over(tmp_path):
    jobs = quick_jobs(tmp_path, "total")
    assert not work(jobs, workers=2, seconds=0)
    assert not any(job.is_finished for job in jobs)


def test_a_study_that_is_stopped_stops_its_runs(tmp_path):
    """A run left behind would hold its folder, so that the study could not go on."""
    script = f"""
import signal, sys
from pathlib import Path
from benchmarks.study import Job, work

class Slow(Job):
    def commands(self):
        yield [sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(60)"]

signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
folder = Path({str(tmp_path)!r})
(folder / "repetition-0").mkdir()
work([Slow(folder, "dominance", 0, ())], workers=1, seconds=60)
"""
    process = subprocess.Popen([sys.executable, "-c", script], cwd=study.ROOT, stderr=subprocess.DEVNULL)
    log = tmp_path / "repetition-0" / "logs" / "dominance.txt"
    while not log.exists() or not log.read_text().strip():
        assert process.poll() is None
        time.sleep(0.1)
    process.terminate()
    assert process.wait(30) == 143
    with pytest.raises(ProcessLookupError):
        os.kill(int(log.read_text()), 0)


def test_arms_are_compared_over_the_repetitions_that_both_have(tmp_path):
    jobs = jobs_of(tmp_path, ["total", "ipo", "hinge"], 3)
    assert tables(jobs) == ""
    rates = {"dominance": 0.7, "total": 0.6, "ipo": 0.65, "hinge": 0.6}
    for job in jobs:
        if (job.arm, job.repetition) != ("hinge", 2):
            finish(job, rates[job.arm] + 0.01 * job.repetition**2)
    text = tables(jobs)
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## strategies: dominance, total",
        "## objectives: dominance, ipo",
        "## objectives: dominance, hinge",
    ]
    assert text.count("A: the first (3 repetitions)") == 2
    assert "B: train.objective=hinge (2 repetitions)" in text
    assert "| total | B, paired | -0.100 |" in text


def test_a_plan_says_what_is_to_be_done(tmp_path, capsys):
    finish(Job(tmp_path, "dominance", 0, ()), 0.7)
    study.main(["--output", str(tmp_path), "--arms", "total", "--repetitions", "2", "--plan"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["done   dominance, repetition 0", "to do  total, repetition 0: select.strategy=total"]
    assert lines[-1] == "3 of 4 runs to do"


def test_the_commands_of_the_page_are_understood(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = (study.ROOT / "docs" / "study.md").read_text("utf-8")
    commands = re.findall(r"^python -m benchmarks\.study (.*?)(?:#.*)?$", page, re.MULTILINE)
    assert len(commands) >= 3
    for command in commands:
        study.main([*shlex.split(command), "--plan"])
        assert re.search(r"^\d+ of \d+ runs to do$", capsys.readouterr().out, re.MULTILINE)


def test_other_numbers_of_prompts_are_refused_in_a_study_that_has_begun(tmp_path):
    study.prepare(tmp_path, 1, 6, 3)
    before = (tmp_path / "repetition-0" / "train.txt").read_text()
    study.prepare(tmp_path, 2, 6, 3)
    with pytest.raises(SystemExit, match="has other prompts"):
        study.prepare(tmp_path, 1, 7, 3)
    assert (tmp_path / "repetition-0" / "train.txt").read_text() == before


@pytest.mark.slow
def test_a_small_study_from_nothing_to_its_tables(tmp_path, capsys):
    """Three arms through every command, in minutes: that the parts fit together."""
    settings = [
        "generate.num_inference_steps=3", "evaluate.num_inference_steps=3", "select.num_pairs=null", "train.num_steps=4",
        "train.warmup_steps=1", "train.batch_size=4", "evaluate.num_bootstrap=100",
    ]  # fmt: skip
    arguments = ["--output", str(tmp_path), "--repetitions", "1", "--num-train", "24", "--num-heldout", "6"]
    arguments += ["--arms", "people-learnt", "rounds-2"]
    arguments += [part for setting in settings for part in ("--set", setting)]
    study.main(arguments)
    text = capsys.readouterr().out
    for group in ("people: dominance, people-learnt", "rounds: dominance, rounds-2"):
        assert f"## {group}" in text
    assert text.count("(1 repetition)") == 4
    assert "| benchmarks.people:People: total | B, paired |" in text
    assert re.search(r"^\| mean, 95 % interval \| 0\.\d{3} \| 0\.\d{3} \| 0\.\d{3} \|$", text, re.MULTILINE)
    for arm in ("people-learnt", "rounds-2/round-1"):  # candidates and the base's pictures are made once
        for folder in ("candidates", "evaluation/samples/base"):
            runs = tmp_path / "repetition-0" / "runs"
            for file in (runs / arm / folder).iterdir():
                assert file.samefile(runs / "dominance" / folder / file.name)
