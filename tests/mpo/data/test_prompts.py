import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer
from transformers import BertConfig, BertModel, BertTokenizerFast

from mpo import MpoError
from mpo.data.prompts import drop_similar, embed, read_prompt_sets, read_prompts
from mpo.recipe import Prompts, PromptSource, prompt_sets, recipes_folder
from tests.helpers.pictures import datasets
from tests.helpers.recipes import TRAIN_PROMPTS


def source(path: Path | str, **fields) -> PromptSource:
    return PromptSource(path=str(path), **fields)


def test_prompts_come_from_every_kind_of_file(tmp_path):
    table = datasets.Dataset.from_dict({"prompt": [*TRAIN_PROMPTS, TRAIN_PROMPTS[0]], "text": ["x"] * 4})
    (tmp_path / "a.txt").write_text("\n".join(TRAIN_PROMPTS) + "\n\n", "utf-8")
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"prompt": f" {p} "}) for p in TRAIN_PROMPTS), "utf-8")
    table.to_csv(tmp_path / "a.csv")
    table.to_parquet(tmp_path / "a.parquet")
    table.save_to_disk(tmp_path / "disk")
    datasets.DatasetDict({"train": table, "test": table.select([1])}).save_to_disk(tmp_path / "splits")
    for name in ("a.txt", "a.jsonl", "a.csv", "a.parquet", "disk", "splits"):
        assert read_prompts(source(tmp_path / name), field="prompts.train") == TRAIN_PROMPTS, name
    assert read_prompts(source(tmp_path / "splits", split="test"), field="prompts.train") == [TRAIN_PROMPTS[1]]
    assert read_prompts(source(tmp_path / "a.csv", limit=2), field="prompts.train") == TRAIN_PROMPTS[:2]
    assert read_prompts(source(tmp_path / "a.csv", column="text"), field="prompts.train") == ["x"]


def test_a_limit_counts_different_prompts(tmp_path):
    """Data sets have a row for each picture or vote, and some without a text."""
    texts = [TRAIN_PROMPTS[0], TRAIN_PROMPTS[0], None, " ", TRAIN_PROMPTS[1], TRAIN_PROMPTS[1], TRAIN_PROMPTS[2]]
    datasets.Dataset.from_dict({"prompt": texts}).to_parquet(tmp_path / "a.parquet")
    assert read_prompts(source(tmp_path / "a.parquet", limit=2), field="prompts.train") == TRAIN_PROMPTS[:2]
    (tmp_path / "many.txt").write_text("\n".join(f"prompt {k % 50}" for k in range(100)), "utf-8")
    drawn = [
        read_prompts(source(tmp_path / "many.txt", limit=20, shuffle_seed=s), field="prompts.train") for s in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1]
    assert all(len(set(prompts)) == 20 for prompts in drawn)
    assert set(drawn[0]) != set(drawn[2])
    assert set(drawn[0]) != {f"prompt {k}" for k in range(20)}


def test_shares_split_a_source_into_sets_without_a_prompt_in_common(tmp_path):
    """11 different prompts, 2 lines each: round(0.1 * 11) = 1, round(0.4 * 11) = 4, and the 7 that are left."""
    (tmp_path / "many.txt").write_text("\n".join(f"prompt {k % 11}" for k in range(22)), "utf-8")

    def part(low: float, high: float, **fields: int) -> list[str]:
        return read_prompts(source(tmp_path / "many.txt", share=(low, high), **fields), field="prompts.train")

    assert part(0.1, 0.4) == ["prompt 1", "prompt 2", "prompt 3"]
    assert part(0.1, 0.4, limit=2) == ["prompt 1", "prompt 2"]
    parts = [part(low, high, shuffle_seed=3) for low, high in ((0.0, 0.1), (0.1, 0.4), (0.4, 1.0))]
    assert [len(each) for each in parts] == [1, 3, 7]
    assert sorted(prompt for each in parts for prompt in each) == sorted(f"prompt {k}" for k in range(11))
    with pytest.raises(
        MpoError, match=r"prompts.train.share=\[0.0, 0.01\] holds none of the 11 prompts of .*; widen it"
    ):
        part(0.0, 0.01)
    with pytest.raises(ValueError, match="two shares that rise within"):
        PromptSource(path="many.txt", share=(0.5, 0.5))


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("none.jsonl", {}, r"prompts.train='.*none.jsonl' cannot be read \(no such file\); give a .txt"),
        ("a.csv", {"column": "caption"}, "has no column 'caption'; it has: prompt, number"),
        ("a.csv", {"column": "number"}, "holds something other than text; name another column"),
        ("no/such-data-set", {}, "prompts.train='no/such-data-set': the hub cannot be reached"),
    ],
)
def test_prompts_that_cannot_be_read_are_named(name, fields, message, tmp_path):
    (tmp_path / "a.csv").write_text("prompt,number\na red circle,1\n", "utf-8")
    path = tmp_path / name if "/" not in name else name
    with pytest.raises(MpoError, match=message):
        read_prompts(source(path, **fields), field="prompts.train")


