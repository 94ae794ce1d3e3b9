"""Taking over what another run has made, as far as the recipes agree: candidates and scores for another way to select,
pairs and encodings for another beta, the untuned model's pictures for evaluation.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from mpo.data.prompts import PromptSets
from mpo.recipe import Recipe
from mpo.run_folder.files import replacing
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import read_prompts_table

# stage: what it leaves behind, and the sections of a recipe that this depends on, beside those of the stages before
OUTPUTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "generate": (("prompts", "candidates", "candidates_table"), ("seed", "model", "generate")),
    "import-pairs": (("prompts", "candidates", "candidates_table", "preferences"), ("model", "preferences")),
    "score": (("scores",), ("judge",)),
    "select": (("pairs", "selection"), ("seed", "select")),
    "encode": (("encoded",), ()),
}


def take_over(
    theirs: Recipe, ours: Recipe, source: RunFolder, run: RunFolder, stages: Sequence[str], prompts: PromptSets
) -> list[str]:
    """Link (or copy, to another disk) what `source` has finished, stage by stage up to the first that differs.

    prompts: ours, as read; those of `source` are in its tables. Returns what was taken. Training always runs.
    """
    tables = {"train": source.prompts, "heldout": source.heldout_prompts, "validation": source.validation_prompts}
    same = {
        kind: read_prompts_table(table) == texts for (kind, table), texts in zip(tables.items(), prompts, strict=True)
    }
    agree = same["train"]
    if stages[0] == "import-pairs":  # whose prompts come with the pictures, less those of or near to the other sets
        similarity = [(r.prompts.max_similarity, r.prompts.similarity) for r in (theirs, ours)]
        agree = same["heldout"] and same["validation"] and similarity[0] == similarity[1]
    taken = []
    for stage in stages:
        files, sections = OUTPUTS.get(stage, ((), ()))
        agree = agree and all(getattr(theirs, name) == getattr(ours, name) for name in sections)
        if not files or not agree or not all(getattr(source, name).exists() for name in files):
            break
        if not all(getattr(run, name).exists() for name in files):
            for name in files:
                _link(getattr(source, name), getattr(run, name))
        taken.append(stage)
    base = source.samples / "base"
    if same["heldout"] and (theirs.model, theirs.evaluate) == (ours.model, ours.evaluate) and base.exists():
        _link(base, run.samples / "base")
        taken.append("the untuned model's pictures")
    return taken


def _link(source: Path, target: Path) -> None:
    """A file, or the files of a folder that are whole. What a stage made is replaced, if ever, and never written into."""
    files = [file for file in sorted(source.rglob("*")) if file.is_file()] if source.is_dir() else [source]
    for file in files:
        if file.name.endswith(".part"):  # being written
            continue
        with replacing(target / file.relative_to(source)) as temporary:
            try:
                os.link(file, temporary)
            except OSError:  # another disk
                shutil.copyfile(file, temporary)
