import pytest
import yaml

from mpo.recipe import (
    RecipeError,
    Select,
    dump_recipe,
    load_recipe,
    parse_recipe,
    read_recipe,
    shipped_recipes,
)


@pytest.mark.parametrize("name", list(shipped_recipes()))
def test_shipped_recipes_load_and_survive_a_round_trip(name, tmp_path):
    recipe = load_recipe(name)
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe))
    assert read_recipe(tmp_path / "recipe.yaml") == recipe
    assert recipe.name == name


def test_settings_are_laid_over():
    recipe = load_recipe(
        "quickstart", ["train.learning_rate=1e-5", "select.strategy=total", "select.num_pairs=null", "seed=3"]
    )
    assert recipe.train.learning_rate == 1e-5
    assert recipe.select.strategy == "total"
    assert recipe.select.num_pairs is None
    assert recipe.seed == 3


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("train.learning_rat=1", ["train.learning_rat", "unknown", "learning_rate"]),
        ("train.num_steps=ten", ["train.num_steps", "ten"]),
        ("train.num_steps=1.5", ["train.num_steps", "1.5"]),
        ("train.learning_rate=-1", ["train.learning_rate", "-1", "greater than 0"]),
        ("train.learning_rate=.nan", ["train.learning_rate", "finite"]),
        ("select.strategy=best", ["select.strategy", "best", "dominance"]),
        ("train.micro_batch_size=7", ["batch_size=32", "micro_batch_size=7"]),
        ("train.objective=ppo", ["train.objective", "ppo", "mapo"]),
        ("train.timestep_std=2", ["timestep_std", "logit_normal"]),
        ("train.snr_gamma=3", ["snr_gamma", "min_snr"]),
        ("train.timestep_range=[0.5, 0.2]", ["timestep_range", "rise"]),
        ("train.label_smoothing=0.6", ["train.label_smoothing", "0.6"]),
        ("nothing.here=1", ["nothing", "train"]),
        ("train", ["KEY=VALUE"]),
        ("extra=1", ["extra", "unknown", "generate"]),
    ],
)
def test_a_bad_setting_is_one_line_naming_field_value_and_remedy(setting, words):
    with pytest.raises(RecipeError) as error:
        load_recipe("quickstart", [setting])
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_unknown_and_unreadable_recipes(tmp_path, fields):
    with pytest.raises(RecipeError, match="quickstart"):
        load_recipe("absent")
    (tmp_path / "latin.yaml").write_bytes("name: \xe9".encode("latin-1"))
    with pytest.raises(RecipeError, match="UTF-8"):
        load_recipe(str(tmp_path / "latin.yaml"))
    del fields["train"]["beta"]
    (tmp_path / "lacking.yaml").write_text(yaml.safe_dump(fields))
    with pytest.raises(RecipeError, match=r"train\.beta is missing"):
        load_recipe(str(tmp_path / "lacking.yaml"))


def test_recipes_are_frozen(fields):
    with pytest.raises(ValueError, match="frozen"):
        parse_recipe(fields, source="small").train.beta = 1.0  # type: ignore[misc]


def test_sections_that_do_not_go_together_are_named(fields):
    with pytest.raises(RecipeError, match="give either a section 'generate' or a section 'preferences'"):
        parse_recipe(fields | {"preferences": {"path": "x", "layout": "pairs"}}, source="both")
    with pytest.raises(RecipeError, match=r"select.strategy='given' needs a section 'preferences'"):
        parse_recipe(fields | {"select": {"strategy": "given", "margin": 0.0}}, source="none")
    with pytest.raises(
        RecipeError, match=r"prompts.train.pathh is unknown; did you mean 'path'\?; known here: path, column"
    ):
        parse_recipe(fields | {"prompts": {"train": {"path": "x", "pathh": "x"}, "heldout": "y"}}, source="typo")


