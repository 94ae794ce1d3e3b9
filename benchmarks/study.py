"""The quickstart's choices, each over repetitions in which everything random is fresh: candidates, prompts, training, evaluation.

    python -m benchmarks.study --output STUDY --plan                  # what would run
    python -m benchmarks.study --output STUDY                         # 27 arms, 5 repetitions: half a day on two idle cores
    python -m benchmarks.study --output STUDY --arms total people-learnt --repetitions 10 --seconds 20000

Run it again to go on: what is finished is not run again, and a killed run continues. The tables at the end are those of `mpo compare`,
over what is there. STUDY/repetition-N holds the prompts, STUDY/repetition-N/runs/ARM a run each; recipes name files relative to
STUDY/repetition-N, so that repetitions differ in seeds alone. docs/study.md explains the method.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.people import majority_win_rate, taste
from benchmarks.study_arms import ARMS, GROUPS, SETUPS, draw_prompts, settings_of, with_sources, write_prompts
from mpo.comparison.repetitions import mean_of
from mpo.recipe import load_recipe
from mpo.run_folder.paths import RunFolder, last_round
from mpo.study import compare, describe, interval
from reward.checklist import save_checklist

ROOT = Path(__file__).parents[1]
POLL_S = 0.2
MPO, REWARD = (sys.executable, "-m", "mpo.cli"), (sys.executable, "-m", "reward.cli")
PEOPLE = (sys.executable, "-m", "benchmarks.people")


@dataclass(frozen=True)
class Job:
    """One arm of one repetition."""

    study: Path
    arm: str
    repetition: int
    extra: tuple[str, ...]  # settings of all arms

    @property
    def folder(self) -> Path:
        """The repetition's, where its commands run."""
        return self.study / f"repetition-{self.repetition}"

    @property
    def run(self) -> Path:
        return self.folder / "runs" / self.arm

    @property
    def settings(self) -> list[str]:
        return [*settings_of(self.arm, self.repetition), *self.extra]

    @property
    def is_finished(self) -> bool:
        """A report is the last thing that a run makes; in rounds, the last round's."""
        return RunFolder(last_round(self.run, _rounds(ARMS[self.arm].recipe, tuple(self.settings)))).report.is_file()

    def commands(self) -> Iterator[Sequence[str]]:
        """Those that are still to be run, in order."""
        if self.arm == "people-learnt" and not (self.folder / "learnt.yaml").exists():
            voted = "runs/dominance"
            yield [*PEOPLE, "vote", voted, "--output", "votes.jsonl", "--seed", str(self.repetition)]
            asked = ("--checklist", "image", "--questions", "answerable")
            yield [*REWARD, "fit", "votes.jsonl", "--output", "fitted.yaml", "--overwrite", "--quiet", *asked]
            yield [*PEOPLE, "scale", "fitted.yaml", "--run", voted, "--output", "learnt.yaml"]
        source = ARMS[self.arm].source
        taken = ["--from", f"runs/{source}"] if source else []
        settings = [part for each in self.settings for part in ("--set", each)]
        yield [*MPO, "run", ARMS[self.arm].recipe, "--quiet", "--output", f"runs/{self.arm}", *settings, *taken]


@cache
def _rounds(recipe: str, settings: tuple[str, ...]) -> int:
    return load_recipe(recipe, settings).rounds


@dataclass
class Worker:
    """A job at work: its commands, one after the other."""

    job: Job
    begun: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        (self.job.folder / "logs").mkdir(exist_ok=True)
        self.commands = self.job.commands()
        self.process = self._start(next(self.commands))

    def _start(self, command: Sequence[str]) -> subprocess.Popen:
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
        with (self.job.folder / "logs" / f"{self.job.arm}.txt").open("ab") as log:
            return subprocess.Popen(command, cwd=self.job.folder, env=environment, stdout=log, stderr=subprocess.STDOUT)

    def poll(self) -> int | None:
        """None = still at work, else the exit code of the last command."""
        code = self.process.poll()
        if code == 0 and (following := next(self.commands, None)):
            self.process = self._start(following)
            return None
        return code


def jobs_of(study: Path, arms: Sequence[str], repetitions: int, extra: Sequence[str] = ()) -> list[Job]:
    """In the order of the work: group by group, in each repetition by repetition, so that it may be cut off anywhere."""
    wanted, jobs = with_sources(arms), dict[tuple[str, int], Job]()
    for group in GROUPS.values():
        for repetition in range(repetitions):
            for arm in group:
                if arm in wanted:
                    jobs.setdefault((arm, repetition), Job(study, arm, repetition, tuple(extra)))
    return list(jobs.values())


def work(jobs: Sequence[Job], *, workers: int, seconds: float) -> list[Job]:
    """Do them, so many at a time, each once what it takes over is finished; returns those that failed.

    seconds: none is begun after that many.
    """
    deadline = time.monotonic() + seconds
    waiting = [job for job in jobs if not job.is_finished]
    running: list[Worker] = []
    failed: list[Job] = []
    try:
        while running or (waiting and time.monotonic() < deadline):
            while len(running) < workers and time.monotonic() < deadline:
                job = next((job for job in waiting if _is_ready(job)), None)
                if job is None:
                    break
                waiting.remove(job)
                running.append(Worker(job))
                _say(f"{job.arm}, repetition {job.repetition} ...")
            if not running:  # what the others take over has failed
                break
            time.sleep(POLL_S)
            for worker in [worker for worker in running if worker.poll() is not None]:
                running.remove(worker)
                _conclude(worker, failed)
    finally:
        for worker in running:
            worker.process.terminate()
        for worker in running:
            worker.process.wait()
    return failed


