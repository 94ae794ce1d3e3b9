"""Ray and Slurm against one process on the same cores: pieces a second, what a portion costs beside its work, a lost machine.

    python -m benchmarks.machines rates       # the quickstart's candidates by each engine, in turn, several times
    python -m benchmarks.machines overhead    # a portion that holds nothing to do, and the measured judge on tiny pictures
    python -m benchmarks.machines kill        # how much longer it takes when one of two machines is lost halfway

Ratios from one run; the second columns are seconds of this machine. Ray's machines are raylets of this one, Slurm's jobs are submitit's local
processes. One process has as many threads as there are workers, so that all use the same cores.
"""

import argparse
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from mpo.clusters.engine import Engine
from mpo.clusters.on_ray import RayEngine
from mpo.clusters.on_slurm import SlurmEngine
from mpo.recipe import Recipe, load_recipe
from mpo.run import run_recipe
from mpo.run_folder.paths import RunFolder

WORKERS = 2


def recipe_of(num_prompts: int, *changes: str) -> Recipe:
    prompts = f"prompts.train={{path: prompts/shapes-train.txt, limit: {num_prompts}}}"
    return load_recipe("quickstart", [prompts, "generate.num_candidates=8", "generate.batch_size=8", *changes])


class Machines:
    """A Ray cluster of this machine: a head without cores, and machines of one core each."""

    def __init__(self, num_machines: int = WORKERS):
        from ray.cluster_utils import Cluster

        self.cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        self.nodes = [self.cluster.add_node(num_cpus=1) for _ in range(num_machines)]

    def engine(self) -> Engine:
        return RayEngine(WORKERS, num_trainers=1, address=self.cluster.address)


def of_slurm() -> Engine:
    return SlurmEngine(WORKERS, num_trainers=1, options={"cluster": "local"})


def generate(recipe: Recipe, start: Callable[[], Engine] | None) -> tuple[float, float]:
    """(seconds until the first picture, pictures a second from then on) of stage generate."""
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder) / "run")
        began_s = time.time()
        engine = start() if start else None
        try:
            run_recipe(recipe, run.folder, stages=("generate",), engine=engine)
        finally:
            if engine:
                engine.close()
        made_s = sorted(file.stat().st_mtime for file in run.candidates.rglob("*.png"))
    batch = recipe.generate.batch_size if recipe.generate else 0
    rest = made_s[batch:]  # the first batch waits for the model
    return made_s[0] - began_s, len(rest) / (rest[-1] - made_s[batch - 1])


def rates(num_rounds: int) -> None:
    machines = Machines()
    recipe = recipe_of(16)
    ways = {"one process": None, "Ray": machines.engine, "Slurm (local)": of_slurm}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(num_rounds):
        for name, start in ways.items():
            found[name].append(generate(recipe, start))
            print(name, found[name][-1], flush=True)
    machines.cluster.shutdown()
    alone = statistics.median(rate for _, rate in found["one process"])
    for name, measured in found.items():
        first, rate = (statistics.median(column) for column in zip(*measured, strict=True))
        print(f"{name:<14} {rate / alone:5.2f} of one process's rate; {first:6.1f} s to the first picture")


def overhead() -> None:
    from mpo.clusters.worker import works_of

    machines = Machines()
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder) / "run")
        recipe = recipe_of(64, "generate.num_inference_steps=1", "model.sizes=[[32, 32]]")
        run_recipe(recipe, run.folder, stages=("generate",))
        engine = machines.engine()
        assert isinstance(engine, RayEngine)
        began_s = time.perf_counter()
        run_recipe(recipe, run.folder, stages=("generate", "score"), engine=engine)
        print(
            f"score of 8 chunks of tiny pictures with Ray: {time.perf_counter() - began_s:.1f} s, start of actors included"
        )
        run.scores.unlink()
        began_s = time.perf_counter()
        engine.run_stage(run.folder, "score")
        print(f"the same with actors that hold the judge: {time.perf_counter() - began_s:.2f} s")
        [work] = works_of("score", run.folder)
        worker = next(iter(engine._actors))
        ray = engine._ray
        times_s = []
        for _ in range(200):
            began_s = time.perf_counter()
            ray.get(worker.do.remote("score", 0, []))
            times_s.append(time.perf_counter() - began_s)
        print(f"an empty portion on Ray: {1000 * statistics.median(times_s):.1f} ms")
        engine.close()
        run.scores.unlink()
        began_s = time.perf_counter()
        slurm = of_slurm()
        slurm.run_stage(run.folder, "score")
        slurm.close()
        print(f"score with local jobs: {time.perf_counter() - began_s:.1f} s")
        run.scores.unlink()
        for number in range(2):
            began_s = time.perf_counter()
            from mpo.stages.score import score

            score(run.folder)
            print(
                f"score in this process, {number + 1}: {time.perf_counter() - began_s:.2f} s, {len(work.pieces)} pieces"
            )
            run.scores.unlink()
    machines.cluster.shutdown()


def kill() -> None:
    recipe = recipe_of(16)
    machines = Machines()

    def seconds(lose: bool) -> float:
        with tempfile.TemporaryDirectory() as folder:
            run = RunFolder(Path(folder) / "run")
            total = 16 * 8

            def lose_one() -> None:
                while len(list(run.candidates.rglob("*.png"))) < total // 2:
                    time.sleep(0.05)
                machines.cluster.remove_node(machines.nodes.pop(), allow_graceful=False)

            loser = threading.Thread(target=lose_one, daemon=True)
            if lose:
                loser.start()
            engine = machines.engine()
            began_s = time.perf_counter()
            try:
                run_recipe(recipe, run.folder, stages=("generate",), engine=engine)
            finally:
                engine.close()
            return time.perf_counter() - began_s

    whole = seconds(False)
    print(f"whole: {whole:.1f} s; one of two machines lost halfway: {seconds(True) / whole:.2f} of that")
    machines.cluster.shutdown()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Ray and Slurm against one process.")
    parser.add_argument("what", choices=("rates", "overhead", "kill"))
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    {"rates": lambda: rates(chosen.rounds), "overhead": overhead, "kill": kill}[chosen.what]()
