"""A whole run: the stages in order, and the checks before the first of them."""

import importlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from mpo import MpoError
from mpo.data.prompts import read_prompt_sets
from mpo.recipe import Recipe, dump_recipe, read_recipe
from mpo.run_folder.files import write_text
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import PROMPTS, read_prompts_table, write_table
from mpo.runtime.processes import barrier, is_main, num_processes
from mpo.runtime.progress import say
from mpo.take_over import take_over

STAGES = ("generate", "score", "select", "encode", "train", "evaluate", "export", "report")
ALL_RANKS = (
    "generate",
    "score",
    "encode",
    "train",
    "evaluate",
)  # several processes take part; the others are the main one's


def stages_of(recipe: Recipe) -> tuple[str, ...]:
    """A recipe that brings its pairs gathers them in place of generating; if it takes them as given, no judge is asked."""
    if recipe.preferences is None:
        return STAGES
    return ("import-pairs", *(stage for stage in STAGES[1:] if (stage, recipe.select.strategy) != ("score", "given")))


def stage_function(stage: str) -> Callable[..., None]:
    """The function of a stage. Imported late: the first takes diffusers along, which takes seconds."""
    name = stage.replace("-", "_")
    return getattr(importlib.import_module(f"mpo.stages.{name}"), name)


def check_settings(recipe: Recipe, prompts: Sequence[str], *, training: bool = True) -> None:
    """What can be checked without the hub: judge, checklist, strategy, optimizer, how steps are dealt to processes.

    training: whether these processes will train. Raises ValueError (MpoError, ChecklistError, JudgeError) with one line that names field, value and remedy.
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
        check_sharder(recipe, micro_batch_size(recipe.train, num_processes()), num_processes())


def prepare(
    recipe: Recipe, output: str | Path, *, source: str | Path | None = None, stages: Sequence[str] = STAGES
) -> RunFolder:
    """Check, then write recipe.yaml and the prompt tables. Refuses a folder that holds another recipe's run.

    source: a run whose work is taken over as far as the recipes agree. stages: those that will run now.
    """
    run = RunFolder(output)
    if is_main():
        _prepare(recipe, run, RunFolder(source) if source else None, stages)
    barrier()
    return run


def _prepare(recipe: Recipe, run: RunFolder, source: RunFolder | None, stages: Sequence[str]) -> None:
    from mpo.models.checks import check_model

    if run.recipe.exists():
        if read_recipe(run.recipe) != recipe:
            differing = _differences(read_recipe(run.recipe), recipe)
            raise MpoError(
                f"--output {str(run.folder)!r} holds a run of another recipe (it differs in {', '.join(differing)}); use another folder, with --from {run.folder} to take over what they share"
            )
    elif run.folder.exists() and any(not entry.name.endswith(".part") for entry in run.folder.iterdir()):
        raise MpoError(f"--output {str(run.folder)!r} is not empty and holds no run; use another folder")
    if source and not source.recipe.is_file():
        raise MpoError(f"--from {str(source.folder)!r} is no run: it holds no recipe.yaml; name a run directory")
    tables = (run.prompts, run.heldout_prompts, run.validation_prompts)
    prepared = run.heldout_prompts.exists()
    train, heldout, validation = map(read_prompts_table, tables) if prepared else read_prompt_sets(recipe.prompts)
    judged = [] if recipe.select.strategy == "given" else train  # the others always are
    check_settings(recipe, [*judged, *heldout, *validation], training="train" in stages)
    check_model(recipe)
    if not run.recipe.exists():
        write_text(run.recipe, dump_recipe(recipe))
    if source:
        taken = take_over(
            read_recipe(source.recipe), recipe, source, run, stages_of(recipe), (train, heldout, validation)
        )
        say(f"taken over from {source.folder}: {', '.join(taken) or 'nothing, since no finished stage agrees'}")
    for path, prompts in (
        (run.prompts, train),  # they may come with the preferences
        (run.validation_prompts, validation),
        (run.heldout_prompts, heldout),  # last: where it stands, the others do
    ):
        if prompts and not path.exists():
            write_table(path, {"prompt_id": list(range(len(prompts))), "prompt": prompts}, PROMPTS)


def _differences(held: Recipe, wanted: Recipe) -> list[str]:
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
) -> None:
    """The stages from first to last; None = all of the recipe's. What is done already is not done again.

    With `repair`, damaged candidates are made again first. source: a run whose work is taken over as far as the
    recipes agree, such as candidates and scores for another way to select or another beta.
    """
    stages = stages_of(recipe) if stages is None else stages
    run = prepare(recipe, output, source=source, stages=stages)
    for stage in stages:
        run_stage(run.folder, stage, repair=repair)


def run_stage(folder: str | Path, stage: str, *, repair: bool = False) -> None:
    """One stage of a prepared run, in every process. Raises MpoError where the folder is no run."""
    run = RunFolder(folder)
    if not run.recipe.is_file():
        raise MpoError(
            f"{str(folder)!r} is no run: it holds no recipe.yaml; make one with `mpo run RECIPE --output {folder}`"
        )
    if is_main():
        run.log_event("start", stage=stage, pid=os.getpid())
    say(f"{stage} ...")
    if stage in ALL_RANKS or is_main():
        stage_function(stage)(folder, **({"repair": True} if repair and stage == "generate" else {}))
    barrier()
    if is_main():
        run.log_event("done", stage=stage)
