"""The README's picture: a training pair with what it gains in each dimension, and base beside tuned.

    python -m benchmarks.picture runs/quickstart --output docs/images/quickstart.png

The pair is the first that gains a tenth or more in three dimensions, or else the first. Held-out samples are evenly spaced over those that
are no tie; each says who won.
"""

import argparse
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mpo.comparison.win_rates import MODELS
from mpo.pages.data import page_data
from mpo.pages.figures import BASE, TUNED
from mpo.run_folder.media import read_pixels
from mpo.run_folder.paths import RunFolder

NUM_HELDOUT = 7
VERDICTS = {1: "tuned wins", 0.5: "tie", 0: "base wins"}
WORTH_SEEING = 0.1  # of a dimension's score


def draw(run: RunFolder) -> Figure:
    data = page_data(run)
    pair = next((p for p in data["pairs"] if min(p["margins"][:3]) >= WORTH_SEEING), data["pairs"][0])
    figure = Figure(figsize=(9, 5.2), facecolor="white")
    grid = figure.add_gridspec(2, 1, height_ratios=[1, 1.35], hspace=0.42)
    _draw_pair(figure, grid[0], run, data, pair)
    _draw_heldout(figure, grid[1], run, data)
    return figure


def _draw_pair(figure: Figure, place: Any, run: RunFolder, data: dict, pair: dict) -> None:
    cells = place.subgridspec(1, 4, width_ratios=[1, 1, 0.55, 1.9], wspace=0.06)
    for column, role in enumerate(("rejected", "chosen")):
        sample = data["samples"][pair[role]]
        axes = figure.add_subplot(cells[column])
        _show(axes, run.folder / sample["file"])
        axes.set_title(f"{role}, score {sample['total']:.2f}", fontsize=9)
    axes = figure.add_subplot(cells[3])
    names, values = data["checklist"]["dimensions"], pair["margins"]
    axes.barh(range(len(names)), values, color=TUNED, height=0.5)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.axvline(0, color="#444", linewidth=0.8)
    axes.set_xlim(min(0, *values), max(values) * 1.25)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    for y, value in enumerate(values):
        axes.text(value + 0.02 * max(values), y, f"{value:+.2f}", va="center", fontsize=9)
    axes.set_title(f'"{data["prompts"][pair["prompt"]]}":\nno dimension of the chosen is worse', fontsize=9, loc="left")


def _draw_heldout(figure: Figure, place: Any, run: RunFolder, data: dict) -> None:
    rows = [row for row in data["result"]["heldout"] if row["outcome"] != 0.5] or data["result"]["heldout"]
    shown = [rows[k] for k in np.linspace(0, len(rows) - 1, NUM_HELDOUT).round().astype(int)]
    cells = place.subgridspec(2, len(shown), wspace=0.04, hspace=0.04)
    for column, row in enumerate(shown):
        for line, model in enumerate(MODELS):
            axes = figure.add_subplot(cells[line, column])
            _show(axes, run.folder / row[model]["file"])
            if not column:
                axes.set_ylabel(model, fontsize=10, color=TUNED if line else BASE, fontweight="bold")
            if not line:
                axes.set_title("\n".join(textwrap.wrap(row["prompt"], 17)), fontsize=7.5)
            else:
                axes.set_xlabel(VERDICTS[row["outcome"]], fontsize=8)


def _show(axes: Any, file: Path) -> None:
    axes.imshow(read_pixels(file), interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    given.output.parent.mkdir(parents=True, exist_ok=True)
    draw(RunFolder(given.run)).savefig(given.output, dpi=144, bbox_inches="tight", metadata={"Software": None})


if __name__ == "__main__":
    main()
