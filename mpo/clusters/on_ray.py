"""A recipe on a Ray cluster: `mpo run RECIPE --on ray`. Workers are actors, training is a job of Ray Train.

All actors are asked for at once, so those that find no room wait for machines to join, and an autoscaler sees that more are
wanted. A lost actor's portion is given to another, and a new actor is asked for.
"""

import logging
import os
import socket
import threading
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mpo import MpoError
from mpo.clusters.attempts import Losses, Setback, attempt_until_whole, one_line
from mpo.clusters.engine import POLL_S, Engine, num_items, portions_of, typed
from mpo.clusters.worker import SAID, StageWorker, named, run_in_group
from mpo.run_folder.files import delete
from mpo.run_folder.paths import RunFolder
from mpo.runtime.pieces import Work
from mpo.runtime.processes import PATIENCE
from mpo.runtime.progress import say, track

CONNECT_S = 10.0
NONE_UP_S = 60.0  # without a worker, before that is said
# What workers take over from the driver, beside what their machine has set.
VARIABLES = ("OMP_NUM_THREADS", "HF_HUB_OFFLINE")
OPTIONS: dict[str, Callable[[str], Any]] = {"gpus": float, "cpus": float, "memory_gb": float}  # of each worker


class RayEngine(Engine):
    """Actors on a Ray cluster, up to `num_workers`, and training in `num_trainers` of Ray Train's workers."""

    def __init__(
        self, num_workers: int, *, num_trainers: int | None = None, address: str = "auto",
        options: Mapping[str, str] | None = None,
    ):  # fmt: skip
        """address: of the cluster; "auto" = the one that this machine belongs to, "local" = a new one of this machine alone.
        options: of each worker: gpus (default: 1 if the cluster has any), cpus (default: 1), memory_gb.

        Raises MpoError if Ray is not installed, or there is no such cluster.
        """
        super().__init__(num_workers, num_trainers)
        self._options = typed(options or {}, OPTIONS, on="ray")
        self._ray = _connect(address)
        kinds = self._ray.exceptions
        self._lost = (kinds.RayActorError, kinds.ObjectLostError, kinds.OutOfMemoryError, kinds.WorkerCrashedError)
        self._folder: Path | None = None  # of the run that the actors are for
        self._actors: set[Any] = set()  # that have seen it
        self._starting: dict[Any, Any] = {}  # what an actor will say about the run's folder, and the actor

    def describe(self) -> str:
        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        have = Counter[str]()
        for node in nodes:
            have.update({name: node["Resources"].get(name, 0) for name in ("GPU", "CPU")})
        gpus = f"{have['GPU']:g} GPUs, " if have["GPU"] else ""
        return f"Ray, {len(nodes)} machines with {gpus}{have['CPU']:g} cores; {self.num_workers} workers"

    def close(self) -> None:
        super().close()
        self._ray.shutdown()

    def do(self, run: RunFolder, stage: str, nth: int, work: Work, missing: Sequence[int]) -> None:
        waiting = deque(portions_of(work, missing, self.num_workers))
        held: dict[Any, tuple[Any, list[int]]] = {}  # what an actor will say, the actor, its portion
        losses = Losses(work, self.num_workers)
        began_s = time.monotonic()
        with track(work.description, total=num_items(work, missing)) as advance:
            while waiting or held:
                # Deal: a portion for each idle actor.
                self._ask_for_actors(run, len(waiting) + len(held))
                began_s = self._say_if_none_is_up(work.description, began_s)
                busy = {actor for actor, _ in held.values()}
                idle = [actor for actor in self._actors if actor not in busy]
                for actor in idle[: len(waiting)]:
                    portion = waiting.popleft()
                    held[actor.do.remote(stage, nth, named(work, portion))] = (actor, portion)

                # Collect: who has finished a portion, has come up, or was lost.
                ready, _ = self._ray.wait([*held, *self._starting], timeout=POLL_S)
                for said in ready:
                    actor, portion = held.pop(said) if said in held else (self._starting.pop(said), [])
                    lost = self._loss_of(said)
                    if lost is None:
                        self._actors.add(actor)
                        losses.forget(portion)
                        advance(num_items(work, portion))
                        continue
                    self._actors.discard(actor)
                    if portion:  # first in line for the next
                        waiting.appendleft(portion)
                    losses.note(portion, one_line(lost))

    def _ask_for_actors(self, run: RunFolder, num_portions: int) -> None:
        """So many as there is work for. Those of another run's folder are ended."""
        if self._folder != run.folder:
            self._end_all()
            self._folder = run.folder
        wanted = min(self.num_workers, num_portions) - len(self._actors) - len(self._starting)
        for _ in range(wanted):
            actor = self._ray.remote(StageWorker).options(**self._resources()).remote(str(run.folder), str(Path.cwd()))
            self._starting[actor.look.remote(self.mark(run))] = actor

    def _say_if_none_is_up(self, description: str, since_s: float) -> float:
        """Once in a while, if there is no actor; returns since when there has been none, or nothing was said."""
        if self._actors or time.monotonic() - since_s < NONE_UP_S:
            return time.monotonic() if self._actors else since_s
        needed = ", ".join(f"{name}={count:g}" for name, count in self._resources().items() if count)
        say(f"{description}: waits for a machine with room for a worker ({needed}); see `ray status`")
        return time.monotonic()

    def _resources(self) -> dict[str, Any]:
        gpus = self._options.get("gpus", 1 if self._ray.cluster_resources().get("GPU", 0) else 0)
        memory_gb = self._options.get("memory_gb")
        memory = {} if memory_gb is None else {"memory": int(memory_gb * 1e9)}
        return {"num_gpus": gpus, "num_cpus": self._options.get("cpus", 1), **memory}

    def _loss_of(self, said: Any) -> Exception | None:
        """How the actor that was asked was lost; None = it has answered. Raises MpoError for what a user can put right."""
        try:
            words = self._ray.get(said)
        except self._lost as error:
            return error
        if words:
            raise MpoError(words)
        return None

    def _end_all(self) -> None:
        """So that their GPUs are free."""
        for actor in [*self._actors, *self._starting.values()]:
            self._ray.kill(actor)
        self._actors.clear()
        self._starting.clear()

    def run_whole(
        self, run: RunFolder, stage: str, num_processes: int, watch: Callable[[Callable[[], bool]], None]
    ) -> None:
        def attempt() -> Setback | None:
            over = threading.Event()
            watcher = threading.Thread(target=watch, args=(over.is_set,), daemon=True)
            watcher.start()
            try:
                if num_processes > 1:
                    return self._run_together(run, stage, num_processes)
                return self._run_alone(run, stage)
            finally:
                over.set()
                watcher.join()

        attempt_until_whole(run, stage, attempt, logs="Ray's logs")

    def _run_alone(self, run: RunFolder, stage: str) -> Setback | None:
        """None = its actor lived to the end."""
        self._ask_for_actors(run, 1)
        began_s = time.monotonic()
        while not self._actors:
            began_s = self._say_if_none_is_up(stage, began_s)
            ready, _ = self._ray.wait(list(self._starting), timeout=POLL_S)
            if not ready:
                continue
            [said] = ready
            actor = self._starting.pop(said)
            lost = self._loss_of(said)
            if lost is not None:
                return Setback(lost, one_line(lost), is_loss=True)
            self._actors.add(actor)
        actor = next(iter(self._actors))
        lost = self._loss_of(actor.run.remote(stage))
        if lost is None:
            return None
        self._end_all()  # others may have gone with its machine
        return Setback(lost, one_line(lost), is_loss=True)

    def _run_together(self, run: RunFolder, stage: str, num_processes: int) -> Setback | None:
        """The same in processes that Ray Train joins to a group."""
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        self._end_all()
        resources = self._resources()
        names = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}  # as Ray Train calls them
        each = {names[name]: count for name, count in resources.items() if count}
        room = min(int(self._ray.cluster_resources().get(name, 0) // count) for name, count in each.items())
        if room < num_processes:
            say(f"{stage}: waits for {num_processes} workers; the cluster has room for {room} now")
        own = run.folder / ".ray"  # what Ray Train keeps of a job, on the disk that all share
        said = run.folder / SAID
        said.unlink(missing_ok=True)
        trainer = TorchTrainer(
            _run_in_group,
            train_loop_config={
                "folder": str(run.folder), "working_folder": str(Path.cwd()), "mark": self.mark(run), "stage": stage
            },
            scaling_config=ScalingConfig(
                num_workers=num_processes, use_gpu=bool(resources["num_gpus"]), resources_per_worker=each
            ),
            torch_config=TorchConfig(timeout_s=int(PATIENCE.total_seconds())),
            run_config=RunConfig(name=stage, storage_path=str(own), failure_config=FailureConfig(max_failures=0)),
        )  # fmt: skip
        try:
            trainer.fit()
            return None
        except Exception as error:  # its classes differ between versions; a worker's own words are kept apart
            if said.exists():
                raise MpoError(said.read_text("utf-8")) from error
            cause = _cause(error)
            if isinstance(cause, MpoError):  # of a machine that does not see the run's folder
                raise cause from error
            is_loss = isinstance(cause, self._lost) and "creation task" not in str(cause)  # which would fail again
            return Setback(error, one_line(cause), is_loss)
        finally:
            said.unlink(missing_ok=True)
            delete(own)


def _cause(error: BaseException) -> BaseException:
    """What Ray Train's error is about: a worker's own, if there is one, rather than the loss of another."""
    inner = getattr(error, "controller_failure", None) or getattr(error, "health_check_failure", None)
    workers = [_cause(each) for each in getattr(error, "worker_failures", {}).values()]
    workers.sort(key=lambda each: type(each).__module__.startswith("ray."))
    return _cause(inner) if inner else workers[0] if workers else error


def _run_in_group(config: dict[str, str]) -> None:
    run_in_group(**config)


def _connect(address: str) -> Any:
    try:
        import ray
    except ImportError:
        raise MpoError("--on ray: Ray is not installed; pip install 'mpo[ray]'") from None
    if address.startswith("ray://"):
        raise MpoError(f"--address={address}: start mpo on a machine of the cluster, with --address auto")
    host, _, port = address.rpartition(":")
    if port.isdigit():  # which Ray itself would try to reach for minutes
        try:
            socket.create_connection((host, int(port)), timeout=CONNECT_S).close()
        except OSError as error:
            raise _no_cluster(address, error) from None
    own: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    variables = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about what its next version will do
        try:
            ray.init(
                address=address, log_to_driver=False, logging_level=logging.ERROR, ignore_reinit_error=True,
                runtime_env={"env_vars": variables}, **own,
            )  # fmt: skip
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise _no_cluster(address, error) from None
    return ray


def _no_cluster(address: str, error: Exception) -> MpoError:
    reason = " ".join(str(error).split())
    return MpoError(
        f"--address={address}: no Ray cluster is there ({reason}); start one with `ray start --head`, or use --address local"
    )