def test_sets_that_share_a_prompt_are_refused(tmp_path):
    (tmp_path / "a.txt").write_text("a red circle\na blue star\n", "utf-8")
    (tmp_path / "b.txt").write_text("a blue star\n", "utf-8")
    (tmp_path / "c.txt").write_text("a heart\n", "utf-8")
    a, b, c = (str(tmp_path / f"{name}.txt") for name in "abc")
    with pytest.raises(MpoError, match=r"prompts.heldout shares 1 prompts with prompts.train, such as 'a blue star'"):
        read_prompt_sets(Prompts.model_validate({"train": a, "heldout": b}))
    with pytest.raises(MpoError, match=r"prompts.validation shares 1 prompts with prompts.heldout"):
        read_prompt_sets(Prompts.model_validate({"train": c, "heldout": b, "validation": a}))


WORDS = st.lists(
    st.sampled_from(["red", "blue", "green", "circle", "star", "heart", "sea", "desert", "night", "big", "small"]),
    min_size=1,
    max_size=6,
)


@given(st.lists(WORDS.map(" ".join), min_size=1, max_size=30), st.floats(0.1, 1.0), st.integers(1, 5))
@settings(deadline=None, max_examples=50)
def test_dropping_near_repetitions(texts, limit, block):
    """What stays is apart, what goes was near to something that stays, and the size of blocks does not matter."""
    from unittest.mock import patch

    kept = drop_similar(texts, limit)
    with patch("mpo.data.prompts.BLOCK", block):
        assert drop_similar(texts, limit) == kept
    vectors = TfidfVectorizer(ngram_range=(1, 2)).fit(texts)
    stay = vectors.transform(kept).toarray()
    similarity = stay @ stay.T - 2 * np.eye(len(kept))
    assert similarity.max() <= limit + 1e-9
    remaining = iter(texts)
    assert all(text in remaining for text in kept)  # in order
    all_similar = vectors.transform(texts).toarray() @ stay.T
    assert all(all_similar[i].max() > limit - 1e-9 for i, text in enumerate(texts) if text not in kept)


def test_training_prompts_near_to_held_out_ones_go(tmp_path):
    (tmp_path / "train.txt").write_text("a red circle on the sea today\na big green heart at night\n", "utf-8")
    (tmp_path / "heldout.txt").write_text("a red circle on the sea\n", "utf-8")
    fields = {"train": str(tmp_path / "train.txt"), "heldout": str(tmp_path / "heldout.txt"), "max_similarity": 0.7}
    train, heldout, _ = read_prompt_sets(Prompts.model_validate(fields))
    assert train == ["a big green heart at night"]
    assert heldout == ["a red circle on the sea"]


def test_similarity_by_a_text_encoder(tmp_path):
    """A BERT in a very small size: vectors are the masked means, of unit length, whatever shares their batch."""
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *["a", "red", "blue", "green", "circle", "star", "heart", "on", "the", "sea"],
    ]
    (tmp_path / "vocab.txt").write_text("\n".join(words), "utf-8")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    encoder = BertModel(config).eval()
    encoder.save_pretrained(tmp_path / "bert")
    tokenizer = BertTokenizerFast(vocab=str(tmp_path / "vocab.txt"))
    tokenizer.save_pretrained(tmp_path / "bert")
    texts = ["a red circle on the sea", "a star"]
    vectors = embed(texts, str(tmp_path / "bert"))
    with torch.no_grad():
        alone = encoder(**tokenizer([texts[1]], return_tensors="pt")).last_hidden_state[0].mean(dim=0)
    np.testing.assert_allclose(vectors[1], (alone / alone.norm()).numpy(), atol=1e-5)
    assert drop_similar([texts[0], texts[1], texts[0]], 0.999, by=str(tmp_path / "bert")) == texts
    with pytest.raises(MpoError, match=r"prompts.similarity='nothing-here': the hub cannot be reached"):
        embed(texts, "nothing-here")


@pytest.mark.parametrize(
    ("name", "number", "first"),
    [  # the numbers that their authors give; VBench repeats two
        ("partiprompts", 1632, "bond"),
        ("geneval", 553, "a photo of a bench"),
        ("dpg-bench", 1065, "An expansive field, blanketed by the soft light of morning, "),
        ("t2i-compbench", 2400, "a green bench and a blue bowl"),
        ("vbench", 944, "In a still frame, a stop sign"),
    ],
)
def test_sets_of_others_are_read_by_name(name, number, first):
    prompts = read_prompts(PromptSource(path=name), field="prompts.heldout")
    assert len(prompts) == number
    assert prompts[0].startswith(first)
    assert len(read_prompts(PromptSource(path=name, limit=9, shuffle_seed=0), field="prompts.heldout")) == 9
    licence = (recipes_folder() / "prompts" / f"{name}.LICENSE").read_text("utf-8")
    assert "Apache License" in licence or "MIT License" in licence


def test_every_shipped_set_is_named_in_the_documents():
    page = (Path(__file__).parents[3] / "docs" / "training.md").read_text("utf-8")
    assert prompt_sets() == sorted(name for name in prompt_sets() if f"| `{name}` |" in page)
    assert len(prompt_sets()) == 5


@pytest.mark.parametrize("fields", [{"column": "Prompt"}, {"split": "test"}, {"revision": "main"}])
def test_a_shipped_set_has_no_columns_splits_or_revisions(fields):
    with pytest.raises(ValueError, match="a path to a"):
        PromptSource(path="geneval", **fields)
