"""A whole run: the stages in order, and the checks before the first of them."""

import os
import shutil
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path

from mpo import MpoError
from mpo.clusters.engine import Engine
from mpo.clusters.jobs import end_left_jobs
from mpo.clusters.worker import whole_stage
from mpo.data.prompts import PromptSets, read_prompt_sets
from mpo.dependencies import (
    PREPARE,
    STAGES,
    begin,
    examine,
    finish,
    is_done,
    pending_redo,
    redo,
    remedy,
    repair,
    require_earlier,
    stages_of,
    status,
)
from mpo.recipe import Recipe, dump_recipe, read_recipe, refuse_rounds
from mpo.run_folder.files import replacing, sha256, write_text
from mpo.run_folder.lock import OWN, locked, refuse_if_in_use
from mpo.run_folder.manifest import Manifest, library_versions, read_manifest
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import PROMPTS, read_prompts_table, write_table
from mpo.runtime.hub import OfflineError
from mpo.runtime.machine import describe_machine
from mpo.runtime.processes import all_see, barrier, broadcast_from_main, is_main, num_processes
from mpo.runtime.progress import say
from mpo.take_over import take_over
from mpo.training.start import check_start, start_file

# Several processes take part in these; the main one does the others alone.
ALL_RANKS = ("generate", "score", "encode", "train", "evaluate")


def check_settings(
    recipe: Recipe, prompts: Sequence[str], *, training: bool = True, num_trainers: int | None = None
) -> None:
    """What can be checked without the hub: judge, checklist, strategy, optimizer, how steps are split over processes.

    training: whether it will be trained now, by so many processes; None = as many as there are. Raises ValueError (MpoError, ChecklistError, JudgeError) with one line that names field, value and remedy.
    """
    from mpo.comparison.dominance import find_strategy
    from mpo.scoring import check_judge
    from mpo.training.batches import micro_batch_size
    from mpo.training.optimizer import check_optimizer
    from mpo.training.sharding import check_sharder

    checklist = check_judge(recipe, prompts)
    if recipe.select.strategy != "given":
        find_strategy(recipe.select.strategy, checklist)
    check_optimizer(recipe.train)
    if training:
        num_trainers = num_trainers or num_processes()
        check_sharder(recipe, micro_batch_size(recipe.train, num_trainers), num_trainers)


def prepare(
    recipe: Recipe,
    output: str | Path,
    *,
    source: str | Path | None = None,
    stages: Sequence[str] = STAGES,
    repair: bool = False,
    num_trainers: int | None = None,
) -> RunFolder:
    """Check, then write recipe.yaml and the prompt tables. Refuses a folder that holds another recipe's run.

    source: a run whose work is taken over as far as it fits. stages: those that will run now. repair: damaged tables are
    made again. num_trainers: processes that will train; None = as many as there are.
    """
    run = RunFolder(output)
    if is_main():
        check_folder(recipe, run)
        if repair and run.recipe.exists():
            _repair_prompts(run, recipe)
        prompts = _check(recipe, run, stages, num_trainers)
        taken_from = _find_source(source)
        if run.recipe.exists():
            held = read_recipe(run.recipe)
            if (continued := _continued(held, recipe)) != held:
                with locked(run.folder):
                    write_text(run.recipe, dump_recipe(continued))
        # Nothing is written to a run that needs nothing: it may be another account's.
        if taken_from is not None or not run.recipe.exists() or examine(run, recipe, PREPARE).state != "done":
            with locked(run.folder):
                if not run.recipe.exists():
                    write_text(run.recipe, dump_recipe(recipe))
                if recipe.start and not run.start.exists():
                    with replacing(run.start) as temporary:
                        shutil.copyfile(start_file(recipe.start), temporary)
                if taken_from is not None:
                    taken = take_over(read_recipe(taken_from.recipe), recipe, taken_from, run, prompts)
                    say(f"taken over from {source}: {', '.join(taken) or 'nothing, since no finished stage agrees'}")
                _write_prompt_tables(run, recipe, prompts)
    barrier()
    if not all_see(run.recipe):  # told by all, so that none waits for one that has given up
        raise MpoError(f"--output {str(run.folder)!r} is not seen by all machines; put it on a disk that all share")
    return run


def _continued(held: Recipe, recipe: Recipe) -> Recipe:
    """A run's recipe with what results do not depend on as another says: where weights wait, and where curves are shown."""
    model = held.model.model_copy(update={"offload": recipe.model.offload})
    return held.model_copy(update={"model": model, "tracking": recipe.tracking})


def preview(recipe: Recipe, output: str | Path, *, repair: bool = False) -> list[str]:
    """The stages that a run has done already, before it is continued with this recipe. Writes nothing.

    Raises MpoError where the run could not go on: a folder that holds something else or is in use, work that must be put
    right first. repair: what is damaged will be made again.
    """
    run = RunFolder(output)
    check_folder(recipe, run)
    if run.folder.is_dir():
        refuse_if_in_use(run.folder)
    if not run.recipe.exists():
        return []
    rows = status(run, recipe)
    broken = next(((stage, verdict) for stage, verdict, _ in rows if verdict.state in ("stale", "damaged")), None)
    if broken and not (repair and broken[1].state == "damaged"):
        raise MpoError(f"--output {str(run.folder)!r}: {remedy(run, *broken)}")
    return [stage for stage, verdict, _ in rows if stage != PREPARE and verdict.state == "done"]


