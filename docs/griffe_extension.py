"""What mkdocstrings calls for each docstring before it is rendered."""

import sys
from pathlib import Path
from typing import Any

from griffe import Class, Extension, Function, Object

sys.path.insert(0, str(Path(__file__).parent))
from docstrings import as_markdown


class Docstrings(Extension):
    """Parameters become a list, examples become code."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        if obj.docstring is None:
            return
        names = [parameter.name for parameter in obj.parameters] if isinstance(obj, Function) else []
        if isinstance(obj, Class):
            names = [name for name, member in obj.members.items() if member.is_attribute]
        obj.docstring.value = as_markdown(obj.docstring.value, names)
