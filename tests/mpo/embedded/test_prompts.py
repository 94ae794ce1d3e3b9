import pytest

from mpo.data.prompts import read_prompts
from mpo.models.loading import load_pipeline
from mpo.recipe import Model, PromptSource
from reward.judges.depiction import parse


@pytest.fixture(scope="module")
def pipeline():
    return load_pipeline(Model(path="embedded"))


def test_prompts_are_single_tokens_a_word(pipeline):
    for file in ("prompts/shapes-train.txt", "prompts/shapes-heldout.txt"):
        for prompt in read_prompts(PromptSource(path=file), field="prompts"):
            parse(prompt)
            tokens = pipeline.tokenizer(prompt).input_ids
            assert len(tokens) == len(prompt.split()) + 2 <= 24