def check_folder(recipe: Recipe, run: RunFolder) -> None:
    """Raises MpoError if the folder can be no run of this recipe. Rounds may be followed by more."""
    if not run.folder.is_dir() and (run.folder.exists() or run.folder.is_symlink()):
        raise MpoError(f"--output {str(run.folder)!r} is a file; name a folder")
    above = next(each for each in run.folder.absolute().parents if each.exists())
    if not run.folder.exists() and not (above.is_dir() and os.access(above, os.W_OK)):
        why = "where you may not write" if above.is_dir() else "which is a file"
        raise MpoError(f"--output {str(run.folder)!r} would lie in {str(above)!r}, {why}; name another folder")
    if run.recipe.exists():
        held = _continued(read_recipe(run.recipe), recipe)
        if recipe.rounds > 1 and not run.manifests.exists():
            held = held.model_copy(update={"rounds": recipe.rounds})
        if held != recipe:
            takeover = "" if recipe.rounds > 1 else f", with --from {run.folder} to take over what they share"
            raise MpoError(
                f"--output {str(run.folder)!r} holds a run of another recipe (it differs in {', '.join(_differences(held, recipe))}); use another folder{takeover}"
            )
    elif run.folder.exists() and any(e.name not in OWN and not e.name.endswith(".part") for e in run.folder.iterdir()):
        raise MpoError(f"--output {str(run.folder)!r} is not empty and holds no run; use another folder")


def _check(recipe: Recipe, run: RunFolder, stages: Sequence[str], num_trainers: int | None) -> PromptSets:
    """Check all that the recipe, the prompts and the model's small files show; returns the prompts."""
    from mpo.models.checks import check_medium, check_model
    from mpo.training.trackers import check_trackers

    with suppress(OfflineError):  # which check_model raises, once all that needs no hub is checked
        check_medium(recipe)
    if recipe.start and not run.start.exists():
        check_start(recipe)
    train, heldout, validation = read_prompts(run, recipe)
    judged = [] if recipe.select.strategy == "given" else train  # the others always are
    asked = [*judged, *heldout, *validation]
    check_settings(recipe, asked, training="train" in stages, num_trainers=num_trainers)
    if "train" in stages:
        check_trackers(recipe)
    check_model(recipe)
    return train, heldout, validation


def read_prompts(run: RunFolder, recipe: Recipe) -> PromptSets:
    """The run's prompts: from its tables, if all are there, else from the recipe's sources."""
    tables = (run.prompts, run.heldout_prompts, run.validation_prompts)
    needed = (recipe.prompts.train, recipe.prompts.heldout, recipe.prompts.validation)
    if all(table.exists() for table, source in zip(tables, needed, strict=True) if source is not None):
        train, heldout, validation = map(read_prompts_table, tables)
        return train, heldout, validation
    return read_prompt_sets(recipe.prompts)


def _write_prompt_tables(run: RunFolder, recipe: Recipe, prompts: PromptSets) -> None:
    """Write those that are missing. Raises MpoError if the sources have changed since the run was made."""
    held = read_manifest(run, PREPARE)
    manifest = begin(run, recipe, PREPARE) if held is None else held
    for path, texts in zip((run.prompts, run.heldout_prompts, run.validation_prompts), prompts, strict=True):
        if texts and not path.exists():
            write_table(path, {"prompt_id": list(range(len(texts))), "prompt": texts}, PROMPTS)
            name = path.relative_to(run.folder).as_posix()
            if held and held.outputs and held.outputs.get(name) not in (None, sha256(path)):
                path.unlink()
                raise MpoError(
                    f"{path} is missing, and the recipe's prompts are no longer those that it was made from; put back the file that they come from, or use another folder"
                )
    if held is None or held.outputs is None:
        finish(run, recipe, manifest)


def _repair_prompts(run: RunFolder, recipe: Recipe) -> None:
    """Delete the tables of prompts that are damaged: they are made again."""
    verdict = examine(run, recipe, PREPARE)
    if verdict.state == "damaged":
        with locked(run.folder):
            deleted = repair(run, recipe, PREPARE, verdict.names)
            run.log_event("repair", files=deleted)
            say(f"prompts: {len(deleted)} damaged, such as {deleted[0]}, to be made again")


def _find_source(source: str | Path | None) -> RunFolder | None:
    """The run of `--from`. Raises MpoError if it is not a run."""
    if source is None:
        return None
    run = RunFolder(source)
    if not run.recipe.is_file():
        raise MpoError(f"--from {str(source)!r} is not a run: it has no recipe.yaml; name a run folder")
    return run


