"""By submitit's executor of this machine: the same jobs, without Slurm."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from mpo import MpoError
from mpo.clusters.engine import wait_for
from mpo.clusters.on_slurm import SlurmEngine
from mpo.recipe import read_recipe
from mpo.run import run_recipe, run_stage
from mpo.run_folder.paths import RunFolder
from tests.helpers.clusters import files_without_training, is_as_trained_alone, runs_to_train, undone
from tests.helpers.command import environment
from tests.helpers.stages import NOTE, stage_elsewhere

pytestmark = pytest.mark.filterwarnings("ignore")  # submitit's own


@pytest.mark.skipif(shutil.which("sbatch") is not None, reason="a machine with Slurm")
def test_no_slurm_is_one_line():
    with pytest.raises(
        MpoError, match=r"--on slurm: there is no sbatch here; .* or try it with --cluster cluster=local"
    ):
        SlurmEngine(2)


def test_options_are_checked_before_anything_is_submitted():
    with pytest.raises(
        MpoError, match=r"gpus_per_machine=4 does not divide the 6 processes that train; set --trainers"
    ):
        SlurmEngine(6, options={"cluster": "local", "gpus_per_machine": "4"})
    with pytest.raises(MpoError, match=r"--cluster cluster=cloud: use slurm or local"):
        SlurmEngine(6, options={"cluster": "cloud"})
    with pytest.raises(MpoError, match=r"--on slurm has no 'queue'; it takes partition, account"):
        SlurmEngine(6, options={"queue": "gpu"})


def test_jobs_score_as_this_process_does_and_say_what_is_wrong(finished, tmp_path):
    """Two launches of one job each, with what a login node does in this process."""
    run = undone(finished, tmp_path / "run", ["score"])
    engine = SlurmEngine(1, options={"cluster": "local"})
    try:
        run_stage(run.folder, "score", engine=engine)
        assert (run.manifests / "score.json").read_bytes() == (finished / "manifests" / "score.json").read_bytes()
        assert not (run.folder / ".slurm").exists()
        next(run.candidates.rglob("000000-00.png")).write_bytes(b"no picture")
        with pytest.raises(MpoError, match=r"^score: item 0: .*000000-00.png' cannot be decoded"):
            engine.run_stage(run.folder, "score")
    finally:
        engine.close()


ONE_SAYS = """
from mpo import MpoError
if rank == 0:
    while "1" not in (folder / "started.txt").read_text():
        time.sleep(0.1)
    raise MpoError("the disk is full")
"""
UNWRITTEN = 'from mpo.clusters import worker; worker.SAID = "started.txt/said"\n'


@pytest.mark.parametrize(
    "body",
    [
        ONE_SAYS + "time.sleep(1); raise RuntimeError('Connection closed by peer')",
        ONE_SAYS + "time.sleep(600)",
        UNWRITTEN + ONE_SAYS,
    ],
    ids=["they miss the first", "they wait for the first", "the first cannot write"],
)
def test_what_one_of_a_group_says_is_told_whatever_becomes_of_the_others(body, tmp_path, monkeypatch):
    """Of two processes, which import no torch."""
    stage_elsewhere("one_says", NOTE + body, tmp_path / "path", monkeypatch)
    run = RunFolder(tmp_path / "run")
    engine = SlurmEngine(2, options={"cluster": "local"})
    began_s = time.monotonic()
    try:
        with pytest.raises(MpoError, match=r"^the disk is full$"):
            engine.run_whole(run, "one_says", 2, wait_for)
    finally:
        engine.close()
    assert sorted((run.folder / "started.txt").read_text("utf-8").split()) == ["0", "1"]  # and were not tried again
    assert time.monotonic() - began_s < 300
    assert not (run.folder / ".said").exists()
    assert not (run.folder / ".jobs").exists()  # none is left behind


def test_a_training_that_fails_says_why_and_is_not_tried_for_ever(tmp_path, monkeypatch):
    """Two jobs of two processes, which import no torch. The second process fails since it misses the first."""
    oom = 'if rank: time.sleep(1)\nraise RuntimeError("connection closed" if rank else f"CUDA out of memory, {os.getpid()} bytes are free")'
    stage_elsewhere("oom", NOTE + oom, tmp_path / "path", monkeypatch)
    run = RunFolder(tmp_path / "run")
    engine = SlurmEngine(2, options={"cluster": "local"})
    words = r"^oom: failed twice at the same place \(RuntimeError: CUDA out of memory, \d+ bytes are free\); see .*\.slurm; "
    try:
        with pytest.raises(MpoError, match=words):
            engine.run_whole(run, "oom", 2, wait_for)
    finally:
        engine.close()
    assert len((run.folder / "started.txt").read_text("utf-8").split()) == 2 * 2


COMMANDS = {
    "srun": "",
    "sbatch": 'echo x >> "$HERE/submitted"; echo "Submitted batch job $(wc -l < "$HERE/submitted")"',
    "scontrol": '[ ! -e "$HERE/refuses" ] && echo "$*" >> "$HERE/queued"',
}
UNTIL_STOPPED = """
if not (folder / "well.txt").exists():
    (folder / "started.txt").write_text("")
    time.sleep(600)
