"""A recipe on a Slurm cluster: `mpo run RECIPE --on slurm`. Pieces go to arrays of jobs, training is one job; by submitit.

The driver waits on the machine where it was started, such as a login node, and needs no GPU. A job that Slurm stops and
queues again goes on from what it has written; the pieces of one that was lost go to the next array.
"""

import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpo import MpoError
from mpo.clusters.attempts import MAX_LOSSES, Setback, attempt_until_whole, one_line
from mpo.clusters.engine import POLL_S, Engine, num_items, typed
from mpo.clusters.jobs import LOGS, cancel_jobs, end_left_jobs, forget_jobs, note_jobs, undisturbed
from mpo.clusters.worker import FAILED, SAID, Named, StageWorker, named, run_in_group
from mpo.run_folder.files import delete
from mpo.run_folder.paths import RunFolder
from mpo.runtime.pieces import Work
from mpo.runtime.processes import shut_down
from mpo.runtime.progress import say, track

TIME_MIN = 24 * 60
MAX_TIME_LIMITS = 10_000  # that a job may reach, as it goes on with what it has written; by itself, submitit allows 3
OPTIONS: dict[str, Callable[[str], Any]] = {
    "partition": str, "account": str, "qos": str, "constraint": str, "time": int, "gpus": int, "cpus": int,
    "memory_gb": int, "gpus_per_machine": int, "setup": str, "cluster": str,
}  # fmt: skip
SLURMS = ("partition", "account", "qos", "constraint")  # its own options, under its own names


