"""Every family, by its published models and by local folders: which recipe a new one starts from."""

from pathlib import Path

import pytest

from mpo import MpoError
from mpo.first_steps.answers import Answers
from mpo.first_steps.new_recipe import new_recipe
from mpo.first_steps.starting_points import RECIPES, starting_point
from mpo.models.checks import check_model
from mpo.models.families import FAMILIES
from mpo.models.noise import is_flow
from mpo.planning.memory import model_costs
from mpo.planning.plan import plan
from mpo.recipe import Model, load_recipe, shipped_recipes
from mpo.runtime.hub import OfflineError
from mpo.sizes import parse_size
from tests.helpers.one_file import save_as_one_file
from tests.helpers.pipelines import SMALL, build, build_pipeline
from tests.helpers.video_pipelines import VIDEO_BUILDERS, build_video

PUBLISHED = {path: entry["pipeline"] for path, entry in model_costs()["models"].items()}


def test_every_family_has_a_recipe_to_start_from():
    assert set(RECIPES) == set(FAMILIES)
    assert set(RECIPES.values()) <= set(shipped_recipes())


@pytest.mark.parametrize("name", [n for n in shipped_recipes() if n not in ("sdxl-total", "sdxl-pickapic")])
def test_a_shipped_recipes_own_model_starts_from_it(name):
    start = starting_point(load_recipe(name).model)
    assert (start.recipe, start.is_of_family, start.size) == (name, True, None)


def test_a_published_model_starts_from_a_recipe_of_its_kind_at_its_own_size():
    for path, pipeline in PUBLISHED.items():
        start = starting_point(Model(path=path))
        size = parse_size(model_costs()["models"][path]["size"])
        assert (start.pipeline, start.kind) == (pipeline, size.kind)
        assert start.size == (None if load_recipe(start.recipe).model.path == path else size)
    assert not starting_point(Model(path="zai-org/CogView4-6B")).is_of_family


def test_a_hub_id_of_no_known_family_needs_the_hub_or_a_word(tmp_path):
    other = Model(path="someone/own-sdxl")
    with pytest.raises(OfflineError, match=r"someone/own-sdxl.*offline.*or name the shipped recipe .* --like sdxl"):
        starting_point(other)
    start = starting_point(other, "sdxl-total")
    assert (start.recipe, start.pipeline) == ("sdxl-total", "StableDiffusionXLPipeline")
    with pytest.raises(MpoError, match="--like='sdx' is not shipped; did you mean 'sdxl'"):
        starting_point(other, "sdx")


def test_one_file_is_of_the_family_that_diffusers_recognizes_in_it(tmp_path):
    """Without the hub: small weights with the names of a Stable Diffusion 1.5, whose size and costs are in the table."""
    save_as_one_file(build_pipeline(), tmp_path / "own.safetensors")
    model = Model(path=str(tmp_path / "own.safetensors"))
    start = starting_point(model)
    assert (start.recipe, start.is_of_family, start.size) == ("sd15", True, parse_size([512, 512]))
    new = new_recipe(Answers("own", model.path, "partiprompts", None, "pickscore", 24.0))
    found = plan(new.recipe, sizes_gb=[24.0])
    assert found.fits == ["24 GB: fits"]
    assert any("those of stable-diffusion-v1-5/stable-diffusion-v1-5 in the table" in note for note in found.notes)


OTHERS = {"stable_diffusion_v", "stable_diffusion_35_large", "hidream_image_dev", "cogvideox_2b", "cogvideox_5b", "wan_euler", "wan"}  # fmt: skip
LOCAL = [name for name in (*SMALL, *VIDEO_BUILDERS) if name not in OTHERS]  # of each family one, of Wan two


@pytest.mark.parametrize("name", LOCAL)
def test_a_local_folder_of_every_family_gives_a_recipe_that_can_be_trained(name, tmp_path: Path):
    """All that the model's small files show is checked: guidance, timesteps, sizes, checklist, layers for the LoRA."""
    pipeline = build(name) if name in SMALL else build_video(name)
    pipeline.save_pretrained(tmp_path / "model")
    (tmp_path / "own.txt").write_text("".join(f"a red circle, number {k}\n" for k in range(40)), "utf-8")
    answers = Answers("own", str(tmp_path / "model"), str(tmp_path / "own.txt"), None, "vlm", 24.0)
    new = new_recipe(answers)
    (tmp_path / "own.yaml").write_text(new.text(), "utf-8")
    recipe = load_recipe(str(tmp_path / "own.yaml"))
    assert recipe == new.recipe
    check_model(recipe)
    assert new.start.pipeline == type(pipeline).__name__
    assert recipe.model.path == str(tmp_path / "model")
    assert (recipe.train.timestep_sampling == "logit_normal") == is_flow(pipeline.scheduler)
    if new.start.ignores_guidance:
        assert recipe.generate is not None
        assert recipe.generate.guidance_scale == 1.0
