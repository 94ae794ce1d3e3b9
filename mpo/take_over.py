"""Taking over what another run has made, as far as it fits: candidates and scores for another way to select, pairs and
encodings for another beta, the untuned model's pictures for evaluation.
"""

import os
import shutil
from pathlib import Path
from typing import Any

from mpo import MpoError
from mpo.data.prompts import PromptSets
from mpo.dependencies import examine, fields_of, inputs_of, stages_of, writes_of
from mpo.recipe import Recipe
from mpo.run_folder.files import replacing, sha256
from mpo.run_folder.manifest import digests, is_foreign, manifest_file, read_manifest
from mpo.run_folder.media import can_be_decoded
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import read_prompts_table
from mpo.runtime.progress import say

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
    if same and _base_sampling(theirs) == _base_sampling(ours) and base.exists():
        damaged = _damaged_pictures(source, base)
        for file in _files_of(base):
            if file not in damaged:
                _link(file, run.samples / "base" / file.name)
        taken.append("the untuned model's pictures")
        if damaged:
            say(
                f"not taken over: {len(damaged)} of the untuned model's pictures, such as {damaged[0]}, which are not what stage evaluate wrote; stage evaluate makes them anew"
            )
    return taken


def _base_sampling(recipe: Recipe) -> tuple[Any, Any]:
    """What the untuned model's pictures depend on."""
    evaluate = recipe.evaluate.model_dump(exclude={"judges", "num_bootstrap"})
    return recipe.model.model_dump(exclude={"offload"}), evaluate


def _damaged_pictures(source: RunFolder, folder: Path) -> list[Path]:
    """Pictures of an evaluation that differ from its manifest; without one, those that cannot be decoded."""
    try:
        held = read_manifest(source, "evaluate")
    except MpoError:
        held = None
    recorded = (held.outputs if held else None) or {}

    def is_whole(file: Path) -> bool:
        digest = recorded.get(file.relative_to(source.folder).as_posix())
        return sha256(file) == digest if digest else can_be_decoded(file)

    return [file for file in _files_of(folder) if not is_whole(file)]


def _files_of(folder: Path) -> list[Path]:
    """A folder's files, at any depth, but those that are still being written."""
    return [file for file in sorted(folder.rglob("*")) if file.is_file() and not is_foreign(file.name)]


def _link(source: Path, target: Path) -> None:
    """Link a file, or a folder's finished files. Safe, since a stage's files are replaced if ever, never written into."""
    for file in _files_of(source) if source.is_dir() else [source]:
        goal = target / file.relative_to(source)
        if goal.exists():  # ours already
            continue
        with replacing(goal) as temporary:
            try:
                os.link(file, temporary)
            except OSError:  # another disk
                shutil.copyfile(file, temporary)