@dataclass(frozen=True)
class Task:
    """What a job does: pieces of a stage's N-th work, or the whole stage if there are none. Queued again as it is when Slurm stops it."""

    folder: str
    working_folder: str
    mark: str
    stage: str
    nth: int = 0
    portion: Sequence[Named] = ()
    joined: bool = False  # whether the job's tasks form a group of torch's

    def __call__(self) -> str:
        """In one line, what a user can put right; "" = all went well. Tasks that are joined raise it."""
        try:
            if self.joined:
                from submitit.helpers import TorchDistributedEnvironment

                if TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True).rank == 0:
                    Path(self.folder, FAILED).unlink(
                        missing_ok=True
                    )  # by processes that Slurm has stopped and queued again
                run_in_group(self.folder, self.working_folder, self.mark, self.stage)
                return ""
            worker = StageWorker(self.folder, self.working_folder)
            return worker.look(self.mark) or (
                worker.do(self.stage, self.nth, self.portion) if self.portion else worker.run(self.stage)
            )
        finally:
            shut_down()

    def checkpoint(self) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class SlurmEngine(Engine):
    """Arrays of `num_workers` jobs, and a job of `num_trainers` processes for training."""

    def __init__(self, num_workers: int, *, num_trainers: int | None = None, options: Mapping[str, str] | None = None):
        """options: partition, account, qos, constraint; of each worker: time (minutes, default: a day), gpus (default: 1), cpus,
        memory_gb, setup (a shell command before it); gpus_per_machine (default: 1): how many trainers share a machine;
        cluster=local: processes of this machine in place of Slurm's jobs.

        Raises MpoError if submitit is not installed, or there is no Slurm here.
        """
        super().__init__(num_workers, num_trainers)
        self._options = typed(options or {}, OPTIONS, on="slurm")
        self._submitit = _submitit()
        self._cluster = self._options.get("cluster", "slurm")
        if self._cluster not in ("slurm", "local"):
            raise MpoError(f"--cluster cluster={self._cluster}: use slurm or local")
        if self._cluster == "slurm" and shutil.which("sbatch") is None:
            raise MpoError(
                "--on slurm: there is no sbatch here; start it on a machine that can submit jobs, or try it with --cluster cluster=local"
            )
        per_machine = self._options.get("gpus_per_machine", 1)
        if self.num_trainers % per_machine:
            raise MpoError(
                f"--cluster gpus_per_machine={per_machine} does not divide the {self.num_trainers} processes that train; set --trainers to a multiple"
            )

        self._submitted = set[Path]()  # runs that have had jobs

    def describe(self) -> str:
        where = self._options.get("partition") or ("this machine" if self._cluster == "local" else "default partition")
        return f"Slurm, {where}; {self.num_workers} workers"

    def stop_work(self) -> None:
        while self._submitted:  # once: a second signal would disturb submitit, which is ending them
            cancel_jobs(self._submitted.pop())

    def do(self, run: RunFolder, stage: str, nth: int, work: Work, missing: Sequence[int]) -> None:
        waiting = list(missing)
        with track(work.description, total=num_items(work, missing)) as advance:
            for turn in range(MAX_LOSSES + 1):
                shares = [waiting[k :: self.num_workers] for k in range(min(self.num_workers, len(waiting)))]
                tasks = [self._task(run, stage, nth, named(work, share)) for share in shares]
                jobs = self._submit(run, work.description, tasks)
                self._wait(jobs, work, waiting, advance)
                forget_jobs(run.folder)
                setbacks = [self._setback(job, joined=False) for job in jobs]
                lost = [(share, each) for share, each in zip(shares, setbacks, strict=True) if each]
                if not lost:
                    delete(run.folder / LOGS)
                    return
                waiting = [place for share, _ in lost for place in share]
                first = lost[0][1]
                if turn == MAX_LOSSES:
                    raise MpoError(
                        f"{work.description}: jobs were lost {turn + 1} times, at last so: {first.reason}; see {run.folder / LOGS}, and run the same command again, which continues from here"
                    ) from first.error
                say(f"{work.description}: jobs were lost ({first.reason}); {len(waiting)} pieces are given to others")

    def run_whole(
        self, run: RunFolder, stage: str, num_processes: int, watch: Callable[[Callable[[], bool]], None]
    ) -> None:
        joined = num_processes > 1
        said = run.folder / SAID

        def attempt() -> Setback | None:
            said.unlink(missing_ok=True)
            [job] = self._submit(run, stage, [self._task(run, stage, joined=joined)], num_processes)
            watch(lambda: said.exists() or job.done())
            if said.exists():
                words = said.read_text("utf-8")
                said.unlink()
                end_left_jobs(run.folder)  # whose processes wait for the one that has said this
                raise MpoError(words)
            forget_jobs(run.folder)
            return self._setback(job, joined=joined)

        attempt_until_whole(run, stage, attempt, logs=str(run.folder / LOGS))
        delete(run.folder / LOGS)

    def _task(
        self, run: RunFolder, stage: str, nth: int = 0, portion: Sequence[Named] = (), *, joined: bool = False
    ) -> Task:
        return Task(str(run.folder), str(Path.cwd()), self.mark(run), stage, nth, portion, joined)

    def _submit(self, run: RunFolder, name: str, tasks: Sequence[Task], num_processes: int = 1) -> list[Any]:
        """A job of so many processes for each task; several jobs are an array."""
        end_left_jobs(run.folder)
        executor = self._executor(run, name, num_processes)
        try:
            with undisturbed():
                if len(tasks) == 1:
                    jobs = [executor.submit(tasks[0])]
                else:
                    with executor.batch():
                        jobs = [executor.submit(task) for task in tasks]
                ids = {job.job_id.partition("_")[0] for job in jobs}  # one of a whole array
                note_jobs(run.folder, self._cluster, sorted(ids))
                self._submitted.add(run.folder)
                return jobs
        except self._submitit.core.utils.FailedSubmissionError as error:
            raise MpoError(
                f"--on slurm: the job was refused ({' '.join(str(error).split())}); see --cluster"
            ) from error

    def _executor(self, run: RunFolder, name: str, num_processes: int = 1) -> Any:
        given, local = self._options, self._cluster == "local"
        executor = self._submitit.AutoExecutor(
            folder=run.folder / LOGS, cluster=self._cluster, slurm_max_num_timeout=MAX_TIME_LIMITS
        )
        per_machine = num_processes if local else min(num_processes, given.get("gpus_per_machine", 1))
        gpus = given.get("gpus", 0 if local else 1) * per_machine
        settings = {
            "name": f"mpo-{name.replace(' ', '-').replace(':', '')}",
            "timeout_min": given.get("time", TIME_MIN),
            "nodes": num_processes // per_machine,
            "tasks_per_node": per_machine,
            "gpus_per_node": gpus or None,
            "cpus_per_task": given.get("cpus"),
            "mem_gb": given["memory_gb"] * per_machine if "memory_gb" in given else None,
            "slurm_setup": [given["setup"]] if "setup" in given else None,
            "slurm_srun_args": None if local else ["--kill-on-bad-exit=1"],  # the others would wait for a lost one
            **{f"slurm_{option}": given[option] for option in SLURMS if option in given},
        }
        executor.update_parameters(**{key: value for key, value in settings.items() if value is not None})
        return executor

    def _wait(self, jobs: Sequence[Any], work: Work, places: Sequence[int], advance: Callable[..., object]) -> None:
        """Until all jobs are over; shows as done what is written meanwhile."""
        unseen = list(places)
        while True:
            over = all(job.done() for job in jobs)
            seen = {place for place in unseen if all(file.exists() for file in work.pieces[place].files)}
            if seen:
                advance(num_items(work, seen))
                unseen = [place for place in unseen if place not in seen]
            if over:
                return
            time.sleep(POLL_S)

    def _setback(self, job: Any, *, joined: bool) -> Setback | None:
        """Why a job has not done all that it should; None = it has. Raises MpoError for what a user can put right.

        joined: of several processes, where any error may come from the loss of another.
        """
        errors = self._submitit.core.utils
        try:
            said = job.results()
        except errors.UncompletedJobError as error:
            by_itself = isinstance(error, errors.FailedJobError)
            is_loss = not by_itself or "checkpoint_and_try_requeue" in str(
                error
            )  # Slurm stopped it, and did not queue it again
            if not is_loss and not joined:
                raise  # with the job's own traceback: another would end the same way
            words = next(filter(None, map(_raised, _tasks(job))), "")
            if words:
                raise MpoError(words) from error
            return Setback(error, one_line(error) if by_itself else f"job {job.job_id}: {job.state}", is_loss)
        words = next((each for each in said if each), "")
        if words:
            raise MpoError(words)
        return None


def _tasks(job: Any) -> list[Any]:
    return [job.task(k) for k in range(job.num_tasks)]


def _raised(task: Any) -> str:
    """What a process that has ended has raised for a user to put right; "" = nothing."""
    if not task.paths.result_pickle.exists():  # which would be waited for
        return ""
    found = re.search(rf"^{MpoError.__module__}\.{MpoError.__name__}: (.*)$", str(task.exception()), re.MULTILINE)
    return found[1] if found else ""


def _submitit() -> Any:
    try:
        import submitit
    except ImportError:
        raise MpoError("--on slurm: submitit is not installed; pip install 'mpo[slurm]'") from None
    return submitit
