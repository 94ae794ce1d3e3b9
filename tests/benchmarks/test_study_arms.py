"""What a study compares, and that its prompts are fresh and apart."""

from itertools import combinations

import pytest

from benchmarks.study_arms import ARMS, GROUPS, SETUPS, draw_prompts, role, settings_of, with_sources, write_prompts
from mpo.recipe import find_prompts, load_recipe
from mpo.study import SEEDS


@pytest.mark.parametrize("recipe", SETUPS)
def test_prompts_are_fresh_in_each_repetition_and_no_held_out_one_is_trained_on(recipe):
    own = load_recipe(recipe).prompts
    assert own.train is not None
    shipped = [set(find_prompts(source.path).read_text().splitlines()) for source in (own.train, own.heldout)]
    train, heldout, choosing = (
        [draw_prompts(name, 60, repetition, recipe) for repetition in range(3)]
        for name in ("train", "heldout", "choosing")
    )
    sets = [set().union(*train), set().union(*heldout), set().union(*choosing), *shipped]
    assert all(not first & second for first, second in combinations(sets, 2))
    for drawn in (*train, *heldout):
        assert len(set(drawn)) == 60
    assert all(len(set(one) & set(other)) < 20 for one, other in combinations(train, 2))  # by chance alone
    assert draw_prompts("train", 60, 1, recipe) == train[1]
    assert all(role(text) == "heldout" for text in heldout[0])


def test_captions_are_spread_as_the_quickstarts_are(tmp_path):
    """A fifth of its captions, or a little more, since each counts once, are of two groups of objects."""
    write_prompts(tmp_path, 0)
    counts = {path.name: len(path.read_text().splitlines()) for path in tmp_path.iterdir()}
    assert counts == {"train.txt": 256, "heldout.txt": 128, "clips-train.txt": 48, "clips-heldout.txt": 128}
    for name, count in (("train", 256), ("heldout", 128)):
        lines = (tmp_path / f"{name}.txt").read_text().splitlines()
        assert len(lines) == count
        assert 0.12 < sum(" and " in line for line in lines) / count < 0.33


@pytest.mark.parametrize("arm", ARMS)
def test_repetitions_of_an_arm_differ_in_seeds_alone(arm):
    one, other = (load_recipe(ARMS[arm].recipe, settings_of(arm, repetition)) for repetition in (0, 1))
    differing = set()
    for name in type(one).model_fields:
        a, b = getattr(one, name), getattr(other, name)
        fields = getattr(type(a), "model_fields", None)
        differing |= {name} if fields is None and a != b else set()
        differing |= {f"{name}.{key}" for key in fields or () if getattr(a, key) != getattr(b, key)}
    assert differing == {"seed", "train.seed", "evaluate.seed"} <= set(SEEDS)
    assert other.seed - one.seed > 2 * 3  # no round of one repetition has the seed of another's


def test_arms_of_a_group_have_as_many_pairs_and_steps_in_all():
    """But for those that ask what more candidates buy; fidelity's 700 pairs set the number of a group."""
    for group, arms in GROUPS.items():
        recipes = [load_recipe(ARMS[arm].recipe, settings_of(arm, 0)) for arm in arms]
        assert len({recipe.name for recipe in recipes}) == 1, group
        steps = [recipe.rounds * recipe.train.num_steps for recipe in recipes]
        assert max(steps) - min(steps) <= 1, group
        if group != "candidates":
            pairs = [recipe.rounds * (recipe.select.num_pairs or 0) for recipe in recipes]
            assert max(pairs) - min(pairs) <= 1, group


def test_an_arm_brings_what_it_takes_over_and_is_compared_with():
    assert set(ARMS) == {arm for arms in GROUPS.values() for arm in arms}
    assert with_sources(["total"]) == ["dominance", "total"]
    assert with_sources(["quality"]) == ["dominance", "dominance-500", "quality"]
    assert with_sources(["candidates-12-widest"]) == ["dominance", "candidates-12", "candidates-12-widest"]


def test_the_quickstarts_own_judges_stay_beside_the_people():
    judges = load_recipe("quickstart", settings_of("dominance", 0)).evaluate.judges
    assert judges[:-1] == load_recipe("quickstart").evaluate.judges
