"""The page of a study: arms side by side, self-contained HTML."""

import re
from importlib import resources
from pathlib import Path

import jinja2
import numpy as np
from matplotlib.figure import Figure

from mpo import __version__
from mpo.comparison.repetitions import Row, Study
from mpo.pages.figures import BASE, TUNED, svg
from mpo.run_folder.files import write_text


def write_study(study: Study, page: Path) -> None:
    """The page's HTML, whole or not at all."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(resources.files("mpo.pages").joinpath("study.html.j2").read_text("utf-8"))
    write_text(
        page, template.render(study=study, version=__version__, figure=_means(study), isfinite=np.isfinite, named=_name)
    )


def _means(study: Study) -> str:
    """Each measure's mean and interval, an arm below the other."""
    arms = len(study.arms)
    figure = Figure(figsize=(7.2, 0.6 + len(study.rows) * (0.2 + 0.16 * arms)))
    axes = figure.subplots()
    for place, row in enumerate(study.rows):
        for arm, mean in enumerate(row.means):
            y = place + (arm + 0.5) / (arms + 1) - 0.5
            colour = BASE if arm == 0 else TUNED
            if mean.count > 1:
                axes.plot([mean.low, mean.high], [y, y], color=colour, linewidth=2, solid_capstyle="butt")
            axes.plot(mean.mean, y, "o", color=colour, markersize=5)
            axes.text(1.01, y, study.letters[arm], va="center", fontsize=7, transform=axes.get_yaxis_transform())
    axes.set_ylim(len(study.rows) - 0.5, -0.5)
    axes.set_yticks(range(len(study.rows)), [_name(row) for row in study.rows])
    axes.grid(axis="x", linewidth=0.4)
    axes.set_xlabel("mean over repetitions, with 95 % interval")
    return svg(figure)


def _name(row: Row) -> str:
    """A measure for people; a judge of one's own, MODULE:CLASS, by its class."""
    return re.sub(r"^[\w.]+:(\w+): ", r"\1: ", row.measure).replace("_", " ")
