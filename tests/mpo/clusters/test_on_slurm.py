"""By submitit's executor of this machine: the same jobs, without Slurm."""

import shutil

import pytest

from mpo import MpoError
from mpo.clusters.on_slurm import SlurmEngine
from mpo.run import run_stage
from tests.helpers.clusters import undone

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
        (run.candidates / "000000-00.png").write_bytes(b"no picture")
        with pytest.raises(MpoError, match=r"^score: item 0: .*000000-00.png' cannot be decoded"):
            engine.run_stage(run.folder, "score")
    finally:
        engine.close()
