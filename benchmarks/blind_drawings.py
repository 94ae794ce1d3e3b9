"""Pictures drawn for the blind examination, from signed distances: scenes, ornaments and shapes of a named vocabulary.

Shares no code with the pictures that set the judge's thresholds. Points are (x, y) in [0, 1], y downwards; a distance is
negative inside. Every picture is float pixels (S, S, 3) in [0, 1], with edges one pixel wide at any size S.
"""

import colorsys
from collections.abc import Callable

import numpy as np

Distance = np.ndarray  # (S, S), in sides
NAMED = {
    "red": (0.86, 0.10, 0.12), "orange": (0.98, 0.55, 0.08), "yellow": (0.97, 0.88, 0.16), "green": (0.12, 0.62, 0.20),
    "blue": (0.10, 0.30, 0.85), "purple": (0.55, 0.18, 0.68), "white": (0.98, 0.98, 0.98), "black": (0.05, 0.05, 0.06),
}  # fmt: skip


class Canvas:
    """A square picture that is painted on by distances."""

    def __init__(self, side: int, rgb):
        self.pixels = np.ones((side, side, 3)) * np.asarray(rgb, dtype=float)
        self.side = side
        self.y, self.x = (np.mgrid[:side, :side] + 0.5) / side

    def fill(self, distance: Distance, rgb, *, glow: float = 0.0) -> None:
        """Paint what lies inside; `glow` lightens it from the upper left by that share."""
        cover = np.clip(0.5 - distance * self.side, 0, 1)[..., None]
        inside = distance < 0
        light = np.ones_like(distance)
        if glow and inside.any():
            rise = -(self.x + self.y)
            low, high = rise[inside].min(), rise[inside].max()
            light = 1 - glow / 2 + glow * np.clip((rise - low) / max(high - low, 1e-9), 0, 1)
        self.pixels = np.clip(self.pixels * (1 - cover) + np.asarray(rgb) * light[..., None] * cover, 0, 1)

    def disc(self, x: float, y: float, radius: float) -> Distance:
        return np.hypot(self.x - x, self.y - y) - radius

    def ellipse(self, x: float, y: float, a: float, b: float, turn: float = 0.0) -> Distance:
        u, v = self._about(x, y, turn)
        return (np.hypot(u / a, v / b) - 1) * min(a, b)

    def box(self, x: float, y: float, half_width: float, half_height: float, turn: float = 0.0) -> Distance:
        u, v = self._about(x, y, turn)
        return np.maximum(np.abs(u) - half_width, np.abs(v) - half_height)

    def wedge(self, x: float, y: float, half_width: float, height: float) -> Distance:
        """A triangle with its tip up, at (x, y)."""
        u, v = self.x - x, self.y - y
        slope = np.hypot(height, half_width)
        return np.maximum((np.abs(u) * height - v * half_width) / slope, v - height)

    def petals(self, x: float, y: float, radius: float, count: int, depth: float = 0.45, turn: float = 0.0) -> Distance:
        u, v = self._about(x, y, turn)
        return np.hypot(u, v) - radius * (1 - depth + depth * np.abs(np.cos(np.arctan2(v, u) * count / 2)))

    def star(self, x: float, y: float, radius: float, turn: float = 0.0) -> Distance:
        """Five points, one of them up; the straight edges between tips and dents."""
        u, v = self._about(x, y, turn)
        angle = (np.arctan2(u, -v) + np.pi / 5) % (2 * np.pi / 5) - np.pi / 5
        p, q = np.hypot(u, v) * np.cos(angle), np.abs(np.hypot(u, v) * np.sin(angle))
        tip, dent = np.array([radius, 0]), 0.42 * radius * np.array([np.cos(np.pi / 5), np.sin(np.pi / 5)])
        normal = np.array([dent[1], tip[0] - dent[0]])
        return ((p - tip[0]) * normal[0] + q * normal[1]) / np.linalg.norm(normal)

    def heart(self, x: float, y: float, radius: float) -> Distance:
        """Two discs over a square on its corner."""
        lobe, drop = 0.52 * radius, 0.36 * radius
        left, right = (self.disc(x + way * 0.47 * radius, y - drop, lobe) for way in (-1, 1))
        u, v = (self.x - x + self.y - y - 0.02 * radius) / 2**0.5, (self.y - y - self.x + x - 0.02 * radius) / 2**0.5
        square = np.maximum(np.abs(u), np.abs(v)) - 0.66 * radius
        return np.minimum(np.minimum(left, right), np.maximum(square, y - drop - 0.05 * radius - self.y))

    def _about(self, x: float, y: float, turn: float) -> tuple[np.ndarray, np.ndarray]:
        u, v = self.x - x, self.y - y
        return u * np.cos(turn) + v * np.sin(turn), v * np.cos(turn) - u * np.sin(turn)


