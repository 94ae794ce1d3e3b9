import pytest
from transformers import CLIPTokenizer

from mpo.data.prompts import read_prompts
from mpo.embedded.prompts import clip_prompts, main, picture_prompts
from mpo.models import EMBEDDED, EMBEDDED_VIDEO
from mpo.recipe import PromptSource
from reward.judges.depiction import parse

FILES = {"shapes": picture_prompts, "moving-shapes": clip_prompts}


@pytest.mark.parametrize("name", FILES)
def test_the_files_of_the_recipes_are_what_the_script_writes(name, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["prompts", str(tmp_path)])
    main()
    prompts = FILES[name]()
    for part, captions in (("train", prompts.train), ("heldout", prompts.held_out)):
        source = PromptSource(path=f"prompts/{name}-{part}.txt")
        assert read_prompts(source, field="prompts") == captions
        assert (tmp_path / f"{name}-{part}.txt").read_text("utf-8").splitlines() == captions
    assert not set(prompts.train) & set(prompts.held_out)


@pytest.mark.parametrize(("prompts", "model"), [(picture_prompts, EMBEDDED), (clip_prompts, EMBEDDED_VIDEO)])
def test_prompts_are_single_tokens_a_word(prompts, model):
    tokenizer = CLIPTokenizer.from_pretrained(model / "tokenizer")
    for prompt in (*prompts().train, *prompts().held_out):
        assert len(tokenizer(prompt).input_ids) == len(prompt.split()) + 2 <= 24


def test_prompts_of_pictures_can_be_judged():
    for prompt in (*picture_prompts().train, *picture_prompts().held_out):
        parse(prompt)