def _is_ready(job: Job) -> bool:
    source = ARMS[job.arm].source
    return source is None or replace(job, arm=source).is_finished


def _conclude(worker: Worker, failed: list[Job]) -> None:
    job, took = worker.job, time.monotonic() - worker.begun
    if worker.process.returncode:
        failed.append(job)
        _say(f"{job.arm}, repetition {job.repetition} failed; see {job.folder / 'logs' / job.arm}.txt")
        return
    _say(f"{job.arm}, repetition {job.repetition}: {took:.0f} s")
    row = {"arm": job.arm, "repetition": job.repetition, "seconds": round(took, 1)}
    with (job.study / "times.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def prepare(study: Path, repetitions: int, num_train: int | None = None, num_heldout: int | None = None) -> None:
    """Prompts and people's taste, where they are missing. Exits if they were made with other numbers of prompts.

    num_train, num_heldout: None = as many as the study has.
    """
    study.mkdir(parents=True, exist_ok=True)
    save_checklist(taste(), study / "taste.yaml")
    for recipe, setup in SETUPS.items():  # for whoever chooses settings: no run of the study uses them
        choosing = draw_prompts("choosing", num_heldout or setup.num_heldout, 0, recipe)
        (study / setup.prompt_file("choosing")).write_text("\n".join(choosing) + "\n", "utf-8")
    for repetition in range(repetitions):
        folder = study / f"repetition-{repetition}"
        folder.mkdir(exist_ok=True)
        held = {path.name: path.read_text("utf-8") for path in folder.glob("*.txt")}
        write_prompts(folder, repetition, num_train, num_heldout)
        if any((folder / name).read_text("utf-8") != text for name, text in held.items()):
            for name, text in held.items():
                (folder / name).write_text(text, "utf-8")
            sys.exit(
                f"{folder} has other prompts; give the numbers of prompts that it was made with, or another --output"
            )
        (folder / "taste.yaml").write_bytes((study / "taste.yaml").read_bytes())


def tables(jobs: Sequence[Job]) -> str:
    """Each group's arms against its first, over the repetitions that both have finished: Markdown."""
    finished = {(job.arm, job.repetition): job.run for job in jobs if job.is_finished}
    lines = []
    for group, (first, *others) in GROUPS.items():
        together: dict[tuple[int, ...], list[str]] = {}  # repetitions: the arms that have these
        for arm in others:
            common = tuple(sorted(r for a, r in finished if a == arm and (first, r) in finished))
            if common:
                together.setdefault(common, []).append(arm)
        for repetitions, arms in together.items():
            folders = [finished[arm, r] for arm in (first, *arms) for r in repetitions]
            lines += [f"## {group}: {', '.join((first, *arms))}", "", describe(compare(folders)), ""]
            if group == "people":
                lines += [*_by_people([(r, finished[first, r], finished[arms[0], r]) for r in repetitions]), ""]
    return "\n".join(lines)


def _by_people(runs: Sequence[tuple[int, Path, Path]]) -> Iterator[str]:
    """What people who have not voted prefer: rows of (repetition, run with published weights, run with learnt ones)."""
    yield "| repetition | published over base | learnt over base | learnt over published |"
    yield "|---|---|---|---|"
    rates = []
    for repetition, *both in runs:
        published, learnt = map(RunFolder, both)
        pairs = ((published, None), (learnt, None), (learnt, published))
        rates.append([majority_win_rate(run, against, seed=repetition) for run, against in pairs])
        yield f"| {repetition} | {' | '.join(f'{rate:.3f}' for rate in rates[-1])} |"
    means = [mean_of(np.array(column)) for column in zip(*rates, strict=True)]
    yield f"| mean, 95 % interval | {' | '.join(map(interval, means))} |"


def times(study: Path) -> str:
    """Mean seconds of each arm's finished runs: Markdown. A run that was stopped counts from where it went on."""
    if not (study / "times.jsonl").exists():
        return ""
    taken: dict[str, list[float]] = {}
    for line in (study / "times.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        taken.setdefault(row["arm"], []).append(row["seconds"])
    rows = [f"| {arm} | {len(seconds)} | {np.mean(seconds):.0f} |" for arm, seconds in taken.items()]
    return "\n".join(["| arm | runs | mean seconds |", "|---|---|---|", *rows])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), metavar="ARM", help=", ".join(ARMS))
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2, help="runs at a time, each on one thread")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no run after so many")
    parser.add_argument("--plan", action="store_true", help="say what is done and what is not, and stop")
    parser.add_argument("--num-train", type=int, help="training prompts of a repetition, if others than the study's")
    parser.add_argument("--num-heldout", type=int, help="held-out prompts of a repetition, if others than the study's")
    parser.add_argument("--set", dest="extra", action="append", default=[], help="of all recipes", metavar="KEY=VALUE")
    given = parser.parse_args(arguments)
    study, begun = given.output.absolute(), time.monotonic()
    jobs = jobs_of(study, given.arms, given.repetitions, given.extra)
    if given.plan:
        for job in jobs:
            state = "done" if job.is_finished else "to do"
            print(f"{state:<6} {job.arm}, repetition {job.repetition}: {' '.join(ARMS[job.arm].settings)}".rstrip(": "))
        print(f"{sum(not job.is_finished for job in jobs)} of {len(jobs)} runs to do")
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that runs are stopped, too
    prepare(study, given.repetitions, given.num_train, given.num_heldout)
    failed = work(jobs, workers=given.workers, seconds=given.seconds)
    print(f"{tables(jobs)}\n{times(study)}\n\nwall time {time.monotonic() - begun:.0f} s")
    if failed:
        sys.exit(f"failed: {', '.join(f'{job.arm} of repetition {job.repetition}' for job in failed)}")


if __name__ == "__main__":
    main()
