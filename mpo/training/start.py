"""The LoRA that a run starts from: a recipe's `start`, a finished run or a file that training wrote."""

from pathlib import Path

from safetensors import SafetensorError, safe_open

from mpo import MpoError
from mpo.recipe import Recipe, read_recipe, refuse_rounds
from mpo.run_folder.paths import RunFolder
from mpo.training.checkpoint_files import result_file


def start_file(start: str) -> Path:
    """The LoRA that a recipe's `start` names. Raises MpoError if there is none."""
    if start.endswith(".safetensors") and Path(start).is_file():
        return Path(start)
    run = RunFolder(start)
    if run.recipe.is_file():
        refuse_rounds(read_recipe(run.recipe), run.folder)
    if not run.trained.is_file():
        raise MpoError(f"start={start!r} is no run that has been trained, and no .safetensors file; name one")
    return result_file(run)


def check_start(recipe: Recipe) -> None:
    """Raises MpoError if there is no such LoRA, or if it has another rank or, of a run, another alpha than the recipe.

    Of a file alone the alpha is not known: it is taken to be the recipe's.
    """
    assert recipe.start is not None
    file, run = start_file(recipe.start), RunFolder(recipe.start)
    try:
        with safe_open(file, framework="pt") as held:
            names = [name for name in held.keys() if name.endswith(".lora_A.weight")]  # noqa: SIM118  no mapping
            ranks = {held.get_slice(name).get_shape()[0] for name in names}
    except (OSError, SafetensorError) as error:
        raise MpoError(f"start={recipe.start!r}: {file} cannot be read ({error}); name another") from None
    wrong = next(iter(ranks - {recipe.train.rank}), None)
    if wrong is not None:
        raise MpoError(
            f"start={recipe.start!r} has a LoRA of rank {wrong}, and train.rank is {recipe.train.rank}; give the same"
        )
    alpha = read_recipe(run.recipe).train.alpha if run.recipe.is_file() else recipe.train.alpha
    if alpha != recipe.train.alpha:
        raise MpoError(
            f"start={recipe.start!r} was trained with alpha {alpha:g}, and train.alpha is {recipe.train.alpha:g}; give the same"
        )