def hue(turn: float, saturation: float = 0.75, value: float = 0.9) -> tuple[float, float, float]:
    return colorsys.hsv_to_rgb(turn % 1, saturation, value)


def landscape(side: int, rng: np.random.Generator) -> np.ndarray:
    """Hills under a light sky, a sun, trees and a house."""
    art = Canvas(side, (0.55, 0.78, 0.96))
    art.pixels *= (0.9 + 0.25 * art.y)[..., None]
    art.fill(art.disc(rng.uniform(0.15, 0.85), 0.18, 0.09), (1.0, 0.93, 0.55))
    for depth, tone in ((0.5, hue(0.36, 0.35, 0.75)), (0.62, hue(0.31, 0.6, 0.7)), (0.76, hue(0.27, 0.7, 0.62))):
        ridge = depth + 0.05 * np.sin(2 * np.pi * (art.x * rng.uniform(0.8, 1.8) + rng.random()))
        art.fill(ridge - art.y, tone)
    for _ in range(6):
        x, y, size = rng.uniform(0.05, 0.95), rng.uniform(0.68, 0.85), rng.uniform(0.06, 0.1)
        art.fill(art.box(x, y + size, 0.012, size * 0.5), (0.36, 0.24, 0.14))
        art.fill(art.petals(x, y, size, 9, 0.2), hue(rng.uniform(0.22, 0.36), 0.7, 0.5), glow=0.5)
    x = rng.uniform(0.3, 0.7)
    art.fill(art.box(x, 0.74, 0.09, 0.07), (0.95, 0.9, 0.8), glow=0.2)
    art.fill(art.wedge(x, 0.56, 0.13, 0.115), hue(0.02, 0.75, 0.75))
    art.fill(art.box(x, 0.77, 0.02, 0.04), (0.4, 0.25, 0.15))
    return art.pixels


def flower(side: int, rng: np.random.Generator) -> np.ndarray:
    """One large blossom in a pot before a plain bright wall."""
    wall = rng.random()
    art = Canvas(side, hue(wall, rng.uniform(0.35, 0.6), 0.9))
    art.pixels *= (1.08 - 0.16 * art.y)[..., None]
    art.pixels = np.clip(art.pixels, 0, 1)
    x = rng.uniform(0.44, 0.56)
    art.fill(art.box(x, 0.66, 0.014, 0.18), (0.18, 0.5, 0.2))
    art.fill(art.ellipse(x + 0.08, 0.66, 0.08, 0.03, -0.5), (0.22, 0.6, 0.24), glow=0.4)
    art.fill(art.box(x, 0.88, 0.12, 0.07), hue(wall + 0.42, 0.7, 0.7), glow=0.5)
    art.fill(art.petals(x, 0.38, rng.uniform(0.2, 0.26), int(rng.integers(5, 10)), 0.4, rng.random()), hue(wall + rng.uniform(0.4, 0.6), 0.85, 0.95), glow=0.5)  # fmt: skip
    art.fill(art.disc(x, 0.38, 0.06), (0.98, 0.85, 0.25), glow=0.4)
    return art.pixels


