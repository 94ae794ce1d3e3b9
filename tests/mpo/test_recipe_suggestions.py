import pytest

from mpo.recipe import RecipeError, load_recipe, parse_recipe


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("train.learning_rat=1", "train.learning_rat is unknown; did you mean 'learning_rate'?"),
        ("trian.learning_rate=1", "no section 'trian'; did you mean 'train'?"),
        ("trainn=1", "trainn is unknown; did you mean 'train'?"),
        ("prompts.heldot.limit=3", "prompts.heldot"),
    ],
)
def test_settings_that_are_nearly_right_get_a_suggestion(setting, words):
    with pytest.raises(RecipeError) as error:
        load_recipe("quickstart", [setting])
    assert words in str(error.value)


def test_a_section_that_the_file_leaves_out_can_be_set():
    assert load_recipe("quickstart", ["tracking.trackers=[tensorboard]"]).tracking.trackers == ("tensorboard",)
    with pytest.raises(RecipeError, match="validation"):
        load_recipe("quickstart", ["validation.patience=3"])


def test_a_field_of_a_file_gets_one_too_and_a_strange_one_none(fields):
    fields["generate"]["num_candidate"] = 4
    with pytest.raises(RecipeError, match=r"generate\.num_candidate is unknown; did you mean 'num_candidates'\?"):
        parse_recipe(fields, source="small")
    del fields["generate"]["num_candidate"]
    fields["xyzzy"] = 1
    with pytest.raises(RecipeError, match="xyzzy is unknown; known here: name"):
        parse_recipe(fields, source="small")
