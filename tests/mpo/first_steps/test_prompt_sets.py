import pyarrow as pa
import pyarrow.parquet
import pytest

from mpo import MpoError
from mpo.data.prompts import read_prompt_sets
from mpo.first_steps.answers import Answers
from mpo.first_steps.new_recipe import new_recipe

SDXL = "stabilityai/stable-diffusion-xl-base-1.0"


def write(path, num: int, noun: str = "cat") -> str:
    path.write_text("".join(f"{noun} number {k} on a roof\n" for k in range(num)), "utf-8")
    return str(path)


def made(prompts: str, heldout: str | None = None, model: str = SDXL):
    return new_recipe(Answers("own", model, prompts, heldout, "pickscore", 24.0)).recipe


def sizes(recipe) -> tuple[int, ...]:
    """Of the training, held-out and validation prompts; near-duplicates stay, since these all are."""
    return tuple(map(len, read_prompt_sets(recipe.prompts.model_copy(update={"max_similarity": None}))))


def test_a_file_is_split_into_sets_that_share_no_prompt(tmp_path):
    """A fifth of few is held out and a tenth validates; of many, a tenth and a twentieth."""
    assert sizes(made(write(tmp_path / "few.txt", 100))) == (70, 20, 10)
    assert sizes(made(write(tmp_path / "many.txt", 2000))) == (1700, 200, 100)


def test_so_few_prompts_that_none_validate(tmp_path):
    """A tenth of 50 would be 5. A recipe without such prompts has no validation either."""
    recipe = made(write(tmp_path / "few.txt", 50))
    assert sizes(recipe) == (40, 10, 0)
    assert recipe.validation is None
    assert sizes(made(write(tmp_path / "two.txt", 2))) == (1, 1, 0)


def test_held_out_prompts_of_their_own(tmp_path):
    recipe = made(write(tmp_path / "own.txt", 100), write(tmp_path / "other.txt", 30, "dog"))
    assert sizes(recipe) == (90, 30, 10)


def test_one_prompt_cannot_be_split(tmp_path):
    with pytest.raises(MpoError, match=r"--prompts=.* holds one prompt; give at least two, or others in --heldout"):
        made(write(tmp_path / "one.txt", 1))


def test_as_many_prompts_as_the_shipped_recipe_takes(tmp_path):
    """SDXL's takes 512 held-out prompts and 128 for validation."""
    recipe = made(write(tmp_path / "own.txt", 8000))
    assert sizes(recipe) == (6800, 512, 128)


def test_the_column_of_a_table(tmp_path):
    table = pa.table({"caption": [f"cat {k}" for k in range(20)], "id": list(range(20))})
    pyarrow.parquet.write_table(table, tmp_path / "cats.parquet")
    assert sizes(made(str(tmp_path / "cats.parquet"))) == (16, 4, 0)
    pyarrow.parquet.write_table(table.rename_columns(["words", "id"]), tmp_path / "other.parquet")
    with pytest.raises(MpoError, match=r"--prompts=.*other.parquet' has no column 'prompt'; it has: words, id"):
        made(str(tmp_path / "other.parquet"))


def test_prompts_of_the_hub_are_named_and_not_read():
    """Their number is not known, so held-out prompts stay the shipped recipe's, and so does training."""
    recipe = made("someone/prompts")
    assert recipe.prompts.train is not None
    assert (recipe.prompts.train.path, recipe.prompts.train.limit) == ("someone/prompts", 35000)
    assert recipe.prompts.heldout.path == "partiprompts"
    assert recipe.train.num_steps == 3000


def test_a_file_that_is_not_there():
    with pytest.raises(MpoError, match=r"--prompts='absent.txt' does not exist"):
        made("absent.txt")
