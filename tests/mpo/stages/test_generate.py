import pytest
from PIL import Image

from mpo.dependencies import STAGES
from mpo.recipe import load_recipe
from mpo.run import run_recipe, run_stage


def test_a_truncated_candidate_is_named_and_repaired(recipe_file, tmp_path):
    recipe, folder = load_recipe(str(recipe_file)), tmp_path / "run"
    run_recipe(recipe, folder, stages=STAGES[:1])
    victim = sorted((folder / "candidates").rglob("*.png"))[6]
    whole = victim.read_bytes()
    victim.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=rf"{victim.name} is not what stage generate wrote.*--repair"):
        run_recipe(recipe, folder, stages=STAGES[:2])
    run_recipe(recipe, folder, stages=STAGES[:2], repair=True)
    assert victim.read_bytes() == whole
    Image.open(victim).load()


def test_a_deleted_candidate_is_made_again(recipe_file, tmp_path):
    """By the next run; a later stage alone names it."""
    recipe, folder = load_recipe(str(recipe_file)), tmp_path / "run"
    run_recipe(recipe, folder, stages=STAGES[:1])
    victim = sorted((folder / "candidates").rglob("*.png"))[3]
    whole = victim.read_bytes()
    victim.unlink()
    with pytest.raises(ValueError, match=rf"{victim.name} is missing; run `mpo generate"):
        run_stage(folder, "score")
    run_recipe(recipe, folder, stages=STAGES[:2])
    assert victim.read_bytes() == whole