"""


@pytest.mark.slow
def test_a_job_may_reach_its_time_limit_often_and_one_that_is_not_queued_again_is_lost(tmp_path, monkeypatch):
    """Six processes, which import no torch, as Slurm starts and stops them; its commands are scripts."""
    stage_elsewhere("export", UNTIL_STOPPED, tmp_path / "path", monkeypatch)
    commands = tmp_path / "commands"
    commands.mkdir()
    for name, text in COMMANDS.items():
        (commands / name).write_text(f'#!/bin/sh\nHERE="$(dirname "$0")"\n{text}\n', "utf-8")
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(commands), prepend=":")
    run = RunFolder(tmp_path / "run")
    started = run.folder / "started.txt"

    def start(job_id: str, *, stop: bool) -> None:
        variables = environment() | {"PYTHONPATH": f"{tmp_path / 'path'}:{environment().get('PYTHONPATH', '')}"}
        variables |= {"SUBMITIT_EXECUTOR": "slurm", "SLURM_JOB_ID": job_id, "SLURM_NTASKS": "1"}
        command = [sys.executable, "-m", "submitit.core._submit", str(run.folder / ".slurm")]
        with subprocess.Popen(command, env=variables, stderr=subprocess.DEVNULL) as process:
            while stop and not started.exists() and process.poll() is None:
                time.sleep(0.05)
            if stop:
                process.send_signal(signal.SIGUSR2)  # as Slurm does before the end of the time
        started.unlink(missing_ok=True)

    def play(is_over) -> None:
        if (commands / "refuses").exists():
            (run.folder / "well.txt").touch()
            start("2", stop=False)
        else:
            for _ in range(4):  # one more than submitit allows by itself
                start("1", stop=True)
            (commands / "refuses").touch()
            start("1", stop=True)
        assert is_over()

    engine = SlurmEngine(1, options={"time": "1"})
    try:
        engine.run_whole(run, "export", 1, play)
    finally:
        engine.close()
    assert (commands / "queued").read_text("utf-8") == "requeue 1\n" * 4
    assert (commands / "submitted").read_text("utf-8") == "x\n" * 2


@pytest.mark.slow  # a dozen processes that import everything
def test_jobs_make_the_files_of_one_process_and_those_of_a_lost_one_are_made_again(finished, tmp_path, monkeypatch):
    """All stages but training, as arrays of two; a job is killed within the first."""
    folder = tmp_path / "run"
    engine = SlurmEngine(2, num_trainers=1, options={"cluster": "local"})
    wait = engine._wait
    killed = []

    def wait_and_kill(jobs, work, places, advance):
        if not killed:
            killed.append(jobs[0])
            os.kill(int(jobs[0].job_id), signal.SIGKILL)  # its controller, as when a machine is lost
        wait(jobs, work, places, advance)

    monkeypatch.setattr(engine, "_wait", wait_and_kill)
    try:
        run_recipe(read_recipe(finished / "recipe.yaml"), folder, engine=engine)
    finally:
        engine.close()
    assert killed
    whole, dealt = files_without_training(finished), files_without_training(folder)
    assert [name for name in whole.keys() | dealt.keys() if whole.get(name) != dealt.get(name)] == []


@pytest.mark.slow  # two jobs of two processes that import everything
def test_training_in_a_job_of_two_processes_equals_training_in_one(finished, tmp_path, fields):
    """But for rounding. A batch that two cannot share is refused by both, in one line."""
    refused, alone, two = runs_to_train(finished, tmp_path, fields)
    engine = SlurmEngine(2, options={"cluster": "local"})
    with pytest.raises(MpoError, match=r"train.batch_size=2"):
        engine.run_stage(refused.folder, "train")
    engine.run_stage(two.folder, "train")
    engine.close()
    is_as_trained_alone(two, alone)
