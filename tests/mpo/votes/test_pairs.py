import pytest
import yaml

from mpo import MpoError
from mpo.run_folder.files import sha256
from mpo.run_folder.paths import RunFolder
from mpo.votes.pairs import open_evaluation


def test_a_pair_is_base_and_tuned_of_a_prompt_at_a_seed(run):
    pairs = open_evaluation(run).pairs
    assert [(pair.prompt_id, pair.seed) for pair in pairs] == [(p, 1000 * p + s) for p in range(4) for s in range(2)]
    assert pairs[5].prompt == "a green circle"
    assert pairs[5].file("base") == run.samples / "base" / "000002-01.png"
    assert pairs[5].file("tuned") == run.samples / "tuned" / "000002-01.png"
    assert pairs[5].sha256("tuned") == sha256(pairs[5].tuned)


def test_an_id_stays_where_the_run_goes_and_changes_with_a_sample(run, tmp_path):
    ids = [pair.id for pair in open_evaluation(run).pairs]
    moved = RunFolder(run.folder.rename(tmp_path / "moved"))
    assert [pair.id for pair in open_evaluation(moved).pairs] == ids
    (moved.samples / "base" / "000000-00.png").write_bytes(b"another")
    changed = [pair.id for pair in open_evaluation(moved).pairs]
    assert (changed[0] != ids[0], changed[1:]) == (True, ids[1:])


def test_what_cannot_be_voted_on_is_named(run):
    (run.samples / "tuned" / "000001-00.png").unlink()
    with pytest.raises(MpoError, match=r"000001-00\.png is missing; `mpo status"):
        open_evaluation(run)
    fields = yaml.safe_load(run.recipe.read_text("utf-8"))
    run.recipe.write_text(yaml.safe_dump(fields | {"rounds": 2}), "utf-8")
    with pytest.raises(MpoError, match=r"holds 2 rounds, each a run; name one, such as .*round-2"):
        open_evaluation(run)
