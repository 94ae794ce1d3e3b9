import re

import pytest

from mpo.first_steps.commented_yaml import read_comments, write_commented
from mpo.recipe import shipped_recipes
from reward.settings import read_yaml

TEXT = """\
# the head
a: 1  # of a
b:     # of b
  c: [1, "x # no comment"]  # of c
                            # and more
  d: 1e-5
  e: "plain # text"
f:
  - {g: 1}  # of an entry, which is not kept
h: {}
"""


def test_comments_stay_with_their_fields():
    assert read_comments(TEXT) == {("a",): ["of a"], ("b",): ["of b"], ("b", "c"): ["of c", "and more"]}
    fields = read_yaml(TEXT)
    written = write_commented(fields, read_comments(TEXT))
    assert read_yaml(written) == fields
    assert read_comments(written) == read_comments(TEXT)
    assert write_commented({"k": {"long": "x" * 60}}, {("k", "long"): ["y"]}) == f"k:\n  long: {'x' * 60}  # y\n"


@pytest.mark.parametrize("name", [name for name in shipped_recipes() if name != "quickstart"])
def test_a_shipped_recipe_goes_through_with_every_comment(name):
    """But for the head, which is written anew; the quickstart has a comment in a list."""

    def comments(text: str) -> list[str]:
        return sorted(
            re.split(r"\s#\s", line)[1] for line in text.splitlines() if re.search(r"\s#\s", line) and line[0] != "#"
        )

    text = shipped_recipes()[name].read_text("utf-8")
    written = write_commented(read_yaml(text), read_comments(text))
    assert read_yaml(written) == read_yaml(text)
    assert comments(written) == comments(text)
    assert comments(text)
