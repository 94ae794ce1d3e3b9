import sys

import pytest

from mpo import MpoError
from mpo.cli import main
from mpo.clusters.engine import PORTION, portions_of, typed
from mpo.clusters.on_ray import RayEngine
from mpo.clusters.on_slurm import SlurmEngine
from mpo.recipe import read_recipe
from mpo.run import run_recipe
from mpo.runtime.pieces import Piece
from tests.helpers.clusters import ShuffledEngine, WorkOf, files_without_training


def test_any_worker_may_do_any_piece_in_any_order(finished, tmp_path):
    """A whole run, dealt out at random to two workers: each file has the bytes that one process makes."""
    recipe = read_recipe(finished / "recipe.yaml")
    engine = ShuffledEngine(2, seed=1)
    run_recipe(recipe, tmp_path / "run", engine=engine)
    assert (tmp_path / "run" / ".driver").exists()  # by which workers know the folder
    engine.close()
    assert not (tmp_path / "run" / ".driver").exists()
    whole, dealt = files_without_training(finished), files_without_training(tmp_path / "run")
    assert whole.keys() == dealt.keys()
    assert [name for name in whole if whole[name] != dealt[name]] == []
    assert '"machine": "a test"' in (tmp_path / "run" / "log.jsonl").read_text("utf-8")


@pytest.mark.parametrize(
    ("sizes", "num_workers", "expected"),
    [
        ([16] * 9, 2, [4, 4, 1]),  # of 64 items
        ([16] * 6, 3, [2, 2, 2]),  # so that each of three has some
        ([5, 5, 2], 2, [1, 1, 1]),  # 6 items at most
        ([200, 1], 1, [1, 1]),  # larger than a portion
    ],
)
def test_portions_are_neighbours_of_a_bounded_size(sizes, num_workers, expected):
    work = WorkOf([Piece(k, size, ()) for k, size in enumerate(sizes)])
    portions = portions_of(work, range(len(sizes)), num_workers)
    assert [len(portion) for portion in portions] == expected
    assert [place for portion in portions for place in portion] == list(range(len(sizes)))
    assert all(len(p) == 1 or sum(sizes[place] for place in p) <= PORTION for p in portions)


def test_an_option_that_a_cluster_does_not_take_is_named():
    assert typed({"cpus": "4"}, {"cpus": int}, on="ray") == {"cpus": 4}
    with pytest.raises(MpoError, match=r"--cluster cpu=4: --on ray has no 'cpu'; it takes cpus"):
        typed({"cpu": "4"}, {"cpus": int}, on="ray")
    with pytest.raises(MpoError, match=r"--cluster cpus=four: 'four' is no number"):
        typed({"cpus": "four"}, {"cpus": int}, on="ray")


@pytest.mark.parametrize(
    ("engine", "options"),
    [
        (SlurmEngine, {"gpus_per_machine": "0"}),
        (SlurmEngine, {"time": "-5"}),
        (SlurmEngine, {"memory_gb": "0"}),
        (SlurmEngine, {"gpus": "-1"}),
        (RayEngine, {"cpus": "0"}),
        (RayEngine, {"memory_gb": "nan"}),
        (RayEngine, {"memory_gb": "inf"}),
    ],
)
def test_a_count_that_leaves_a_worker_nothing_is_one_line(engine, options):
    """Before any cluster is asked."""
    [(name, text)] = options.items()
    with pytest.raises(MpoError, match=rf"^--cluster {name}={text}: give a count from {int(name != 'gpus')} on, or leave it out$"):  # fmt: skip
        engine(2, options=options)


def test_workers_may_do_without_gpus_and_share_them():
    known = {"gpus": float, "cpus": float}
    assert typed({"gpus": "0", "cpus": "0.5"}, known, on="ray") == {"gpus": 0, "cpus": 0.5}
    assert typed({"gpus": "0.5"}, known, on="ray") == {"gpus": 0.5}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--workers", "2"], "--workers is for a cluster; add --on ray or --on slurm"),
        (["--on", "kubernetes", "--workers", "2"], "--on='kubernetes' is unknown; use ray or slurm"),
        (["--on", "ray"], "--on ray needs --workers"),
        (["--on", "ray", "--workers", "2", "--processes", "2"], "leave out --processes"),
        (["--on", "slurm", "--workers", "2", "--address", "auto"], "--address is of a Ray cluster"),
        (["--on", "slurm", "--workers", "2", "--cluster", "partition"], "--cluster partition: write KEY=VALUE"),
        (["--on", "slurm", "--workers", "2", "--cluster", "partitio=gpu"], "--on slurm has no 'partitio'"),
        (["--on", "ray", "--workers", "2", "--cluster", "cpus=few", "--dry-run"], "'few' is no number"),
        (["--on", "ray", "--workers", "3"], "train.batch_size=4"),  # told before any cluster is asked
    ],
)
def test_options_that_do_not_go_together_are_one_line(words, message, recipe_file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["mpo", "run", str(recipe_file), "--output", str(tmp_path / "run"), *words])
    with pytest.raises(SystemExit) as stop:
        main()
    error = capsys.readouterr().err
    assert (stop.value.code, error.count("\n")) == (2, 1)
    assert message in error
    assert not (tmp_path / "run").exists()
