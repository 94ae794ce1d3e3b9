"""Rounds: on-policy training. Each samples from the model that the round before has tuned, and trains on.

RUN/round-1, RUN/round-2, … are runs of their own, so whatever holds of a run (killed and resumed, repaired, shown) holds of each. A later round's
candidates come from the tuned model at new seeds; its LoRA goes on from the one before, while the reference stays the base model,
so that the last LoRA alone is the result, and each round's page compares it with the base.
"""

from pathlib import Path

from mpo.clusters.engine import Engine
from mpo.recipe import Recipe, dump_recipe, read_recipe
from mpo.run import check_folder, run_recipe
from mpo.run_folder.files import write_text
from mpo.run_folder.paths import RunFolder, round_folder
from mpo.runtime.processes import barrier, is_main
from mpo.runtime.progress import say


def run_rounds(
    recipe: Recipe,
    output: str | Path,
    *,
    repair: bool = False,
    source: str | Path | None = None,
    engine: Engine | None = None,
) -> RunFolder:
    """All rounds, from where an earlier call stopped; returns the last one's folder.

    source: a run whose work the first round takes over as far as it fits. Later rounds take over what the round before has
    sampled from the base model. engine: as `run_recipe` has it. Raises MpoError as `run_recipe` does, and for a folder that holds another recipe's rounds.
    """
    folder = Path(output)
    if is_main():
        check_folder(recipe, RunFolder(folder))
        write_text(folder / "recipe.yaml", dump_recipe(recipe))
    barrier()
    for number in range(1, recipe.rounds + 1):
        say(f"round {number} of {recipe.rounds}")
        own = round_folder(folder, number)
        begun = RunFolder(own).recipe.exists()  # a round that is finished is left alone: it may be another account's
        taken_from = source if number == 1 else None if begun else round_folder(folder, number - 1)
        wanted = recipe_of_round(recipe, folder, number)
        if number > 1 and begun and RunFolder(own).start.exists():  # the folder may have had another path then
            wanted = wanted.model_copy(update={"start": read_recipe(RunFolder(own).recipe).start})
        run_recipe(wanted, own, repair=repair, source=taken_from, engine=engine)
    return RunFolder(round_folder(folder, recipe.rounds))


def recipe_of_round(recipe: Recipe, folder: Path, number: int) -> Recipe:
    """The recipe of one round, counted from 1: it starts from the round before, at seeds of its own."""
    start = recipe.start if number == 1 else str(round_folder(folder, number - 1))
    changes = {
        "rounds": 1,
        "start": start,
        "seed": recipe.seed + number - 1,
        "train": recipe.train.model_copy(update={"seed": recipe.train.seed + number - 1}),
    }
    return recipe.model_copy(update=changes)


def rounds_in(folder: Path) -> list[Path]:
    """The folders of a run in rounds, in order; none of any other run."""
    if not (folder / "recipe.yaml").is_file():
        return []
    folders = [round_folder(folder, number) for number in range(1, read_recipe(folder / "recipe.yaml").rounds + 1)]
    return [each for each in folders if each.is_dir()]
