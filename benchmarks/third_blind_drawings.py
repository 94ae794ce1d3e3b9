"""Pictures drawn for the third blind examination, by matplotlib: edges at all angles, for a judge of smears and mosaics.

Shares no code with the drawings of the other sets. Points are (x, y) in [0, 1], y upwards. Every picture is float pixels
(S, S, 3) in [0, 1], drawn at its own size with smooth edges.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Ellipse, Polygon
from scipy.spatial import Voronoi

Pixels = np.ndarray  # (S, S, 3) in [0, 1]
Colour = Sequence[float] | np.ndarray  # red, green, blue in [0, 1]
_DPI = 100
_WORDS = ("NORTH", "fair", "Opus 9", "2031", "quay", "ZEBRA", "&", "mild", "Rex", "half", "WIND", "a b c")


def _painted(side: int, paint: Callable[[Axes], None], ground: Colour) -> Pixels:
    """What `paint` draws on axes from 0 to 1 that fill the picture."""
    figure = Figure(figsize=(side / _DPI, side / _DPI), dpi=_DPI)
    canvas, axes = FigureCanvasAgg(figure), figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.axis("off")
    red, green, blue = ground
    figure.set_facecolor((red, green, blue))
    paint(axes)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba(), dtype=float)[..., :3] / 255


def _points(side: int, share: float) -> float:
    """Width of a line in points that takes this share of the side."""
    return share * side / _DPI * 72


def _palette(rng: np.random.Generator) -> Callable[[], tuple[float, ...]]:
    """Bright colours, one after the other, of a scheme of its own for each picture."""
    scheme = colormaps[str(rng.choice(["Set1", "Dark2", "tab10", "Accent", "Set2"]))]
    return lambda: tuple(scheme(int(rng.integers(scheme.N)))[:3])


def poster(side: int, rng: np.random.Generator) -> Pixels:
    """Words of all sizes at all angles on light paper, between coloured discs."""
    ink = _palette(rng)

    def paint(axes: Axes) -> None:
        for _ in range(6):
            axes.add_patch(Circle((rng.random(), rng.random()), rng.uniform(0.05, 0.16), color=ink()))
        for word in rng.permutation(_WORDS)[:9]:
            x, y = rng.uniform(0.15, 0.85, 2)
            axes.text(x, y, word, rotation=rng.uniform(0, 360), fontsize=_points(side, rng.uniform(0.09, 0.2)), fontweight="bold",
                      color=rng.uniform(0, 0.35, 3), ha="center", va="center")  # fmt: skip

    return _painted(side, paint, rng.uniform(0.86, 1, 3))


def gears(side: int, rng: np.random.Generator) -> Pixels:
    """Toothed wheels with hubs, each turned by some angle."""
    ink = _palette(rng)

    def paint(axes: Axes) -> None:
        for _ in range(7):
            x, y, radius, teeth = *rng.random(2), rng.uniform(0.1, 0.24), int(rng.integers(9, 18))
            turns = rng.random() + np.arange(4 * teeth) * np.pi / 2 / teeth
            away = radius * np.where(np.arange(4 * teeth) % 4 < 2, 1, 0.82)
            axes.add_patch(Polygon(np.stack([x + away * np.cos(turns), y + away * np.sin(turns)], 1), color=ink()))
            axes.add_patch(Circle((x, y), radius * 0.5, color=ink()))
            axes.add_patch(Circle((x, y), radius * 0.18, color=rng.uniform(0, 0.3, 3)))

    return _painted(side, paint, rng.uniform(0.7, 0.95, 3))


def leaves(side: int, rng: np.random.Generator) -> Pixels:
    """Fallen leaves with veins, all over."""

    def paint(axes: Axes) -> None:
        for _ in range(40):
            (x, y), turn, length = rng.random(2), rng.uniform(0, np.pi), rng.uniform(0.16, 0.3)
            rgb = np.array(colormaps["autumn" if rng.random() < 0.7 else "summer"](rng.random())[:3]) * rng.uniform(
                0.5, 0.95
            )
            axes.add_patch(Ellipse((x, y), length, length * 0.45, angle=float(np.rad2deg(turn)), facecolor=rgb, edgecolor=rgb * 0.4, lw=_points(side, 0.006)))  # fmt: skip
            dx, dy = np.array([np.cos(turn), np.sin(turn)]) * length / 2
            axes.plot([x - dx, x + dx], [y - dy, y + dy], color=rgb * 0.4, lw=_points(side, 0.008))

    return _painted(side, paint, rng.uniform(0.1, 0.3, 3))


def harbour(side: int, rng: np.random.Generator) -> Pixels:
    """Sailing boats on a wavy sea under a sky that gets lighter downwards."""
    ink = _palette(rng)

    def paint(axes: Axes) -> None:
        axes.imshow(np.linspace(0.25, 0.6, 64)[:, None], cmap="Blues_r", vmin=0, vmax=1, extent=(0, 1, 0.4, 1), aspect="auto", interpolation="bilinear")  # fmt: skip
        axes.add_patch(Circle((rng.uniform(0.15, 0.85), 0.83), 0.08, color="gold"))
        axes.add_patch(Polygon([(0, 0), (1, 0), (1, 0.42), (0, 0.42)], color="steelblue"))
        x = np.linspace(0, 1, 200)
        for y in np.linspace(0.05, 0.38, 6):
            axes.plot(
                x, y + 0.015 * np.sin(x * rng.uniform(30, 50) + y * 40), color="aliceblue", lw=_points(side, 0.008)
            )
        for x0 in (0.22, 0.52, 0.8):
            y0, size = rng.uniform(0.18, 0.36), rng.uniform(0.7, 1.1)
            at = lambda dx, dy: (x0 + dx * size, y0 + dy * size)  # noqa: E731, B023
            axes.add_patch(Polygon([at(0.005, 0.05), at(0.005, 0.42), at(0.15, 0.08)], color=ink()))
            axes.add_patch(Polygon([at(-0.01, 0.07), at(-0.01, 0.36), at(-0.1, 0.09)], color="white"))
            axes.add_patch(Polygon([at(-0.13, 0.05), at(0.17, 0.05), at(0.1, -0.04), at(-0.07, -0.04)], color=ink()))

    return _painted(side, paint, (0.6, 0.8, 0.95))


def faces(side: int, rng: np.random.Generator) -> Pixels:
    """Four drawn faces with hats."""
    ink = _palette(rng)

    def paint(axes: Axes) -> None:
        for x, y in ((0.26, 0.26), (0.74, 0.26), (0.26, 0.74), (0.74, 0.74)):
            x, y = x + rng.uniform(-0.03, 0.03), y + rng.uniform(-0.04, 0.0)
            axes.add_patch(Circle((x, y), 0.17, facecolor=np.array([1, 0.82, 0.66]) * rng.uniform(0.6, 1), edgecolor="black", lw=_points(side, 0.01)))  # fmt: skip
            axes.add_patch(
                Polygon([(x - 0.17, y + 0.1), (x + 0.17, y + 0.1), (x + rng.uniform(-0.1, 0.1), y + 0.27)], color=ink())
            )
            for dx in (-0.065, 0.065):
                axes.add_patch(Circle((x + dx, y + 0.03), 0.035, color="white"))
                axes.add_patch(Circle((x + dx + rng.uniform(-0.01, 0.01), y + 0.03), 0.017, color="black"))
            smile = np.linspace(np.pi * 1.15, np.pi * 1.85, 30)
            axes.plot(
                x + 0.09 * np.cos(smile), y - 0.01 + 0.09 * np.sin(smile), color="firebrick", lw=_points(side, 0.018)
            )

    return _painted(side, paint, ink())


def fireworks(side: int, rng: np.random.Generator) -> Pixels:
    """Bursts of bright rays and sparks above dark roofs."""

    def paint(axes: Axes) -> None:
        for _ in range(6):
            (x, y), reach, rgb = rng.uniform(0.1, 0.9, 2), rng.uniform(0.12, 0.26), colormaps["hsv"](rng.random())[:3]
            for turn in rng.random() + np.arange(16) * np.pi / 8:
                dx, dy = reach * np.cos(turn), reach * np.sin(turn)
                axes.plot(
                    [x + 0.3 * dx, x + dx],
                    [y + 0.3 * dy, y + dy],
                    color=rgb,
                    lw=_points(side, 0.014),
                )
                axes.add_patch(Circle((x + 1.15 * dx, y + 1.15 * dy), 0.012, color="lightyellow"))
        for left in np.arange(0, 1, 0.2):
            top = rng.uniform(0.08, 0.16)
            axes.add_patch(Polygon([(left, 0), (left + 0.18, 0), (left + 0.18, top), (left + 0.09, top + 0.08), (left, top)], color="slategray"))  # fmt: skip

    return _painted(side, paint, (0.03, 0.03, 0.12))


def stained_glass(side: int, rng: np.random.Generator) -> Pixels:
    """Coloured panes between strips of lead."""
    panes = Voronoi(rng.uniform(-0.3, 1.3, (110, 2)))
    ink = _palette(rng)

    def paint(axes: Axes) -> None:
        for region in panes.regions:
            if region and -1 not in region:
                axes.add_patch(Polygon(panes.vertices[region], facecolor=ink(), edgecolor=(0.1, 0.1, 0.1), lw=_points(side, 0.016)))  # fmt: skip

    return _painted(side, paint, (0.1, 0.1, 0.1))


def blinds(side: int, rng: np.random.Generator) -> Pixels:
    """Parallel slats at some angle, and a cup before them: most edges run one way."""
    turn, ink = rng.uniform(0, np.pi), _palette(rng)
    along, across = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])

    def paint(axes: Axes) -> None:
        for k in np.arange(-0.8, 0.8, 0.1):
            middle = np.array([0.5, 0.5]) + k * across
            axes.add_patch(Polygon([middle - along, middle + along, middle + along + 0.055 * across, middle - along + 0.055 * across], color=slat))  # fmt: skip
        axes.add_patch(Polygon([(0.3, 0.66), (0.66, 0.66), (0.58, 0.2), (0.38, 0.2)], color=cup))
        axes.add_patch(Circle((0.68, 0.48), 0.1, fill=False, edgecolor=cup, lw=_points(side, 0.04)))

    slat, cup = np.array(ink()) * 0.7, np.array(ink())
    return _painted(side, paint, rng.uniform(0.8, 1, 3))


SCENES: Mapping[str, Callable[[int, np.random.Generator], Pixels]] = {
    paint.__name__: paint for paint in (poster, gears, leaves, harbour, faces, fireworks, stained_glass, blinds)
}
