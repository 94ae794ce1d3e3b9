"""Judges of a user's own: a class by its import path, `my_module:MyJudge`, or by the name of an entry point."""

import importlib
import inspect
import sys
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from reward.errors import JudgeError, first_line
from reward.judges.options import JUDGES

GROUP = "reward.judges"  # of entry points, in a package's pyproject.toml: [project.entry-points."reward.judges"]
METHODS = ("can_answer", "require", "require_prompts", "answer")


def is_own(name: str) -> bool:
    """Whether a judge's name is an import path, or an entry point's."""
    if name in JUDGES:  # without a look at all installed packages; their names are taken
        return False
    return ":" in name or any(point.name == name for point in entry_points(group=GROUP))


def own_judge(name: str, options: Mapping[str, Any]) -> Any:
    """The class, once its constructor takes the options. A module is looked for in the working directory, too.

    Raises JudgeError for a module or class that cannot be imported, one that is no `reward.Judge`, and wrong options.
    """
    points = [point for point in entry_points(group=GROUP) if point.name == name]
    path = points[0].value if points else name
    module_name, _, class_name = path.partition(":")
    if module_name in JUDGES:  # as `mpo init` takes them
        option = "base_urls" if module_name == "server" else "model"
        raise JudgeError(
            f"judge={name!r}: here a judge and its options are given apart: judge {module_name!r} with {option}={class_name}"
        )
    found = _import(name, module_name)
    if not hasattr(found, class_name):
        raise JudgeError(f"judge={name!r}: module {module_name!r} has no {class_name!r}; write module:Class")
    judge = getattr(found, class_name)
    missing = [method for method in METHODS if not callable(getattr(judge, method, None))]
    if missing:
        raise JudgeError(
            f"judge={name!r} has no {missing[0]!r}; a judge has the members of reward.Judge, most of which reward.judges.AnswersAnything gives"
        )
    try:
        inspect.signature(judge).bind(**options)
    except TypeError as error:
        raise JudgeError(f"judge={name!r}: {first_line(error)}; its options are {inspect.signature(judge)}") from None
    return judge


def _import(name: str, module_name: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # behind all others, so that no installed module is hidden
    importlib.invalidate_caches()
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name:
            raise JudgeError(f"judge={name!r}: {module_name} needs the module {error.name!r}; install it") from None
        raise JudgeError(
            f"judge={name!r}: there is no module {module_name!r} here or installed; write module:Class, in a folder where module.py is"
        ) from None
    except Exception as error:  # a user's code may raise anything
        raise JudgeError(
            f"judge={name!r}: {module_name} cannot be imported ({type(error).__name__}: {first_line(error)}); mend it"
        ) from error
