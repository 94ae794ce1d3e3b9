"""What makes a recipe fit a memory, and what is said of it; FLUX.1 and SDXL from the table of published models."""

import re

import pytest
import yaml
from typer.testing import CliRunner

from benchmarks.fit_table import large_recipes, table
from mpo import MpoError
from mpo.cli import app
from mpo.first_steps.pricing import fitted_here
from mpo.planning.fit import LESS_MEMORY, with_changes
from mpo.planning.judges import judge_gb, quantized_gb
from mpo.planning.plan import plan
from mpo.planning.words import fitted
from mpo.recipe import Recipe, load_recipe, parse_recipe, read_recipe, recipes_folder


def peak(recipe: Recipe) -> float:
    return max(step.memory_gb or 0.0 for step in plan(recipe).steps)


@pytest.mark.parametrize(
    ("name", "size_gb"), [("flux-dev", 12.0), ("flux-dev", 16.0), ("flux-dev", 24.0), ("sdxl", 12.0)]
)
def test_a_fitted_recipe_fits_and_nothing_is_changed_in_vain(name, size_gb):
    recipe = load_recipe(name)
    found, words = fitted(recipe, size_gb)
    assert peak(found) <= size_gb < peak(recipe)
    [fitting] = plan(recipe, sizes_gb=[size_gb]).fittings
    assert len(words.splitlines()) == 1 + len(fitting.changes)
    for change in fitting.changes:
        fewer = [other for other in fitting.changes if other != change]
        assert peak(with_changes(recipe, fewer)) > size_gb
    assert parse_recipe(found.model_dump(mode="json"), source="fitted") == found


def test_each_change_says_what_it_saves_and_what_it_costs():
    """FLUX.1 on 12 GB: its blocks come and go. 11,837 million parameters in 2 bytes, of which the largest block's 340 stay."""
    _, words = fitted(load_recipe("flux-dev"), 12.0)
    line = next(line for line in words.splitlines() if "model.offload=blocks: " in line)
    saved = (11_837 - 339.83) * 2e-3  # and of the text encoders and the autoencoder, which wait as well
    assert float(line.split("saves ")[1].split(" GB")[0]) > saved
    # 28 forwards of a candidate bring 23.7 GB each at 25 GB/s, four candidates at a time.
    batch = load_recipe("flux-dev").generate
    assert batch is not None
    hours = [
        plan(r).steps[0].gpu_hours or 0.0 for r in (load_recipe("flux-dev"), fitted(load_recipe("flux-dev"), 12.0)[0])
    ]
    brought = 12_000 / batch.batch_size * 28 * 11_837 * 2e-3 / 25 / 3600
    assert hours[1] - hours[0] == pytest.approx(brought, rel=1e-3)
    assert f"generate {hours[1] / hours[0]:.2g} times as long" in line


@pytest.mark.parametrize("before", [None, "8bit"])
def test_a_judge_in_four_bits_takes_the_same_whatever_it_took_before(before):
    settings = [f"judge.options.quantization={before}"] if before else []
    recipe = load_recipe("sdxl", settings)
    in_four = with_changes(recipe, [("judge", "options.quantization", "4bit")])
    before_gb, after_gb = ([judge_gb(judging, None, []) for judging in each.judge] for each in (recipe, in_four))
    assert [quantized_gb(in_four, recipe, before_gb)] == pytest.approx(after_gb)


def test_what_cannot_fit_is_refused_in_one_line():
    with pytest.raises(
        MpoError, match=r"^--fit=12 GB: too small, train takes \d+ GB even with .*; give smaller"
    ) as error:
        fitted(load_recipe("wan22-5b"), 12.0)
    named = re.findall(r"[\w.]+(?==)", str(error.value).partition("even with ")[2])
    assert len(named) == len(set(named)), "a setting is named as it ends"
    with pytest.raises(MpoError, match=r"--fit=auto: there is no GPU here"):
        fitted_here(load_recipe("sdxl"), "auto")
    with pytest.raises(MpoError, match=r"--fit='large' is no size; give one such as 24GB, or auto"):
        fitted_here(load_recipe("sdxl"), "large")


def test_checkpointing_stays_where_blocks_come_and_go():
    """A recipe without it would be refused, however little it saves."""
    recipe = load_recipe("flux-dev", ["train.gradient_checkpointing=false", "model.sizes=[[256, 256]]"])
    only = [s.field for s in LESS_MEMORY if s.field not in ("model.offload", "train.gradient_checkpointing")]
    found, _ = fitted(recipe, 16.0, without=[f for f in only if not f.startswith(("judge", "train.micro"))])
    assert (found.model.offload, found.train.gradient_checkpointing) == ("blocks", True)


def test_a_fitted_run_holds_its_settings(fields, tmp_path):
    """`mpo run --fit` on a small model that fits anywhere, and at a size that only a change reaches."""
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(fields), "utf-8")
    arguments = ["run", str(tmp_path / "small.yaml"), "--output", str(tmp_path / "run"), "--until", "generate"]
    recipe = parse_recipe(fields, source="small")
    needed = peak(recipe)
    result = CliRunner().invoke(app, [*arguments, "--fit", f"{needed - 1e-6:.7f}"])
    assert result.exit_code == 0, result.output
    held = read_recipe(tmp_path / "run" / "recipe.yaml")
    assert held != recipe
    assert peak(held) < needed
    assert "saves" in result.output


def test_the_guide_has_what_is_computed():
    """The command's first lines, and the table of all shipped recipes: what they need on 12 to 80 GB."""
    guide = (recipes_folder().parent / "docs" / "guides" / "small-cards.md").read_text("utf-8")
    _, words = fitted_here(load_recipe("flux-dev"), "12GB")
    assert f"```text\n{words}\n```" in guide
    assert f"\n{table(large_recipes())}\n" in guide
