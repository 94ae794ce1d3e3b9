"""A recipe's fields with their comments, while they are changed."""

from collections.abc import Mapping
from typing import Any

from mpo.first_steps.commented_yaml import Comments, write_commented
from reward.settings import read_yaml


class Draft:
    """Starts with copies, so that a recipe that it is made from stays as it is."""

    def __init__(self, fields: Mapping[str, Any], comments: Comments):
        self.fields: dict[str, Any] = read_yaml(write_commented(fields, {}))
        self.comments = dict(comments)

    def set(self, place: tuple[str, ...], value: Any, why: str = "") -> None:
        """A field's value and what is said of it; "" = nothing. Comments of what it replaces go."""
        *sections, last = place
        target = self.fields
        for section in sections:
            target = target.setdefault(section, {})
        self.comments = {at: lines for at, lines in self.comments.items() if at[: len(place)] != place}
        target[last] = value
        if why:
            self.comments[place] = [why]

    def remove(self, *place: str) -> None:
        *sections, last = place
        target = self.fields
        for section in sections:
            target = target.get(section, {})
        target.pop(last, None)
        self.comments = {at: lines for at, lines in self.comments.items() if at[: len(place)] != place}

    def has(self, *place: str) -> bool:
        target: Any = self.fields
        for key in place:
            if not isinstance(target, Mapping) or key not in target:
                return False
            target = target[key]
        return True
