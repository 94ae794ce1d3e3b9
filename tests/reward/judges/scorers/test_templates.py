"""The words are those that the networks were trained with: a space more or less would go unnoticed otherwise."""

import hashlib

import pytest

from reward.judges.scorers import templates


@pytest.mark.parametrize(
    ("words", "digest"),
    [  # of the published strings, with {prompt} for {text_prompt}
        (templates.HPSV3, "e61d58f3c7d3be656ccd024f5c0cd8c001cf9a2122305d52b59e60d94147e0f2"),
        (templates.VIDEOREWARD, "fd7862ecb43bbe39144c6a45a52f886c95a659afb2a231655fd990c2e459976c"),
    ],
)
def test_the_words_are_as_published_to_the_byte(words, digest):
    assert hashlib.sha256(words.encode()).hexdigest() == digest
    assert words.count("{prompt}") == 1
