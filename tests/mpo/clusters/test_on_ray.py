"""On a real Ray cluster of this machine."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mpo import MpoError
from mpo.clusters.on_ray import Losses, RayEngine
from mpo.recipe import read_recipe
from mpo.run import run_recipe, run_stage
from mpo.runtime.pieces import Piece
from tests.helpers.clusters import files_without_training, undone

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own, of what it imports


def test_a_worker_on_ray_scores_as_this_process_does(finished, tmp_path):
    """With a Ray of its own, started and ended within: what the driver, an actor and the judge say to one another."""
    run = undone(finished, tmp_path / "run", ["score"])
    engine = RayEngine(1, address="local", options={"cpus": "1"})
    try:
        assert engine.describe().startswith("Ray, 1 machines with ")
        run_stage(run.folder, "score", engine=engine)
        (run.candidates / "000000-00.png").write_bytes(b"no picture")
        run.scores.unlink()
        with pytest.raises(MpoError, match=r"^score: item 0: .*000000-00.png' cannot be decoded"):
            engine.run_stage(run.folder, "score")
    finally:
        engine.close()
    assert (run.manifests / "score.json").read_bytes() == (finished / "manifests" / "score.json").read_bytes()


def test_losses_are_borne_until_they_are_too_many():
    names = {"a": Piece(0, 1, (Path("first.png"),)), "b": Piece(1, 1, (Path("second.png"),))}
    same = Losses("generate", num_workers=9)
    same.note(["a"], names)
    same.note(["b"], names)
    same.note(["a"], names)
    with pytest.raises(
        MpoError, match=r"generate: 3 workers were lost over the same work, which begins with first.png"
    ):
        same.note(["a"], names)
    starting = Losses("generate", num_workers=1)
    for _ in range(3):
        starting.note([], names)
    starting.forget([])  # one has come up, and done nothing yet
    with pytest.raises(MpoError, match=r"generate: 4 workers were lost in a row; see Ray's logs"):
        starting.note([], names)
    for _ in range(2):
        others = Losses("generate", num_workers=1)
        for _ in range(3):
            others.note([], names)
        others.forget(["b"])
        others.note([], names)


def test_no_cluster_is_one_line():
    with pytest.raises(MpoError, match=r"--address=127.0.0.1:9: no Ray cluster is there .* start one with `ray start"):
        RayEngine(1, address="127.0.0.1:9")


@pytest.fixture
def cluster() -> Iterator:
    """Two machines of a core each, as far as Ray knows. The driver's has none of its own."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield made
    made.shutdown()


@pytest.mark.slow  # a dozen processes that import everything
def test_two_machines_make_the_files_of_one_and_survive_the_loss_of_one(finished, tmp_path, cluster):
    """All stages but training, one of the machines killed within the first; a third joins later."""
    victim = cluster.add_node(num_cpus=1)
    cluster.add_node(num_cpus=1)
    recipe, folder = read_recipe(finished / "recipe.yaml"), tmp_path / "run"

    def lose_one() -> None:
        until_s = time.monotonic() + 600
        while not list(folder.glob("candidates/*.png")) and time.monotonic() < until_s:
            time.sleep(0.05)
        cluster.remove_node(victim, allow_graceful=False)
        cluster.add_node(num_cpus=1)

    engine = RayEngine(2, num_trainers=1, address=cluster.address)
    loser = threading.Thread(target=lose_one)
    loser.start()
    try:
        run_recipe(recipe, folder, engine=engine)
    finally:
        loser.join()
        engine.close()
    whole, dealt = files_without_training(finished), files_without_training(folder)
    assert [name for name in whole.keys() | dealt.keys() if whole.get(name) != dealt.get(name)] == []
