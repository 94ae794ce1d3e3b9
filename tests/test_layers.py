"""Imports go one way: recipes -> mpo -> reward."""

import ast
import re
import sys
from importlib.metadata import requires
from pathlib import Path

ROOT = Path(__file__).parents[1]


OPTIONAL = {"reward/tune.py": {"datasets", "trl"}}  # module -> what only an extra installs


def imported(package: str) -> set[str]:
    names = set()
    for file in (ROOT / package).rglob("*.py"):
        optional = OPTIONAL.get(file.relative_to(ROOT).as_posix(), set())
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add((node.module or "").split(".")[0])
        names -= optional
    return names


def test_reward_knows_nothing_of_mpo():
    assert not imported("reward") & {"mpo", "benchmarks", "tests", "diffusers"}
    assert not imported("mpo") & {"benchmarks", "tests"}


def test_every_import_is_declared():
    packages = {re.split(r"[<>=]", name)[0] for name in requires("mpo") or () if "extra ==" not in name}
    modules = {"pillow": "PIL", "pyyaml": "yaml", "scikit-image": "skimage", "scikit-learn": "sklearn"}
    optional = {"bitsandbytes", "deepspeed"}  # asked for by name, and named where they are missing
    known = {modules.get(p, p).replace("-", "_") for p in packages} | {"mpo", "reward", "tokenizers"} | optional
    assert {n for n in imported("mpo") | imported("reward") if n not in sys.stdlib_module_names} <= known
