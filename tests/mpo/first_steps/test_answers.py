import pytest

from mpo import MpoError
from mpo.first_steps.answers import parse_judge, parse_memory, recipe_name
from reward.errors import JudgeError


@pytest.mark.parametrize(("text", "gb"), [("24GB", 24.0), ("24 gb", 24.0), ("80", 80.0), ("11.5G", 11.5), ("none", None), ("None", None)])  # fmt: skip
def test_memory_as_people_write_it(text, gb):
    assert parse_memory(text) == gb


@pytest.mark.parametrize("text", ["", "0", "much", "-8GB", "24 MB"])
def test_what_is_no_memory_is_refused(text):
    with pytest.raises(MpoError, match=r"--gpu-memory=.* is no size; give one such as 24GB, or none"):
        parse_memory(text)


def test_a_name_is_one_that_recipes_may_have():
    assert recipe_name("My Cats") == "my-cats"
    assert recipe_name("folder/My_Cats.yaml") == "my-cats"
    with pytest.raises(MpoError, match="name='sdxl' is a shipped recipe's"):
        recipe_name("sdxl")
    with pytest.raises(MpoError, match="no letter or digit"):
        recipe_name("___")


def test_judges_as_a_recipe_has_them():
    assert parse_judge("measured", "image") == {"name": "measured", "checklist": "image", "questions": "answerable"}
    assert parse_judge("measured", "video") == {"name": "measured", "checklist": "video-measured"}
    vlm = parse_judge("vlm:Qwen/Qwen2.5-VL-3B-Instruct", "video")
    assert (vlm["checklist"], vlm["options"]["model"]) == ("video", "Qwen/Qwen2.5-VL-3B-Instruct")
    assert parse_judge("server:http://localhost:8000/v1", "image") == {
        "name": "server", "checklist": "image", "options": {"base_urls": ["http://localhost:8000/v1"]},
    }  # fmt: skip
    assert parse_judge("pickscore", "image") == {"name": "pickscore"}
    assert parse_judge("clip-score:a/b", "image") == {"name": "clip-score", "options": {"model": "a/b"}}
    assert parse_judge("mpo.embedded.oracle:Oracle", "image") == {"name": "mpo.embedded.oracle:Oracle"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("server", "--judge server:http://localhost:8000/v1"),
        ("measured:a/b", "has no model"),
        ("cogvlm2", "once you have read that code"),
        ("no_such_module:Judge", "no module 'no_such_module'"),
        ("vlmm", "judge='vlmm' is unknown"),
    ],
)
def test_a_judge_that_cannot_be_written_says_what_can(text, words):
    with pytest.raises(JudgeError, match=words.replace("(", r"\(")):
        parse_judge(text, "image")
