"""Names that the shell completes. Imports no library, since the shell waits for it each time that the key is pressed.

Where none of them fits, the shells complete files by themselves.
"""

import os
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
STAGES = ("generate", "import-pairs", "score", "select", "encode", "train", "evaluate", "export", "report")


def complete_shipped(incomplete: str) -> list[str]:
    """Shipped recipes."""
    packaged = (
        PACKAGE / "recipes"
    )  # as mpo.recipe.recipes_folder finds it; that module imports half a second of libraries
    folder = packaged if packaged.is_dir() else PACKAGE.parent / "recipes"
    return sorted(file.stem for file in folder.glob("*.yaml") if file.stem.startswith(incomplete))


def complete_recipe(incomplete: str) -> list[str]:
    """Shipped recipes, and YAML files by their paths."""
    return complete_shipped(incomplete) + [path for path in _entries(incomplete) if path.endswith((".yaml", ".yml"))]


def complete_run(incomplete: str) -> list[str]:
    """Run folders by their paths: in the folder that was typed, and up to two folders below it, where rounds are."""
    found: list[str] = []
    level = list(_entries(incomplete))
    for _ in range(3):
        level = [path for path in level if os.path.isdir(path)]
        found += [path for path in level if os.path.isfile(os.path.join(path, "recipe.yaml"))]
        level = [inner for path in level for inner in _entries(os.path.join(path, ""))]
    return sorted(found)


def complete_stage(incomplete: str) -> list[str]:
    """Stages in their order."""
    return [stage for stage in STAGES if stage.startswith(incomplete)]


def _entries(incomplete: str) -> Iterator[str]:
    """Paths, as typed, of what begins so in a folder; hidden ones only where their point was typed."""
    folder, start = os.path.split(incomplete)
    try:
        names = sorted(os.listdir(os.path.expanduser(folder) or "."))
    except OSError:  # no such folder, or not ours to read
        return
    for name in names:
        if name.startswith(start) and (start or not name.startswith(".")):
            yield os.path.join(folder, name)
