"""The study's figure: how much more an arm gains than another, measure by measure, over repetitions.

    python -m benchmarks.study_figure STUDY --arms dominance total --output docs/images/study.png

Dots: the difference of each repetition; line: the mean's 95 % interval by Student's t. Right of zero the first arm is better.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from mpo.comparison.repetitions import mean_of, paired_difference
from mpo.pages.figures import BASE, TUNED
from mpo.run_folder.paths import RunFolder

# What is shown: a name, and its place in summary.json.
MEASURES = {
    "total": ("total", "win_rate"),
    "alignment": ("dimensions", "alignment", "win_rate"),
    "composition": ("dimensions", "composition", "win_rate"),
    "quality": ("dimensions", "quality", "win_rate"),
    "fidelity": ("dimensions", "fidelity", "win_rate"),
    "by the oracle": ("judges", 0, "total", "win_rate"),
    "by another taste": ("judges", 1, "total", "win_rate"),
    "diversity kept": ("guards", "diversity", "ratio"),
}


def values_of(study: Path, arms: Sequence[str]) -> dict[str, np.ndarray]:
    """Measure -> (R, 2) of the repetitions in which both arms are finished."""
    found: dict[str, list[list[float]]] = {name: [] for name in MEASURES}
    for folder in sorted(study.glob("repetition-*")):
        runs = [RunFolder(folder / "runs" / arm) for arm in arms]
        if not all(run.report.is_file() for run in runs):
            continue
        summaries = [json.loads(run.summary.read_text("utf-8")) for run in runs]
        for name, place in MEASURES.items():
            row = []
            for value in summaries:
                for part in place:
                    value = value[part]
                row.append(value)
            found[name].append(row)
    return {name: np.array(rows) for name, rows in found.items()}


def draw(values: dict[str, np.ndarray], arms: Sequence[str]) -> Figure:
    figure = Figure(figsize=(7.2, 3.2), facecolor="white")
    axes = figure.subplots()
    for y, (_, rows) in enumerate(values.items()):
        gap = paired_difference(rows[:, 1], rows[:, 0])  # the first less the second
        axes.plot([gap.low, gap.high], [y, y], color=TUNED, linewidth=2.5, solid_capstyle="butt", zorder=2)
        axes.plot(gap.mean, y, "o", color=TUNED, markersize=7, zorder=3)
        axes.plot(
            rows[:, 0] - rows[:, 1], [y] * len(rows), "|", color=BASE, markersize=11, markeredgewidth=1.5, zorder=1
        )
        means = " and ".join(f"{mean_of(rows[:, k]).mean:.2f}" for k in (0, 1))
        axes.text(1.01, y, means, va="center", fontsize=8, transform=axes.get_yaxis_transform())
    axes.axvline(0, color="#444", linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(values)), list(values))
    axes.invert_yaxis()
    count = len(next(iter(values.values())))
    axes.set_xlabel(
        f"{arms[0]} less {arms[1]}: win rate over base, and diversity kept; {count} repetitions, 95 % interval"
    )
    axes.set_title(f"means: {arms[0]} and {arms[1]}", fontsize=8, loc="right")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--arms", nargs=2, default=["dominance", "total"])
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    given.output.parent.mkdir(parents=True, exist_ok=True)
    values = values_of(given.study, given.arms)
    draw(values, given.arms).savefig(given.output, dpi=144, bbox_inches="tight", metadata={"Software": None})


if __name__ == "__main__":
    main()
