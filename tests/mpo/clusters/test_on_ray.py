"""On a real Ray cluster of this machine."""

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from mpo import MpoError
from mpo.clusters.on_ray import RayEngine
from mpo.run_folder.paths import RunFolder
from tests.helpers.clusters import files_without_training, is_as_trained_alone, runs_to_train, undone
from tests.helpers.command import environment
from tests.helpers.processes import mpo
from tests.helpers.stages import NOTE, stage_elsewhere

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own, of what it imports


@pytest.mark.slow  # on a machine that is busy with other things, Ray's own processes give up while they start
def test_a_worker_on_ray_scores_as_this_process_does(finished, tmp_path):
    """By commands, each with a Ray of its own: what the driver, an actor and the judge say to one another, and a mistake."""
    run = undone(finished, tmp_path / "run", ["score"])
    arguments = ["run", run.recipe, "--output", run.folder, "--until", "score", "--quiet"]
    ray = ["--on", "ray", "--address", "local", "--workers", "1", "--trainers", "1", "--cluster", "cpus=1"]
    assert mpo(*arguments, *ray) == 0
    assert (run.manifests / "score.json").read_bytes() == (finished / "manifests" / "score.json").read_bytes()
    assert '"machine": "Ray, 1 machines with' in run.log.read_text("utf-8")


def test_no_cluster_is_one_line():
    with pytest.raises(MpoError, match=r"--address=127.0.0.1:9: no Ray cluster is there .* start one with `ray start"):
        RayEngine(1, address="127.0.0.1:9")
    with pytest.raises(MpoError, match=r"--address=ray://head:10001: start mpo on a machine of the cluster"):
        RayEngine(1, address="ray://head:10001")


@pytest.fixture
def cluster() -> Iterator:
    """The driver's machine, which has no core for workers; others join."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield made
    made.shutdown()


@pytest.mark.slow  # a dozen processes that import everything
def test_two_machines_make_the_files_of_one_and_survive_the_loss_of_one(finished, tmp_path, cluster):
    """All stages. One machine is killed within the first, and another joins."""
    victim, _ = cluster.add_node(num_cpus=1), cluster.add_node(num_cpus=1)
    folder = tmp_path / "run"

    def lose_one() -> None:
        until_s = time.monotonic() + 600
        while not list(folder.glob("candidates/**/*.png")) and time.monotonic() < until_s:
            time.sleep(0.05)
        cluster.remove_node(victim, allow_graceful=False)
        cluster.add_node(num_cpus=1, wait=False)

    loser = threading.Thread(target=lose_one)
    loser.start()
    ray = ["--on", "ray", "--address", cluster.address, "--workers", "2", "--trainers", "1"]
    code = mpo("run", finished / "recipe.yaml", "--output", folder, "--quiet", *ray)
    loser.join()
    assert code == 0
    whole, dealt = files_without_training(finished), files_without_training(folder)
    assert [name for name in whole.keys() | dealt.keys() if whole.get(name) != dealt.get(name)] == []


FAILING = """
import sys
from ray.cluster_utils import Cluster
from mpo import MpoError
from mpo.clusters.engine import wait_for
from mpo.clusters.on_ray import RayEngine
from mpo.run_folder.paths import RunFolder
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
engine = RayEngine(2, address=cluster.address, options={"cpus": "1", "memory_gb": "0.1"})
for stage in sys.argv[2:]:
    try:
        engine.run_whole(RunFolder(sys.argv[1]), stage, 2, wait_for)
    except MpoError as error:
        print(stage, "said", error, "since", type(error.__cause__).__name__)
engine.close()
cluster.shutdown()
"""


@pytest.mark.slow  # two jobs of two processes, in a Ray of their own
def test_a_training_on_ray_that_fails_says_why_and_is_not_tried_for_ever(tmp_path, monkeypatch):
    asked = 'import ray\n(folder / "asked.txt").write_text(str(ray.get_runtime_context().get_assigned_resources()["memory"]))\n'
    oom = asked + 'raise RuntimeError(f"CUDA out of memory, {os.getpid()} bytes are free")'
    stage_elsewhere("oom", NOTE + oom, tmp_path / "path", monkeypatch)
    run = RunFolder(tmp_path / "run")
    variables = environment() | {"PYTHONPATH": f"{tmp_path / 'path'}:{environment().get('PYTHONPATH', '')}"}
    command = [sys.executable, "-c", FAILING, str(run.folder), "oom"]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [said] = [line for line in done.stdout.splitlines() if " said " in line]
    assert re.match(r"oom said oom: failed twice at the same place \(RuntimeError: CUDA out of memory, \d+ bytes are free\); see Ray's logs.* since WorkerGroupError", said)  # fmt: skip
    assert len((run.folder / "started.txt").read_text("utf-8").split()) == 2 * 2
    assert float((run.folder / "asked.txt").read_text("utf-8")) == 1e8  # bytes


TOGETHER = """
import sys
from ray.cluster_utils import Cluster
from mpo import MpoError
from mpo.clusters.on_ray import RayEngine
from mpo.run_folder.paths import RunFolder
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
engine = RayEngine(2, address=cluster.address, options={"cpus": "1"})
for folder in sys.argv[1:]:
    try:
        engine.run_stage(folder, "train")
    except MpoError as error:
        print(error)
engine.close()
cluster.shutdown()
"""


@pytest.mark.slow  # two jobs of two processes that import everything
def test_training_in_two_of_rays_workers_equals_training_in_one(finished, tmp_path, fields):
    """But for rounding. A batch that two cannot share is refused by both, in one line."""
    refused, alone, two = runs_to_train(finished, tmp_path, fields)
    command = [sys.executable, "-c", TOGETHER, str(refused.folder), str(two.folder)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [line] = [line for line in done.stdout.splitlines() if "train.batch_size" in line]
    assert "train.batch_size=2" in line
    assert not refused.trained.exists()
    is_as_trained_alone(two, alone)
