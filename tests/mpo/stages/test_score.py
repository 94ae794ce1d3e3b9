import pytest

from mpo import MpoError
from mpo.recipe import parse_recipe
from mpo.run import run_recipe, run_stage
from mpo.run_folder.paths import RunFolder
from tests.helpers.pictures import pickapic
from tests.helpers.recipes import given_fields


def test_a_damaged_picture_of_given_preferences_is_named_with_its_own_remedy(fields, tmp_path):
    """It cannot be made again, only imported again."""
    recipe = parse_recipe(given_fields(fields, pickapic(tmp_path), "pickapic", "total"), source="given")
    run = RunFolder(tmp_path / "run")
    run_recipe(recipe, run.folder, stages=("import-pairs",))
    victim = run.candidates / "0000" / "00000000.png"
    victim.write_bytes(victim.read_bytes()[:50])
    with pytest.raises(
        MpoError, match=r"00000000.png is not what stage import-pairs wrote; run `mpo import-pairs .*--repair"
    ):
        run_stage(run.folder, "score")
    run_stage(run.folder, "import-pairs", repair=True)
    run_stage(run.folder, "score")
    assert run.scores.exists()
