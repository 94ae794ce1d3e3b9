"""A recipe's fields as YAML, with the comments of the recipe that it comes from."""

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from reward.settings import write_yaml

COLUMN = 39  # where comments begin, as in the shipped recipes

Place = tuple[str, ...]  # the keys to a field, such as ("prompts", "train", "limit")
Comments = dict[Place, list[str]]  # lines without their "#"


def read_comments(text: str) -> Comments:
    """The comments behind fields, with the lines of comment alone that follow them. Those at the top of the file are left out."""
    lines, comments = text.splitlines(), Comments()
    for place, mark in _ends(yaml.compose(text, Loader=yaml.SafeLoader)):
        found = lines[mark.line][mark.column :].lstrip(" :")
        if not found.startswith("#"):
            continue
        comments[place] = [found.lstrip("# ")]
        for line in lines[mark.line + 1 :]:
            if not line.lstrip().startswith("#"):
                break
            comments[place].append(line.lstrip("# "))
    return comments


def _ends(node: Any, place: Place = ()) -> Iterator[tuple[Place, yaml.Mark]]:
    """For each field, where the text on its line ends: behind its value, or behind its key if the value stands below."""
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        here = (*place, str(key.value))
        is_below = isinstance(value, yaml.CollectionNode) and not value.flow_style
        yield here, key.end_mark if is_below else value.end_mark
        yield from _ends(value, here)


def write_commented(fields: Mapping[str, Any], comments: Mapping[Place, list[str]]) -> str:
    """The YAML text: mappings below their keys, all else on the key's line."""
    return "".join(f"{line}\n" for line in _lines(fields, comments, ()))


def _lines(fields: Mapping[str, Any], comments: Mapping[Place, list[str]], place: Place) -> Iterator[str]:
    indent = "  " * len(place)
    for key, value in fields.items():
        here = (*place, key)
        is_below = isinstance(value, Mapping) and bool(value)
        line = f"{indent}{key}:" if is_below else f"{indent}{key}: {_on_one_line(value)}"
        first, *others = comments.get(here, [""])
        yield f"{line:<{COLUMN - 2}}  # {first}" if first else line
        for other in others:
            yield f"{'':<{COLUMN}}# {other}"
        if is_below:
            yield from _lines(value, comments, here)


def _on_one_line(value: Any) -> str:
    """A value in YAML's flow style."""
    return write_yaml([value], flow=True).strip()[1:-1]
