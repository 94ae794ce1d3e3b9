"""Figures of the pages, as inline SVG: the same bytes for the same data."""

import io

import matplotlib
from matplotlib.figure import Figure

BASE, TUNED = "#8a94a6", "#2563a8"


matplotlib.rcParams.update(
    {"svg.hashsalt": "mpo", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
)


def svg(figure: Figure) -> str:
    """A figure as inline SVG, the same bytes for the same data."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    return buffer.getvalue()[buffer.getvalue().index("<svg") :]