def shoal(side: int, rng: np.random.Generator, num_fish: int = 14) -> np.ndarray:
    """Fish of many colours in light water."""
    art = Canvas(side, (0.45, 0.8, 0.88))
    art.pixels *= (1.1 - 0.3 * art.y)[..., None]
    for k in range(num_fish):
        across = int(np.ceil(num_fish**0.5))
        x = (k % across + rng.uniform(0.3, 0.7)) / across
        y = (k // across + rng.uniform(0.35, 0.65)) / max(1, -(-num_fish // across))
        size, way = 0.36 / across, rng.choice([-1, 1])
        tone = hue(rng.random(), 0.8, 0.95)
        u = (art.x - x) * way
        tail = np.maximum(np.abs(art.y - y) - (-u - size * 0.5) * 0.9, -u - size * 1.35)
        art.fill(np.maximum(tail, u + size * 0.4), tone)
        art.fill(art.ellipse(x, y, size, size * 0.55), tone, glow=0.4)
        art.fill(art.disc(x + way * size * 0.55, y - size * 0.12, size * 0.11), (0.05, 0.05, 0.08))
    return art.pixels


def town(side: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of houses with windows, roofs and doors."""
    art = Canvas(side, (0.72, 0.87, 0.97))
    for row, base in enumerate((0.52, 0.76, 1.0)):
        x = rng.uniform(-0.05, 0.0)
        while x < 1:
            width, height = rng.uniform(0.13, 0.2), rng.uniform(0.2, 0.28) + 0.04 * row
            tone = hue(rng.random(), rng.uniform(0.3, 0.75), rng.uniform(0.7, 0.95))
            art.fill(art.box(x + width / 2, base - height / 2, width / 2, height / 2), tone)
            art.fill(art.wedge(x + width / 2, base - height - 0.08, width * 0.56, 0.085), hue(rng.uniform(0, 0.1), 0.7, rng.uniform(0.35, 0.7)))  # fmt: skip
            for i in range(2):
                for j in range(3):
                    pane = rng.choice([0, 1])
                    art.fill(art.box(x + width * (0.3 + 0.4 * i), base - height + 0.045 + 0.06 * j, width * 0.1, 0.018), ((0.2, 0.25, 0.35), (0.98, 0.93, 0.6))[pane])  # fmt: skip
            x += width
    return art.pixels


def bottles(side: int, rng: np.random.Generator) -> np.ndarray:
    """A bottle and fruit on a table, with strong light and shade."""
    art = Canvas(side, hue(rng.random(), 0.3, 0.85))
    art.pixels *= np.clip(1.15 - 0.55 * art.x, 0, 1.1)[..., None]
    art.pixels = np.clip(art.pixels, 0, 1)
    art.fill(0.7 - art.y, (0.5, 0.33, 0.2))
    art.fill(art.ellipse(0.6, 0.84, 0.36, 0.04), (0.2, 0.13, 0.08))
    tone = hue(rng.uniform(0.3, 0.7), 0.8, 0.45)
    art.fill(art.box(0.36, 0.56, 0.09, 0.24), tone, glow=0.9)
    art.fill(art.box(0.36, 0.27, 0.03, 0.09), tone, glow=0.9)
    for x, turn in ((0.6, rng.uniform(0, 0.12)), (0.77, rng.uniform(0.12, 0.3))):
        art.fill(art.disc(x, 0.74, 0.1), hue(turn, 0.9, 0.95), glow=0.9)
        art.fill(art.disc(x - 0.035, 0.7, 0.018), (1, 1, 0.95))
    return art.pixels


def engraving(side: int, rng: np.random.Generator) -> np.ndarray:
    """Hills and a tree in fine hatching, as on a banknote: lines about a thirtieth of the side apart."""
    art = Canvas(side, (0.96, 0.94, 0.88))
    ink, pitch = hue(rng.random(), 0.6, 0.25), 1 / rng.uniform(24, 30)
    ridges = [
        0.35 + 0.15 * k + 0.05 * np.sin(2 * np.pi * (art.x * rng.uniform(0.7, 1.6) + rng.random())) for k in range(4)
    ]
    for k, ridge in enumerate(ridges):
        turn = rng.uniform(-0.9, 0.9)
        wave = art.x * np.sin(turn) + art.y * np.cos(turn) + 0.02 * np.sin(2 * np.pi * art.x * 3)
        line = (np.abs((wave / pitch) % 1 - 0.5) - 0.22) * pitch
        art.fill(ridge - art.y, (0.96, 0.94, 0.88))
        art.fill(np.maximum(ridge - art.y, line), ink)
        art.fill(np.abs(art.y - ridge) - 0.006, ink)
        if k == 2:
            x = rng.uniform(0.3, 0.7)
            crown = art.petals(x, 0.42, 0.2, 11, 0.25)
            rings = (np.abs((np.hypot(art.x - x, art.y - 0.42) / pitch) % 1 - 0.5) - 0.25) * pitch
            art.fill(crown, (0.96, 0.94, 0.88))
            art.fill(np.maximum(crown, rings), ink)
    return art.pixels


def ornament(side: int, rng: np.random.Generator) -> np.ndarray:
    """Rosettes and pillars, the right half the mirror image of the left."""
    base = rng.random()
    art = Canvas(side, hue(base, 0.35, 0.92))
    for radius in (0.4, 0.3, 0.2, 0.1):
        count = 2 * int(rng.integers(3, 7))
        art.fill(art.petals(0.5, 0.5, radius, count, 0.35), hue(base + rng.uniform(0.2, 0.8), 0.75, rng.uniform(0.5, 0.95)))  # fmt: skip
    for x in (0.07, 0.93):
        art.fill(art.box(x, 0.5, 0.03, 0.42), hue(base + 0.5, 0.6, 0.55))
    half = art.pixels[:, : (side + 1) // 2]
    return np.concatenate([half, half[:, : side // 2][:, ::-1]], axis=1)


def one_sided(side: int, rng: np.random.Generator) -> np.ndarray:
    """All that is shown stands in the left or the right third."""
    base, right = rng.random(), rng.random() < 0.5
    art = Canvas(side, hue(base, 0.25, 0.92))
    tone = hue(base + 0.5, 0.85, 0.45)
    x = 0.82 if right else 0.18
    for y, radius in ((0.22, 0.12), (0.5, 0.15), (0.8, 0.13)):
        art.fill(art.petals(x, y, radius, int(rng.integers(3, 8)), 0.3, rng.random()), tone)
    return art.pixels


def single(side: int, rng: np.random.Generator, *, radius: float = 0.27, contrast: float = 1.0) -> np.ndarray:
    """One flat leaf, drop or cross on a plain ground, no shading at all."""
    base = rng.random()
    art = Canvas(side, hue(base, 0.5, 0.85))
    tone = np.array(hue(base + 0.45, 0.85, 0.6)) * contrast + np.array(hue(base, 0.5, 0.85)) * (1 - contrast)
    x, y = rng.uniform(0.46, 0.54, 2)
    match int(rng.integers(4)):
        case 0:
            art.fill(art.ellipse(x, y, radius, radius * 0.7, rng.random()), tone)
        case 1:
            art.fill(np.minimum(art.box(x, y, radius, radius * 0.36), art.box(x, y, radius * 0.36, radius)), tone)
        case 2:
            art.fill(art.petals(x, y, radius * 1.1, 4, 0.4, 0.3), tone)
        case _:
            art.fill(np.minimum(art.wedge(x, y - radius * 1.1, radius * 0.75, radius), art.ellipse(x, y + radius * 0.2, radius * 0.77, radius * 0.7)), tone)  # fmt: skip
    return art.pixels


def empty(side: int, rng: np.random.Generator) -> np.ndarray:
    """A plain ground."""
    return Canvas(side, hue(rng.random(), rng.uniform(0, 0.8), rng.uniform(0.3, 0.95))).pixels


def horizon(side: int, rng: np.random.Generator) -> np.ndarray:
    """A wide gradient without a thing in it."""
    art = Canvas(side, (0.6, 0.75, 0.9))
    art.pixels = np.clip(np.array(hue(rng.random(), 0.3, 0.85)) * (0.94 + 0.12 * art.y)[..., None], 0, 1)
    return art.pixels


def debris(pixels: np.ndarray, rng: np.random.Generator, count: int = 70) -> np.ndarray:
    """Splinters of all colours over a picture."""
    art = Canvas(pixels.shape[0], (0, 0, 0))
    art.pixels = pixels.copy()
    for _ in range(count):
        x, y = rng.uniform(0.02, 0.98, 2)
        art.fill(art.box(x, y, rng.uniform(0.012, 0.03), rng.uniform(0.01, 0.022), rng.uniform(0, np.pi)), hue(rng.random(), 0.8, rng.uniform(0.1, 1)))  # fmt: skip
    return art.pixels


def shown(side: int, ground: str, ink: str, shape: str, count: int, rng: np.random.Generator) -> np.ndarray:
    """One, two or three equal shapes of the alignment vocabulary on a plain ground, a little shaded."""
    art = Canvas(side, np.array(NAMED[ground]) * rng.uniform(0.94, 1.0))
    radius = {1: 0.25, 2: 0.17, 3: 0.125}[count] * rng.uniform(0.9, 1.1)
    for k in range(count):
        x = 0.5 if count == 1 else 0.5 + (k - (count - 1) / 2) * {2: 0.46, 3: 0.32}[count]
        y = 0.5 + rng.uniform(-0.03, 0.03)
        match shape:
            case "circle":
                distance = art.disc(x, y, radius)
            case "ring":
                distance = np.maximum(art.disc(x, y, radius), -art.disc(x, y, radius * 0.54))
            case "square":
                distance = art.box(x, y, radius * 0.85, radius * 0.85, rng.normal(0, 0.06))
            case "triangle":
                distance = art.wedge(x, y - radius, radius, radius * 1.75)
            case "star":
                distance = art.star(x, y, radius * 1.1, rng.normal(0, 0.06))
            case _:
                distance = art.heart(x, y, radius)
        art.fill(distance, NAMED[ink], glow=0.15)
    return art.pixels


SCENES: dict[str, Callable[[int, np.random.Generator], np.ndarray]] = {
    each.__name__: each for each in (landscape, flower, shoal, town, bottles)
}
