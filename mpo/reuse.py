"""Taking over what another run has made, as far as the recipes agree: candidates and scores for another way to select,
pairs and encodings for another beta, the untuned model's pictures for evaluation.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mpo.recipe import Recipe
from mpo.store import Run, replacing

# stage: what it leaves behind, and the sections of a recipe that this depends on, beside those of the stages before
SHAREABLE: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "generate": (("prompts", "candidates", "candidates_table"), ("seed", "model", "generate")),
    "gather": (("prompts", "candidates", "candidates_table", "preferences"), ("model", "preferences")),
    "score": (("scores",), ("judge",)),
    "select": (("pairs", "selection"), ("seed", "select")),
    "encode": (("encoded",), ()),
}


def take_over(theirs: Recipe, ours: Recipe, source: Run, run: Run, stages: Sequence[str]) -> list[str]:
    """Link (or copy, to another disk) what `source` has finished, stage by stage up to the first that differs.

    Returns what was taken. Training always runs.
    """
    taken = []
    for stage in stages:
        if stage not in SHAREABLE or _training_prompts(theirs) != _training_prompts(ours):
            break
        files, sections = SHAREABLE[stage]
        agree = all(getattr(theirs, name) == getattr(ours, name) for name in sections)
        if not agree or not all(getattr(source, name).exists() for name in files):
            break
        for name in files:
            _link(getattr(source, name), getattr(run, name))
        taken.append(stage)
    evaluated = [(r.model, r.evaluate, r.prompts.heldout) for r in (theirs, ours)]
    base = source.samples / "base"
    if evaluated[0] == evaluated[1] and base.exists():
        _link(base, run.samples / "base")
        taken.append("the untuned model's pictures")
    return taken


def _training_prompts(recipe: Recipe) -> dict[str, Any]:
    """What decides them; where near-repetitions are dropped, or they come with preferences, the other sets do, too."""
    prompts = recipe.prompts
    alone = prompts.train is not None and prompts.max_similarity is None
    return prompts.model_dump(include={"train", "max_similarity"} if alone else None)


def _link(source: Path, target: Path) -> None:
    """A file, or the files of a folder. What a finished stage made is replaced, if ever, and never written into."""
    files = [file for file in sorted(source.rglob("*")) if file.is_file()] if source.is_dir() else [source]
    for file in files:
        with replacing(target / file.relative_to(source)) as temporary:
            try:
                os.link(file, temporary)
            except OSError:  # another disk
                shutil.copyfile(file, temporary)