def test_validation_prompts_and_section_go_together(fields, tmp_path):
    fields["prompts"]["validation"] = fields["prompts"]["heldout"]
    with pytest.raises(RecipeError, match=r"prompts.validation and a section 'validation' go together"):
        parse_recipe(fields, source="small")


@pytest.mark.parametrize(
    ("path", "setting", "used"),
    [
        ("a.txt", {"column": "caption"}, "a path to a table or data set"),
        ("a.txt", {"split": "test"}, "a path to a data set"),
        ("a.jsonl", {"split": "test"}, "a path to a data set"),
        ("a.csv", {"revision": "v2"}, "a path to a data set"),
        ("a.parquet", {"revision": "v2"}, "a path to a data set"),
    ],
)
def test_settings_that_a_file_of_prompts_or_pairs_would_ignore_are_refused(path, setting, used, fields):
    (name,) = setting
    words = rf"{name} is used by {used} alone; set that, or remove {name}"
    prompts = fields["prompts"] | {"heldout": {"path": path, **setting}}
    with pytest.raises(RecipeError, match=rf"prompts.heldout: {words}"):
        parse_recipe(fields | {"prompts": prompts}, source="small")
    if name != "column":
        del fields["generate"], fields["prompts"]["train"]
        for layout in ("pairs", "folder"):
            pairs = {"path": path if layout == "pairs" else "pictures", "layout": layout, **setting}
            with pytest.raises(RecipeError, match=rf"preferences: {words}"):
                parse_recipe(fields | {"preferences": pairs}, source="small")


def test_margin_must_not_be_negative():
    with pytest.raises(ValueError, match="margin"):
        Select(margin=-0.1)


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


def test_options_that_the_file_leaves_out_can_be_set():
    """The quickstart's judge has none."""
    settings = ["judge.name=cogvlm2", "judge.options.kind=image", "judge.options.trust_remote_code=true"]
    assert load_recipe("quickstart", settings).judge[0].options == {"kind": "image", "trust_remote_code": True}
    assert load_recipe("quickstart", ["train.optimizer_options.eps=1e-6"]).train.optimizer_options == {"eps": 1e-6}
    with pytest.raises(RecipeError, match=r"--set 'judge.checklist.kind=image': the recipe has no section 'checklist'"):
        load_recipe("quickstart", ["judge.checklist.kind=image"])
    with pytest.raises(RecipeError, match=r"--set 'model.revision.name=x': the recipe has no section 'revision'"):
        load_recipe("quickstart", ["model.revision.name=x"])


def test_a_setting_of_prompts_that_are_a_path_alone():
    prompts = load_recipe("quickstart", ["prompts.train.limit=48"]).prompts.train
    assert prompts is not None
    assert (prompts.path, prompts.limit) == ("prompts/shapes-train.txt", 48)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model=embedded", r"model='embedded': give a section, its fields below its name"),
        ("judge=vlm", r"judge='vlm': give {name: …}, or a list of such"),
        ("evaluate.judges=pickscore", r"evaluate.judges='pickscore': give {name: …}, or a list of such"),
        ("train.lora_targets=to_q", r"train.lora_targets='to_q': give a list"),
        ("model.revision=12345678", r"model.revision=12345678: give text; quote what YAML reads as something else"),
        ("name=My Run", r"name='My Run': use small letters, digits, dots and dashes"),
        ("tracking.project=a/b", r"tracking.project='a/b': use up to 128 characters, none of / \\ # \? % :"),
    ],
)
def test_what_is_of_another_kind_is_told_what_to_give(setting, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe("quickstart", [setting])


def test_a_field_of_a_file_gets_one_too_and_a_strange_one_none(fields):
    fields["generate"]["num_candidate"] = 4
    with pytest.raises(RecipeError, match=r"generate\.num_candidate is unknown; did you mean 'num_candidates'\?"):
        parse_recipe(fields, source="small")
    del fields["generate"]["num_candidate"]
    fields["xyzzy"] = 1
    with pytest.raises(RecipeError, match="xyzzy is unknown; known here: name"):
        parse_recipe(fields, source="small")
