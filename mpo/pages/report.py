"""The page of a run: self-contained HTML that shows what the run did."""

from importlib import resources
from typing import Any

import jinja2
import numpy as np
from matplotlib.figure import Figure

from mpo import __version__
from mpo.comparison.win_rates import opinions, read_evaluation
from mpo.pages.cards import heldout_cards, pair_cards
from mpo.pages.figures import BASE, TUNED, svg
from mpo.recipe import Recipe, dump_recipe, read_recipe
from mpo.run_folder.files import read_json, read_lines
from mpo.run_folder.media import SUFFIX
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import read_selection, read_table
from mpo.training.objectives import METHODS
from mpo.training.validation import Validated, read_validations
from reward import Scores


def render(run: RunFolder) -> str:
    """A finished run -> the page's HTML."""
    recipe = read_recipe(run.recipe)
    rows, scores, summary = read_evaluation(run)
    kind = scores.checklist.kind
    selection = read_selection(run)
    trained = read_json(run.trained)
    metrics = [m for m in read_lines(run.training_log) if m["step"] <= trained["last_step"]]  # later ones are not used
    validated = [v for v in read_validations(run) if v.step <= trained["last_step"]]
    prompts = {row["prompt_id"]: row["prompt"] for row in read_table(run.heldout_prompts, made_by="run").to_pylist()}
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(resources.files("mpo.pages").joinpath("report.html.j2").read_text("utf-8"))
    return template.render(
        version=__version__,
        recipe=recipe,
        recipe_yaml=dump_recipe(recipe),
        summary=summary,
        selection=selection,
        checklist=scores.checklist,
        win_rates=_win_rates(summary),
        opinions=opinions(summary),
        training=_training_curves(metrics, recipe),
        validation=_validation_curve(validated) if recipe.validation else "",
        num_validated=len(list((run.validation / "step-000000").glob(f"*{SUFFIX[kind]}"))),
        made={"image": "picture", "video": "clip"}[kind],
        trained=trained,
        method=METHODS[recipe.train.objective],
        scores_picture=_score_shift(scores),
        pair_cards=pair_cards(run, recipe),
        heldout_cards=heldout_cards(run, rows, scores, prompts),
        num_seeds=recipe.evaluate.num_seeds,
        decimals=decimals(scores.checklist.divisor),
    )


def decimals(divisor: float) -> int:
    """Digits to show of a score, so that scores that are not a tie look different."""
    return 2 + max(0, int(np.ceil(np.log10(divisor))))


def _win_rates(summary: dict[str, Any]) -> str:
    entries = [("total", summary["total"]), *summary["dimensions"].items()]
    figure = Figure(figsize=(6.4, 0.5 + 0.42 * len(entries)))
    axes = figure.subplots()
    for y, (_, entry) in enumerate(entries):
        low, high = entry["ci95"]
        axes.plot([low, high], [y, y], color=TUNED, linewidth=2, solid_capstyle="butt")
        axes.plot(entry["win_rate"], y, "o", color=TUNED, markersize=7)
        axes.text(1.02, y, f"{entry['win_rate']:.2f}", va="center", transform=axes.get_yaxis_transform())
    axes.axvline(0.5, color="#444", linewidth=0.8, linestyle="--")
    axes.set(
        xlim=(0, 1),
        ylim=(len(entries) - 0.5, -0.5),
        xlabel="win rate of tuned over base, ties as half, with 95 % interval",
    )
    axes.set_yticks(range(len(entries)), [name.replace("_", " ") for name, _ in entries])
    return svg(figure)


# The loss of an untrained LoRA, for objectives where it does not depend on the model.
START = {"dpo": float(np.log(2)), "ipo": 0.25, "hinge": 1.0, "mapo": None}


def _validation_curve(validated: list[Validated]) -> str:
    figure = Figure(figsize=(6.4, 2.1))
    axes = figure.subplots()
    axes.plot([v.step for v in validated], [v.total for v in validated], "o-", color=TUNED, markersize=4)
    axes.axhline(validated[0].total, color="#444", linewidth=0.8, linestyle="--")
    axes.set(xlabel="step", ylabel="mean total score")
    return svg(figure)


def _training_curves(metrics: list[dict[str, float]], recipe: Recipe) -> str:
    start = None if recipe.train.sft_weight else START[recipe.train.objective]
    steps = np.array([m["step"] for m in metrics])
    figure = Figure(figsize=(9.6, 2.3))
    shown = (
        ("loss", "loss", start),
        ("accuracy", "implicit accuracy", 0.5),
        ("margin", "implicit reward margin", 0.0),
        ("grad_norm", "gradient norm", None),
    )
    for axes, (key, title, level) in zip(figure.subplots(1, 4), shown, strict=True):
        values = np.array([m[key] for m in metrics])
        window = max(1, len(values) // 20)
        smooth = np.convolve(values, np.ones(window) / window, mode="valid")
        axes.plot(steps, values, color=BASE, linewidth=0.7, alpha=0.7)
        axes.plot(steps[window - 1 :], smooth, color=TUNED, linewidth=1.6)
        if level is not None:
            axes.axhline(level, color="#444", linewidth=0.8, linestyle="--")
        axes.set(title=title, xlabel="step")
    figure.tight_layout()
    return svg(figure)


def _score_shift(scores: Scores) -> str:
    base, tuned = np.split(scores.total, 2)
    figure = Figure(figsize=(6.4, 2.1))
    axes = figure.subplots()
    bins = np.histogram_bin_edges(scores.total, bins=32).tolist()
    axes.hist(base, bins=bins, color=BASE, alpha=0.75, label="base")
    axes.hist(tuned, bins=bins, color=TUNED, alpha=0.6, label="tuned")
    axes.set(xlabel="total score", ylabel="samples")
    axes.legend(frameon=False)
    return svg(figure)
