"""Taking over what another run has made, as far as it fits: candidates and scores for another way to select, pairs and
encodings for another beta, the untuned model's pictures for evaluation.
"""

import os
import shutil
from pathlib import Path

from mpo.data.prompts import PromptSets
from mpo.dependencies import examine, fields_of, inputs_of, stages_of, writes_of
from mpo.recipe import Recipe
from mpo.run_folder.files import replacing
from mpo.run_folder.manifest import digests, manifest_file, read_manifest
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import read_prompts_table

TAKEN = ("generate", "import-pairs", "score", "select", "encode")  # training always runs


def take_over(theirs: Recipe, ours: Recipe, source: RunFolder, run: RunFolder, prompts: PromptSets) -> list[str]:
    """Link (or copy, to another disk) what `source` has finished, stage by stage up to the first that does not fit.

    A stage fits if it is done, and its manifest has the same recipe fields and the same inputs as ours would.
    prompts: ours, as read. Returns what was taken.
    """
    tables = ("prompts", "heldout_prompts", "validation_prompts")
    for name, texts in zip(tables, prompts, strict=True):
        table: Path = getattr(source, name)
        if texts and read_prompts_table(table) == texts:
            _link(table, getattr(run, name))  # the very file, so that digests agree
    taken = []
    for stage in stages_of(ours):
        held = read_manifest(source, stage)
        if (
            stage not in TAKEN
            or held is None
            or held.recipe != fields_of(ours, stage)
            or held.inputs != digests(run, inputs_of(run, ours, stage))
            or examine(source, theirs, stage).state != "done"
        ):
            break
        if read_manifest(run, stage) is None:
            for path in (*writes_of(source, theirs, stage), manifest_file(source, stage)):
                if path.exists():
                    _link(path, run.folder / path.relative_to(source.folder))
        taken.append(stage)
    base = source.samples / "base"
    same = read_prompts_table(source.heldout_prompts) == prompts[1]
    if same and (theirs.model, theirs.evaluate) == (ours.model, ours.evaluate) and base.exists():
        _link(base, run.samples / "base")
        taken.append("the untuned model's pictures")
    return taken


def _link(source: Path, target: Path) -> None:
    """Link a file, or a folder's finished files. Safe, since a stage's files are replaced if ever, never written into."""
    files = [file for file in sorted(source.rglob("*")) if file.is_file()] if source.is_dir() else [source]
    for file in files:
        goal = target / file.relative_to(source)
        if file.name.endswith(".part") or goal.exists():  # still being written, or ours already
            continue
        with replacing(goal) as temporary:
            try:
                os.link(file, temporary)
            except OSError:  # another disk
                shutil.copyfile(file, temporary)