def _differences(held: Recipe, wanted: Recipe) -> list[str]:
    """Names of the fields in which two recipes differ."""
    names = []
    for name in Recipe.model_fields:
        a, b = getattr(held, name), getattr(wanted, name)
        if a != b:
            names += (
                [f"{name}.{key}" for key in type(a).model_fields if getattr(a, key) != getattr(b, key)]
                if hasattr(type(a), "model_fields") and type(a) is type(b)
                else [name]
            )
    return names


def run_recipe(
    recipe: Recipe,
    output: str | Path,
    *,
    stages: Sequence[str] | None = None,
    repair: bool = False,
    source: str | Path | None = None,
    engine: Engine | None = None,
) -> None:
    """Run the stages from first to last; None = all of the recipe's. What is done already is not done again.

    repair: what is damaged is made again. source: a run whose work is taken over as far as it fits, such as candidates
    and scores for another way to select or another beta. engine: a cluster that does the work; None = these processes.
    """
    stages = stages_of(recipe) if stages is None else stages
    num_trainers = engine.num_trainers if engine else None
    run = prepare(recipe, output, source=source, stages=stages, repair=repair, num_trainers=num_trainers)
    nothing_to_do = is_main() and all(is_done(run, recipe, stage) for stage in stages[-1:])
    with nullcontext() if nothing_to_do else locked(run.folder):
        for stage in stages:
            run_stage(run.folder, stage, repair=repair, engine=engine)


def run_stage(
    folder: str | Path, stage: str, *, repair: bool = False, redo: bool = False, engine: Engine | None = None
) -> None:
    """Run one stage of a prepared run, in every process, or on a cluster. What is done already is not done again.

    repair: damaged files of the stage are deleted and made again, with the same bytes. redo: all that the stage
    and later ones have made is deleted first. Raises MpoError if the folder is not a run, if the stage's work, or that
    of an earlier stage, no longer fits the recipe or its inputs, or if another process is at work on the folder.
    """
    run = RunFolder(folder)
    if not all_see(run.recipe):
        raise MpoError(
            f"{str(folder)!r} is not a run: it has no recipe.yaml, or not for all machines; make one with `mpo run RECIPE --output {folder}`"
        )
    recipe = read_recipe(run.recipe)
    refuse_rounds(recipe, run.folder)
    if stage not in stages_of(recipe):
        raise MpoError(f"stage {stage} is not among this recipe's; stages: {', '.join(stages_of(recipe))}")
    if broadcast_from_main(not redo and is_done(run, recipe, stage) if is_main() else None):
        say(f"{stage}: done already")  # without the lock, which another account's run does not give
        return
    with locked(run.folder):
        if is_main():
            end_left_jobs(run.folder)  # which would write beside this work
        machine = engine.describe() if engine else None
        manifest = broadcast_from_main(_open_stage(run, recipe, stage, repair, redo, machine) if is_main() else None)
        if manifest is None:
            say(f"{stage}: done already")
            return
        say(f"{stage} ...")
        if engine is not None:
            engine.run_stage(folder, stage)
        elif stage in ALL_RANKS or is_main():
            whole_stage(stage)(folder)
        barrier()
        if is_main():
            finish(run, recipe, manifest)
            run.log_event("done", stage=stage)


def _open_stage(
    run: RunFolder, recipe: Recipe, stage: str, repair_it: bool, redo_it: bool, machine: str | None
) -> Manifest | None:
    """What goes into a stage, once all earlier ones are valid; None if the stage is done. machine: None = this one."""
    if repair_it:
        _repair_prompts(run, recipe)
    stopped = pending_redo(run)
    if stopped and not stopped.deleted:
        redo(run, recipe, stopped.stage)
    _write_prompt_tables(run, recipe, read_prompts(run, recipe))
    require_earlier(run, recipe, stage)
    if redo_it:
        undone = redo(run, recipe, stage)
        run.log_event("redo", stages=undone)
        say(f"{stage}: deleted the work of {', '.join(undone) or 'no stage'}")
    verdict = examine(run, recipe, stage)
    if verdict.state == "done":
        return None
    if repair_it and verdict.state in ("damaged", "begun"):
        deleted = repair(run, recipe, stage, verdict.names)
        if deleted:
            run.log_event("repair", files=deleted)
            say(f"{stage}: {len(deleted)} damaged, such as {deleted[0]}, to be made again")
    elif verdict.state in ("stale", "damaged"):
        raise MpoError(remedy(run, stage, verdict))
    elif verdict.why:
        say(f"{stage}: {verdict.why}")
    held = read_manifest(run, stage)
    if verdict.state == "begun" and held and held.versions != library_versions():
        other = [f"{name} {old}" for name, old in held.versions.items() if library_versions().get(name) != old]
        say(f"{stage}: begun with {', '.join(other)}; it continues with other versions, so bytes may differ")
    on = {"machine": machine or describe_machine(num_processes())} if stage in ALL_RANKS else {}
    run.log_event("start", stage=stage, pid=os.getpid(), **on)
    return begin(run, recipe, stage)
