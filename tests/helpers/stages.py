"""Stages of a test's own, in processes that it starts: they import no torch, and fail as they are told."""

from pathlib import Path
from textwrap import indent

import pytest

# Python runs a module of this name when it starts.
LOADER = """
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
for file in Path(__file__).parent.glob("stage_*.py"):
    spec = spec_from_file_location("mpo.stages." + file.stem.removeprefix("stage_"), file)
    sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(sys.modules[spec.name])
"""
STAGE = """
import os, time
from pathlib import Path

def {name}(folder):
    rank, folder = int(os.environ.get("RANK", "0")), Path(folder)
{body}
"""
NOTE = """
with open(folder / "started.txt", "a") as file:
    file.write(f"{rank} ")
"""


def stage_elsewhere(name: str, body: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage for processes that are started from now on, written into this folder. body: may use `rank` and `folder`."""
    folder.mkdir(exist_ok=True)
    (folder / f"stage_{name}.py").write_text(STAGE.format(name=name, body=indent(body, "    ")), "utf-8")
    (folder / "sitecustomize.py").write_text(LOADER, "utf-8")
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=":")
