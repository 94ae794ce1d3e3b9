"""Docstrings as Markdown. Here they are plain text: `name: words` describes a parameter, `>>> code` is an example."""

import re
from collections.abc import Sequence

DOCTEST = re.compile(r"(?:^>>> .*\n?)+", re.MULTILINE)


def as_markdown(text: str, names: Sequence[str]) -> str:
    """names: of parameters, which `name: words` may describe at the start of a line or after a full stop."""
    text = DOCTEST.sub(lambda match: f"\n```python\n{match[0].replace('>>> ', '').rstrip()}\n```\n", text)
    if names:
        places = "|".join(map(re.escape, names))
        text = re.sub(rf"(?:^|(?<=\. ))({places}): ", r"\n\n- **\1**: ", text, flags=re.MULTILINE)
    text = re.sub(r"^(Raises |Returns )", r"\n\1", text, flags=re.MULTILINE)  # a paragraph of its own
    text = re.sub(r"(?<=\.) (Raises [A-Z]\w+)", r"\n\n\1", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()
