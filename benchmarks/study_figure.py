"""The study's figure: how much more an arm gains than another, measure by measure, over the recorded repetitions.

    python -m benchmarks.study_figure --arms dominance total --output docs/images/study.png

Dots: the difference of each repetition; line: the mean's 95 % interval by Student's t. Right of zero the first arm is better.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks.study_record import RECORD, read_record, values_of
from mpo.comparison.repetitions import mean_of, paired_difference
from mpo.pages.figures import BASE, TUNED

# What is shown, and what the record calls it.
MEASURES = {
    "total": "total",
    "alignment": "alignment",
    "composition": "composition",
    "quality": "quality",
    "fidelity": "fidelity",
    "by the oracle": "oracle: total",
    "by another taste": "people's taste: total",
    "diversity kept": "diversity, tuned / base",
}


def draw(values: Mapping[str, np.ndarray], arms: Sequence[str]) -> Figure:
    """values: measure of the record -> (R, 2) of the two arms in R repetitions."""
    figure = Figure(figsize=(7.2, 3.2), facecolor="white")
    axes = figure.subplots()
    for y, rows in enumerate(values[measure] for measure in MEASURES.values()):
        gap = paired_difference(rows[:, 1], rows[:, 0])  # the first less the second
        axes.plot([gap.low, gap.high], [y, y], color=TUNED, linewidth=2.5, solid_capstyle="butt", zorder=2)
        axes.plot(gap.mean, y, "o", color=TUNED, markersize=7, zorder=3)
        axes.plot(
            rows[:, 0] - rows[:, 1], [y] * len(rows), "|", color=BASE, markersize=11, markeredgewidth=1.5, zorder=1
        )
        means = " and ".join(f"{mean_of(rows[:, k]).mean:.2f}" for k in (0, 1))
        axes.text(1.01, y, means, va="center", fontsize=8, transform=axes.get_yaxis_transform())
    axes.axvline(0, color="#444", linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(MEASURES)), list(MEASURES))
    axes.invert_yaxis()
    axes.set_xlabel(
        f"{arms[0]} less {arms[1]}: win rate over base, and diversity kept; {len(values['total'])} repetitions, 95 % interval"
    )
    axes.set_title(f"means: {arms[0]} and {arms[1]}", fontsize=8, loc="right")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", type=Path, default=RECORD)
    parser.add_argument("--arms", nargs=2, default=["dominance", "total"])
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    values = values_of(read_record(given.record), given.arms)
    if not values:
        parser.error(f"{given.record} has no repetition of both {' and '.join(given.arms)}")
    given.output.parent.mkdir(parents=True, exist_ok=True)
    draw(values, given.arms).savefig(given.output, dpi=144, bbox_inches="tight", metadata={"Software": None})


if __name__ == "__main__":
    main()
