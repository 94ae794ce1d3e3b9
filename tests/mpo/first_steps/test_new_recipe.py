"""What the answers change in the recipe that a new one starts from."""

import pytest

from mpo import MpoError
from mpo.first_steps.answers import Answers
from mpo.first_steps.draft import Draft
from mpo.first_steps.new_recipe import new_recipe
from mpo.planning.plan import plan
from mpo.recipe import load_recipe, parse_recipe
from reward.judging import load_reward
from reward.settings import read_yaml
from tests.helpers.recipes import TRAIN_PROMPTS

SDXL = "stabilityai/stable-diffusion-xl-base-1.0"


@pytest.fixture
def cats(tmp_path) -> str:
    (tmp_path / "cats.txt").write_text("".join(f"cat number {k} on a roof\n" for k in range(100)), "utf-8")
    return str(tmp_path / "cats.txt")


def test_with_the_shipped_prompts_little_changes():
    new = new_recipe(Answers("own", "embedded", "shipped", None, "measured", None))
    changed = {"name": "own", "description": new.recipe.description}
    assert new.recipe == load_recipe("quickstart").model_copy(update=changed)
    sdxl = load_recipe("sdxl")
    changed |= {"tracking": type(sdxl.tracking)()}
    new = new_recipe(Answers("own", SDXL, "shipped", None, "vlm", 80.0))
    assert new.recipe == sdxl.model_copy(update=changed | {"description": new.recipe.description})


def test_the_file_keeps_the_sources_of_what_is_unchanged_and_says_what_is_not(cats):
    text = new_recipe(Answers("own", SDXL, cats, None, "vlm", 24.0)).text()
    assert text.startswith(
        f"# {SDXL} for a GPU of 24 GB, made by `mpo init` from sdxl, the shipped recipe of its family.\n"
    )
    assert "\n  beta: 5000                           # arXiv 2412.21059, and 2311.12908 for SDXL\n" in text
    assert "# 70 of 100 prompts, to train on\n" in text
    assert "CarperAI" not in text
    assert parse_recipe(read_yaml(text), source="own").name == "own"


def test_training_is_as_long_as_the_prompts_allow(cats):
    """70 prompts with at most 12 pairs each: 840. Three passes in steps of 256 were 10, so steps of 32: 78.75, so 79."""
    train = new_recipe(Answers("own", SDXL, cats, None, "vlm", 24.0)).recipe.train
    assert (train.batch_size, train.num_steps, train.warmup_steps, train.checkpoint_interval_steps) == (32, 79, 7, 7)
    assert train.micro_batch_size == 8
    many = new_recipe(Answers("own", SDXL, "partiprompts", None, "vlm", 24.0)).recipe.train
    assert (many.batch_size, many.num_steps) == (256, 196)  # 1387 prompts: 3 * 16644 / 256 = 195.05


def test_the_measured_judge_is_not_asked_about_prompts_that_it_cannot_read(cats, tmp_path):
    (tmp_path / "shapes.txt").write_text("\n".join(TRAIN_PROMPTS), "utf-8")
    recipe = new_recipe(Answers("own", "embedded", cats, None, "measured", None)).recipe
    reward = load_reward(recipe.judge)
    reward.require_prompts(["cat number 0 on a roof"])
    assert not any("{prompt}" in question.text for question in reward.checklist)
    assert len(reward.checklist.questions) > 10
    assert recipe.evaluate.judges == ()  # the oracle cannot read them either
    shapes = new_recipe(Answers("own", "embedded", str(tmp_path / "shapes.txt"), None, "measured", None)).recipe
    assert shapes.judge[0].questions == "answerable"


def test_the_margin_is_in_the_unit_of_what_is_asked(cats):
    def margin(judge: str, model: str = SDXL) -> float:
        return new_recipe(Answers("own", model, cats, None, judge, 24.0)).recipe.select.margin

    assert margin("vlm") == 0.6
    assert margin("pickscore") == 0.0
    assert margin("measured", "embedded-video") == 3.0
    assert margin("vlm:a/b", "embedded-video") == 0.6


def test_without_a_gpu_numbers_are_wide(cats):
    recipe = new_recipe(Answers("own", "stable-diffusion-v1-5/stable-diffusion-v1-5", cats, None, "vlm", None)).recipe
    assert (recipe.model.dtype, recipe.train.mixed_precision) == ("float32", "no")
    assert recipe.judge[0].options["dtype"] == "float32"


def test_what_the_plan_changes_makes_the_recipe_fit(cats):
    """FLUX.1 is too large for 40 GB as it comes; the file says at each change that it is one."""
    new = new_recipe(Answers("own", "black-forest-labs/FLUX.1-dev", cats, None, "vlm", 40.0))
    (fitting,) = plan(new.recipe, sizes_gb=[40.0]).fittings
    assert fitting.changes
    assert fitting.is_enough
    changed = new.changed(fitting.changes, "to fit")
    (again,) = plan(changed.recipe, sizes_gb=[40.0]).fittings
    assert again.words == "40 GB: fits"
    assert changed.text().count("# to fit\n") == sum(section != "prompts" for section, _, _ in fitting.changes)


def test_a_recipe_of_given_pairs_is_no_starting_point(cats):
    with pytest.raises(MpoError, match="--like='sdxl-pickapic' takes pairs that people chose"):
        new_recipe(Answers("own", SDXL, cats, None, "vlm", 24.0, like="sdxl-pickapic"))


def test_a_draft_is_a_copy_and_drops_the_comments_of_what_it_replaces():
    fields = {"a": {"b": 1, "c": 2}, "d": [1]}
    draft = Draft(fields, {("a", "b"): ["of b"], ("a", "c"): ["of c"]})
    draft.set(("a", "b"), 3, "why")
    draft.set(("e", "f"), 4)
    draft.remove("a", "c")
    draft.remove("absent", "x")
    assert draft.fields == {"a": {"b": 3}, "d": [1], "e": {"f": 4}}
    assert draft.comments == {("a", "b"): ["why"]}
    assert fields == {"a": {"b": 1, "c": 2}, "d": [1]}
    assert draft.has("a", "b")
    assert not draft.has("d", "x")
