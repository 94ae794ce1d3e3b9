"""Reading prompt files."""

from mpo import MpoError
from mpo.recipe import Recipe, find_prompts


def read_prompts(file: str, *, field: str) -> list[str]:
    """The lines of a UTF-8 text file, blank ones left out. Raises MpoError naming field, file and remedy."""
    path = find_prompts(file)
    if not path.is_file():
        raise MpoError(f"{field}={file!r} does not exist; give a text file with one prompt a line")
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise MpoError(f"{field}={file!r} is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    prompts = [line.strip() for line in text.splitlines() if line.strip()]
    if not prompts:
        raise MpoError(f"{field}={file!r} holds no prompt; write one prompt a line")
    repeated = len(prompts) - len(set(prompts))
    if repeated:
        raise MpoError(
            f"{field}={file!r} repeats {repeated} prompts; remove the repetitions, for example with `sort -u`"
        )
    return prompts


def read_prompt_sets(recipe: Recipe) -> tuple[list[str], list[str]]:
    """Training and held-out prompts, which must not share any."""
    train = read_prompts(recipe.prompts.train, field="prompts.train")
    heldout = read_prompts(recipe.prompts.heldout, field="prompts.heldout")
    shared = set(train) & set(heldout)
    if shared:
        raise MpoError(
            f"prompts.heldout={recipe.prompts.heldout!r} shares {len(shared)} prompts with prompts.train, such as {min(shared)!r}; remove them from either"
        )
    return train, heldout
