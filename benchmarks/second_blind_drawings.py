"""Pictures drawn for the second blind examination: fractal noise, a polygon pen and shaded bodies.

Shares no code with the pictures of the first (`blind_drawings`) or with those that set the judge's thresholds. Points are
(x, y) in [0, 1], y downwards. Every picture is float pixels (S, S, 3) in [0, 1]; edges are smooth at any size S, since
polygons are painted at three times the size and averaged.
"""

import colorsys
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw

Pixels = np.ndarray  # (S, S, 3) in [0, 1]
Colour = Sequence[float] | np.ndarray  # red, green, blue in [0, 1]
_FINER = 3
NAMED: dict[str, Colour] = {
    "red": (0.80, 0.08, 0.16), "orange": (0.96, 0.50, 0.06), "yellow": (0.95, 0.85, 0.12), "green": (0.10, 0.55, 0.26),
    "blue": (0.08, 0.27, 0.76), "purple": (0.47, 0.14, 0.62), "white": (0.96, 0.96, 0.95), "black": (0.07, 0.06, 0.06),
}  # fmt: skip


def tone(turn: float, saturation: float, value: float) -> Colour:
    return colorsys.hsv_to_rgb(turn % 1, saturation, value)


def fractal(side: int, rng: np.random.Generator, slope: float = 2.0) -> np.ndarray:
    """(S, S) in [0, 1]: random phases under a spectrum that falls as frequency ** -slope; seamless at the borders."""
    fx, fy = np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side))
    frequency = np.hypot(fx, fy)
    frequency[0, 0] = np.inf
    phases = np.exp(2j * np.pi * rng.random((side, side)))
    field = np.fft.ifft2(frequency**-slope * phases).real
    return (field - field.min()) / np.ptp(field)


def blend(share: np.ndarray, first: Colour, second: Colour) -> Pixels:
    """`first` where the share (S, S) is 0, `second` where it is 1."""
    return (1 - share[..., None]) * np.asarray(first) + share[..., None] * np.asarray(second)


class Pen:
    """Polygons, ellipses and lines over a picture; what was painted becomes pixels by `pixels`."""

    def __init__(self, ground: Pixels):
        self.side = len(ground) * _FINER
        image = Image.fromarray((np.clip(ground, 0, 1) * 255).round().astype(np.uint8))
        self.image = image.resize((self.side, self.side), Image.Resampling.BILINEAR)
        self.to = ImageDraw.Draw(self.image)

    @staticmethod
    def ink(rgb: Colour) -> tuple[int, ...]:
        return tuple(int(np.clip(v, 0, 1) * 255 + 0.5) for v in rgb)

    def polygon(self, points, rgb: Colour) -> None:
        self.to.polygon([(x * self.side, y * self.side) for x, y in points], fill=self.ink(rgb))

    def box(self, left: float, top: float, right: float, bottom: float, rgb: Colour) -> None:
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], rgb)

    def oval(self, x: float, y: float, a: float, b: float, rgb: Colour) -> None:
        self.to.ellipse([(x - a) * self.side, (y - b) * self.side, (x + a) * self.side, (y + b) * self.side], fill=self.ink(rgb))  # fmt: skip

    def line(self, points, width: float, rgb: Colour) -> None:
        thick = max(_FINER, round(width * self.side))
        self.to.line([(x * self.side, y * self.side) for x, y in points], fill=self.ink(rgb), width=thick, joint="curve")  # fmt: skip

    def pixels(self) -> Pixels:
        small = self.image.resize((self.side // _FINER, self.side // _FINER), Image.Resampling.BOX)
        return np.asarray(small, dtype=float) / 255


def grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    y, x = (np.mgrid[:side, :side] + 0.5) / side
    return x, y


def ball(pixels: Pixels, x: float, y: float, radius: float, rgb: Colour, *, ambient: float = 0.35) -> None:
    """A matt ball lit from the upper left, with a highlight, painted into the pixels in place."""
    u, v = grid(len(pixels))
    u, v = (u - x) / radius, (v - y) / radius
    depth = np.sqrt(np.clip(1 - u**2 - v**2, 0, 1))
    lambert = np.clip(-0.5 * u - 0.6 * v + 0.62 * depth, 0, 1)
    lit = np.asarray(rgb) * (ambient + (1 - ambient) * lambert)[..., None] + 0.5 * (lambert**30)[..., None]
    cover = np.clip((1 - np.hypot(u, v)) * radius * len(pixels) + 0.5, 0, 1)[..., None]
    pixels[:] = np.clip(pixels * (1 - cover) + lit * cover, 0, 1)


def soft_shadow(pixels: Pixels, x: float, y: float, a: float, b: float, depth: float) -> None:
    u, v = grid(len(pixels))
    pixels *= (1 - depth * np.exp(-(((u - x) / a) ** 2) - ((v - y) / b) ** 2))[..., None]


# Scenes


def coast(side: int, rng: np.random.Generator) -> Pixels:
    """Clouds, mountains, a bright sea with sailing boats, a beach."""
    _, y = grid(side)
    art = blend(np.clip(y / 0.55, 0, 1), (0.25, 0.55, 0.93), (0.78, 0.9, 0.98))
    cloud = np.clip((fractal(side, rng, 2.1) - 0.52) * 5, 0, 1) * np.clip(1.3 - y / 0.42, 0, 1)
    art = art * (1 - cloud[..., None]) + cloud[..., None]
    pen = Pen(art)
    for level, rgb in ((0.4, tone(rng.uniform(0.55, 0.66), 0.35, 0.75)), (0.46, tone(rng.uniform(0.3, 0.4), 0.55, 0.6))):  # fmt: skip
        steps = np.linspace(0, 1, 24)
        heights = level - 0.12 * np.abs(np.sin(steps * rng.uniform(5, 9) + rng.uniform(0, 6))) - rng.uniform(0, 0.03, 24)  # fmt: skip
        pen.polygon([(0, 0.6), *zip(steps, heights, strict=True), (1, 0.6)], rgb)
    pen.box(0, 0.52, 1, 1, (0.06, 0.5, 0.72))
    for _ in range(40):
        left, top = rng.uniform(0, 1), 0.53 + 0.3 * rng.random()
        pen.line([(left, top), (left + 0.05 + 0.1 * (top - 0.5), top)], 0.006, (0.45, 0.82, 0.92))
    shore = 0.84 + 0.04 * np.sin(np.linspace(0, 5, 30) + rng.uniform(0, 6))
    pen.polygon([(0, 1), *zip(np.linspace(0, 1, 30), shore, strict=True), (1, 1)], (0.97, 0.86, 0.6))
    for k in range(3):
        boat, foot, size = 0.2 + 0.3 * k + rng.uniform(-0.08, 0.08), rng.uniform(0.58, 0.78), rng.uniform(0.09, 0.14)
        pen.polygon([(boat - size * 0.6, foot), (boat + size * 0.6, foot), (boat + size * 0.35, foot + size * 0.3), (boat - size * 0.35, foot + size * 0.3)], tone(rng.random(), 0.8, 0.65))  # fmt: skip
        pen.polygon([(boat, foot - size * 1.4), (boat, foot - 0.01), (boat - size * 0.6, foot - 0.01)], (0.99, 0.99, 0.97))  # fmt: skip
        pen.polygon([(boat + 0.01, foot - size * 1.2), (boat + 0.01, foot - 0.01), (boat + size * 0.5, foot - 0.01)], tone(rng.random(), 0.8, 0.95))  # fmt: skip
    return pen.pixels()


def room(side: int, rng: np.random.Generator) -> Pixels:
    """A furnished room in one-point perspective."""
    wall = rng.random()
    pen = Pen(np.ones((side, side, 3)) * tone(wall, 0.3, 0.92))
    far = (0.28, 0.25, 0.72, 0.66)
    pen.polygon([(0, 0), (far[0], far[1]), (far[0], far[3]), (0, 1)], tone(wall, 0.4, 0.8))
    pen.polygon([(1, 0), (far[2], far[1]), (far[2], far[3]), (1, 1)], tone(wall, 0.36, 0.86))
    pen.polygon([(0, 0), (1, 0), (far[2], far[1]), (far[0], far[1])], (0.97, 0.95, 0.9))
    for k in range(12):
        near = [(k / 12, 1), ((k + 1) / 12, 1)]
        away = [(far[0] + (far[2] - far[0]) * (k + 1) / 12, far[3]), (far[0] + (far[2] - far[0]) * k / 12, far[3])]
        pen.polygon([*near, *away], tone(0.07, 0.55, 0.55 + 0.3 * rng.random()))
    pen.polygon([(0.28, 0.93), (0.72, 0.93), (0.64, 0.75), (0.36, 0.75)], tone(wall + 0.5, 0.75, 0.7))
    pen.polygon([(0.34, 0.9), (0.66, 0.9), (0.6, 0.78), (0.4, 0.78)], tone(wall + 0.55, 0.6, 0.95))
    pen.box(0.36, 0.3, 0.55, 0.5, (0.98, 0.98, 0.98))
    pen.box(0.375, 0.315, 0.45, 0.485, (0.5, 0.78, 0.98))
    pen.box(0.46, 0.315, 0.535, 0.485, (0.55, 0.82, 0.98))
    pen.box(0.58, 0.36, 0.68, 0.66, tone(rng.random(), 0.6, 0.5))
    for k in range(5):
        pen.box(0.59, 0.375 + 0.056 * k, 0.67, 0.415 + 0.056 * k, tone(rng.random(), 0.7, 0.9))
    for near, off in ((0.06, 0.3), (0.15, 0.32)):
        pen.polygon([(near, off), (near + 0.06, off + 0.02), (near + 0.06, off + 0.2), (near, off + 0.23)], tone(rng.random(), 0.7, 0.85))  # fmt: skip
    pen.polygon([(0.8, 0.62), (0.98, 0.66), (0.98, 0.94), (0.8, 0.8)], tone(wall + 0.33, 0.65, 0.7))
    pen.line([(0.5, 0.0), (0.5, 0.13)], 0.008, (0.2, 0.2, 0.2))
    pen.polygon([(0.46, 0.13), (0.54, 0.13), (0.58, 0.2), (0.42, 0.2)], (0.98, 0.85, 0.35))
    return pen.pixels()


def quilt(side: int, rng: np.random.Generator, across: int = 5) -> Pixels:
    """Patchwork: squares of stripes, dots, checks and triangles in bright colours."""
    pen, size = Pen(np.ones((side, side, 3)) * 0.95), 1 / across
    for row in range(across):
        for column in range(across):
            left, top, base = column * size, row * size, rng.random()
            light, dark = tone(base, 0.35, 0.97), tone(base + rng.uniform(0.3, 0.7), 0.8, 0.75)
            pen.box(left, top, left + size, top + size, light)
            match int(rng.integers(4)):
                case 0:
                    for k in range(3):
                        pen.box(left + size * (k + 0.2) / 3, top, left + size * (k + 0.7) / 3, top + size, dark)
                case 1:
                    for k in range(9):
                        pen.oval(left + size * (k % 3 + 0.5) / 3, top + size * (k // 3 + 0.5) / 3, size / 9, size / 9, dark)  # fmt: skip
                case 2:
                    for k in range(16):
                        if (k + k // 4) % 2:
                            pen.box(left + size * (k % 4) / 4, top + size * (k // 4) / 4, left + size * (k % 4 + 1) / 4, top + size * (k // 4 + 1) / 4, dark)  # fmt: skip
                case _:
                    pen.polygon([(left, top), (left + size, top), (left, top + size)], dark)
    for k in range(1, across):
        pen.line([(k * size, 0), (k * size, 1)], 0.012, (0.99, 0.98, 0.94))
        pen.line([(0, k * size), (1, k * size)], 0.012, (0.99, 0.98, 0.94))
    return pen.pixels()


def portrait(side: int, rng: np.random.Generator) -> Pixels:
    """Head and shoulders before a light wall, the right half the mirror image of the left."""
    base = rng.random()
    x, y = grid(side)
    pen = Pen(blend(np.hypot(x - 0.5, y - 0.4) / 0.8, tone(base, 0.3, 0.97), tone(base, 0.5, 0.8)))
    skin, hair = tone(0.07, rng.uniform(0.3, 0.6), rng.uniform(0.6, 0.95)), tone(0.06, 0.6, rng.uniform(0.12, 0.4))
    pen.oval(0.5, 0.39, 0.25, 0.3, hair)
    pen.polygon([(0.5 - 0.36, 1.01), (0.5 - 0.3, 0.8), (0.42, 0.72), (0.58, 0.72), (0.8, 0.8), (0.86, 1.01)], tone(base + 0.45, 0.8, 0.7))  # fmt: skip
    pen.polygon([(0.42, 0.6), (0.58, 0.6), (0.6, 0.74), (0.5, 0.84), (0.4, 0.74)], [v * 0.88 for v in skin])
    pen.oval(0.5, 0.43, 0.19, 0.25, skin)
    pen.polygon([(0.31, 0.36), (0.34, 0.22), (0.5, 0.16), (0.66, 0.22), (0.69, 0.36), (0.6, 0.27), (0.5, 0.255), (0.4, 0.27)], hair)  # fmt: skip
    for way in (-1, 1):
        pen.oval(0.5 + way * 0.085, 0.41, 0.042, 0.024, (0.98, 0.98, 0.97))
        pen.oval(0.5 + way * 0.085, 0.41, 0.02, 0.022, (0.12, 0.2, 0.3))
        pen.line([(0.5 + way * 0.04, 0.365), (0.5 + way * 0.13, 0.362)], 0.014, hair)
    pen.polygon([(0.5, 0.43), (0.53, 0.52), (0.47, 0.52)], [v * 0.8 for v in skin])
    pen.oval(0.5, 0.585, 0.06, 0.02, (0.72, 0.2, 0.22))
    art = pen.pixels()
    return mirrored(art * (1 - 0.3 * (x - 0.5) ** 2)[..., None])


def mirrored(pixels: Pixels) -> Pixels:
    """The left half, and its mirror image for the right."""
    side = pixels.shape[1]
    half = pixels[:, : (side + 1) // 2]
    return np.concatenate([half, half[:, : side // 2][:, ::-1]], axis=1)


def skyline(side: int, rng: np.random.Generator) -> Pixels:
    """High-rise buildings with lit fronts and windows in three rows."""
    _, y = grid(side)
    pen = Pen(blend(y, (0.35, 0.62, 0.95), (0.98, 0.9, 0.78)))
    for low, bottom in ((0.15, 0.7), (0.35, 0.87), (0.55, 1.0)):
        left = -rng.uniform(0, 0.06)
        while left < 1:
            width, top = rng.uniform(0.1, 0.17), low + rng.uniform(0, 0.18)
            base, value = rng.random(), rng.uniform(0.6, 0.95)
            pen.box(left, top, left + width * 0.7, bottom, tone(base, 0.5, value))
            pen.box(left + width * 0.7, top, left + width, bottom, tone(base, 0.55, value * 0.6))
            rows = int((bottom - top) / 0.05)
            for row in range(rows):
                for column in range(3):
                    pane = ((0.12, 0.18, 0.3), (1.0, 0.94, 0.65))[int(rng.integers(2))]
                    at, high = left + width * (0.06 + 0.21 * column), top + 0.015 + 0.05 * row
                    pen.box(at, high, at + width * 0.14, high + 0.028, pane)
            left += width
    return pen.pixels()


def still_life(side: int, rng: np.random.Generator) -> Pixels:
    """Four fruits and a jug on a cloth, with soft shadows."""
    x, y = grid(side)
    base = rng.random()
    art = blend(np.clip(x * 0.7 + y * 0.3, 0, 1), tone(base, 0.25, 0.98), tone(base, 0.4, 0.7))
    table = np.clip((y - 0.62) * side + 0.5, 0, 1)[..., None]
    cloth = np.array(tone(base + 0.5, 0.45, 0.9)) * (0.85 + 0.15 * (np.sin(x * 50) > 0))[..., None]
    art = art * (1 - table) + cloth * table
    soft_shadow(art, 0.42, 0.78, 0.25, 0.05, 0.6)
    u, v = (x - 0.3), (y - 0.52)
    profile = 0.12 + 0.05 * np.cos((v + 0.05) * 9)
    body = np.clip((profile - np.abs(u)) * side + 0.5, 0, 1) * np.clip((0.27 - np.abs(v)) * side + 0.5, 0, 1)
    shade = np.clip(0.95 - 3.2 * np.clip(u + 0.04, 0, 1), 0.25, 1)
    art = art * (1 - body[..., None]) + body[..., None] * np.array(tone(base + 0.25, 0.7, 0.85)) * shade[..., None]
    for at, foot, size in ((0.58, 0.68, 0.13), (0.8, 0.72, 0.12), (0.47, 0.8, 0.11), (0.69, 0.83, 0.11)):
        soft_shadow(art, at + 0.07, foot + size * 0.9, size * 1.1, size * 0.3, 0.65)
        ball(art, at, foot, size, tone(rng.choice([0.0, 0.03, 0.08, 0.14, 0.27, 0.95]), 0.85, 0.95))
    return art


def street_map(side: int, rng: np.random.Generator, across: int = 9) -> Pixels:
    """A town from above, as a map: blocks of houses, streets, parks, a river, a railway."""
    pen = Pen(np.ones((side, side, 3)) * (0.99, 0.97, 0.9))
    turn, size = rng.uniform(-0.5, 0.5), 1.5 / across
    c, s = np.cos(turn), np.sin(turn)
    place = lambda u, v: (0.5 + c * u - s * v, 0.5 + s * u + c * v)  # noqa: E731
    for row in range(across):
        for column in range(across):
            u, v = -0.75 + column * size, -0.75 + row * size
            gap = size * rng.uniform(0.08, 0.14)
            corners = [(u + gap, v + gap), (u + size - gap, v + gap), (u + size - gap, v + size - gap), (u + gap, v + size - gap)]  # fmt: skip
            if rng.random() < 0.15:
                pen.polygon([place(*p) for p in corners], (0.6, 0.85, 0.5))
                continue
            pen.polygon([place(*p) for p in corners], tone(0.08, rng.uniform(0.15, 0.4), 0.9))
            for k in range(9):
                a, b = u + gap + (size - 2 * gap) * (k % 3 + 0.15) / 3, v + gap + (size - 2 * gap) * (k // 3 + 0.15) / 3
                w, h = size * rng.uniform(0.12, 0.19), size * rng.uniform(0.12, 0.19)
                pen.polygon([place(a, b), place(a + w, b), place(a + w, b + h), place(a, b + h)], tone(rng.choice([0.02, 0.06, 0.6]), 0.5, 0.6))  # fmt: skip
    path = np.linspace(-0.1, 1.1, 40)
    bend = 0.5 + 0.22 * np.sin(path * rng.uniform(3, 6) + rng.uniform(0, 6))
    pen.line(list(zip(path, bend, strict=True)), 0.07, (0.35, 0.65, 0.92))
    rail = rng.uniform(0.2, 0.8)
    pen.line([(rail, -0.1), (1 - rail, 1.1)], 0.014, (0.15, 0.15, 0.17))
    return pen.pixels()


def bookshelf(side: int, rng: np.random.Generator, shelves: int = 5) -> Pixels:
    """Shelves crammed with books and knick-knacks of all colours."""
    pen, high = Pen(np.ones((side, side, 3)) * (0.3, 0.19, 0.11)), 1 / shelves
    for row in range(shelves):
        left, foot = 0.01, (row + 1) * high - 0.02
        while left < 0.97:
            if rng.random() < 0.1:
                size = high * rng.uniform(0.25, 0.32)
                pen.oval(left + size, foot - size, size, size, tone(rng.random(), 0.7, 0.95))
                pen.oval(left + size * 0.7, foot - size * 1.3, size * 0.3, size * 0.3, (1, 1, 0.95))
                left += 2 * size + 0.005
                continue
            width, top = rng.uniform(0.025, 0.055), foot - high * rng.uniform(0.55, 0.85)
            base = rng.random()
            pen.box(left, top, left + width, foot, tone(base, rng.uniform(0.3, 0.85), rng.uniform(0.45, 0.95)))
            pen.box(left, top + high * 0.12, left + width, top + high * 0.17, tone(base + 0.5, 0.5, 0.95))
            pen.box(left, foot - high * 0.16, left + width, foot - high * 0.12, tone(base + 0.5, 0.5, 0.95))
            pen.line([(left, top), (left, foot)], 0.003, (0.1, 0.06, 0.04))
            left += width
        pen.box(0, foot, 1, foot + 0.02, (0.55, 0.36, 0.2))
    return pen.pixels()


def lace(side: int, rng: np.random.Generator) -> Pixels:
    """Fine rosettes of thin lines about one middle, the right half the mirror image of the left."""
    ink, paper = tone(rng.random(), 0.75, 0.3), (0.98, 0.97, 0.93)
    pen = Pen(np.ones((side, side, 3)) * paper)
    around = np.linspace(0, 2 * np.pi, 361)
    for ring in range(7):
        petals, middle = 6 + 3 * ring, 0.06 + 0.06 * ring
        for phase in (0, np.pi):
            reach = middle + 0.035 * np.cos(petals * around + phase)
            pen.line(list(zip(0.5 + reach * np.sin(around), 0.5 - reach * np.cos(around), strict=True)), 0.006, ink)
        for k in range(2 * petals):
            angle = k * np.pi / petals
            at, foot = 0.5 + (middle + 0.03) * np.sin(angle), 0.5 - (middle + 0.03) * np.cos(angle)
            pen.oval(at, foot, 0.008, 0.008, ink)
    for edge in np.linspace(0.02, 0.98, 25):
        for other in (0.03, 0.97):
            pen.oval(edge, other, 0.013, 0.013, ink)
            pen.oval(other, edge, 0.013, 0.013, ink)
    return mirrored(pen.pixels())


def contours(side: int, rng: np.random.Generator) -> Pixels:
    """Level lines of fractal land, coloured by height: thin lines, some thirty of them; for sides of 192 or more."""
    height = fractal(side, rng, 3.2)
    level = height * rng.uniform(26, 34)
    slope = np.maximum(np.hypot(np.gradient(level, axis=0), np.gradient(level, axis=1)), 1e-6)
    near = np.abs(level - np.round(level)) / slope  # pixels to the next line
    line = np.clip(1.3 * max(1, side / 256) - near, 0, 1) * np.clip(1.6 - 2.2 * slope, 0, 1)
    art = blend(height, (0.55, 0.8, 0.5), (0.98, 0.93, 0.75))
    return art * (1 - line[..., None]) + line[..., None] * np.array((0.4, 0.22, 0.1))


def butterfly(side: int, rng: np.random.Generator) -> Pixels:
    """A butterfly with spotted wings, the right half the mirror image of the left."""
    base = rng.random()
    _, y = grid(side)
    pen = Pen(blend(y, tone(base + 0.4, 0.2, 0.98), tone(base + 0.4, 0.4, 0.88)))
    for points, turn in (
        (((0.49, 0.52), (0.12, 0.12), (0.04, 0.3), (0.1, 0.5), (0.3, 0.58)), 0.0),
        (((0.49, 0.5), (0.2, 0.58), (0.14, 0.78), (0.28, 0.9), (0.42, 0.76)), rng.uniform(0.05, 0.15)),
    ):
        pen.polygon(points, (0.08, 0.06, 0.1))
        middle = np.mean(points, axis=0)
        pen.polygon([middle + 0.86 * (np.array(p) - middle) for p in points], tone(base + turn, 0.85, 0.95))
        for k in range(3):
            at, foot = middle + (np.array(points[k + 1]) - middle) * 0.55
            pen.oval(at, foot, 0.035, 0.035, tone(base + 0.5, 0.7, 0.95))
            pen.oval(at, foot, 0.015, 0.015, (0.08, 0.06, 0.1))
    pen.oval(0.5, 0.55, 0.025, 0.24, (0.15, 0.1, 0.08))
    pen.line([(0.5, 0.34), (0.42, 0.16)], 0.01, (0.15, 0.1, 0.08))
    return mirrored(pen.pixels())


def lone(side: int, rng: np.random.Generator, *, x: float = 0.5, size: float = 1.0, strength: float = 1.0) -> Pixels:
    """One flat thing on a plain ground: a vase, a leaf, a house, a cup; smaller, aside or fainter if wanted."""
    base = rng.random()
    ground = np.array(tone(base, rng.uniform(0.15, 0.45), 0.93))
    rgb = ground * (1 - strength) + np.array(tone(base + rng.uniform(0.35, 0.65), 0.85, rng.uniform(0.35, 0.7))) * strength  # fmt: skip
    pen = Pen(np.ones((side, side, 3)) * ground)
    v = np.linspace(-1, 1, 60)
    match int(rng.integers(4)):
        case 0:
            reach = 0.13 + 0.09 * np.cos(2.4 * (v - 0.35))
            outline = [*zip(reach, 0.32 * v, strict=True), *zip(-reach[::-1], 0.32 * v[::-1], strict=True)]
        case 1:
            reach = 0.2 * (1 - v**2)
            outline = [*zip(reach, 0.36 * v, strict=True), *zip(-reach[::-1], 0.36 * v[::-1], strict=True)]
        case 2:
            outline = [(0, -0.34), (0.28, -0.08), (0.22, -0.08), (0.22, 0.3), (-0.22, 0.3), (-0.22, -0.08), (-0.28, -0.08)]  # fmt: skip
        case _:
            outline = [(-0.24, -0.24), (0.24, -0.24), (0.24, -0.14), (0.34, -0.14), (0.34, 0.08), (0.22, 0.08), (0.16, 0.28), (-0.16, 0.28)]  # fmt: skip
    pen.polygon([(x + size * p, 0.5 + size * q) for p, q in outline], rgb)
    return pen.pixels()


def beside(side: int, rng: np.random.Generator) -> Pixels:
    """A dark tower at the very left or right before an empty sky."""
    base = rng.random()
    _, y = grid(side)
    pen = Pen(blend(y, tone(base, 0.2, 0.97), tone(base, 0.3, 0.9)))
    left = 0.02 if rng.random() < 0.5 else 0.66
    pen.box(left, 0.25, left + 0.32, 1, tone(base + 0.5, 0.7, 0.4))
    pen.polygon([(left - 0.02, 0.25), (left + 0.16, 0.06), (left + 0.34, 0.25)], tone(base + 0.55, 0.8, 0.3))
    for k in range(8):
        at, top = left + 0.06 + 0.12 * (k % 2), 0.32 + 0.16 * (k // 2)
        pen.box(at, top, at + 0.07, top + 0.09, (0.98, 0.93, 0.6))
    return pen.pixels()


def lamplight(side: int, rng: np.random.Generator, *, ambient: float = 0.02) -> Pixels:
    """Balls and a column in a beam of light, all else nearly black; much ambient light takes the shade away."""
    x, y = grid(side)
    rgb = np.array(tone(rng.random(), 0.25, 1.0))
    beam = np.clip((0.12 - np.abs((x - y * 0.35) - rng.uniform(0.1, 0.4))) * side / 8 + 0.5, 0, 1)
    light = ambient + (1 - ambient) * beam
    art = rgb * 0.9 * light[..., None]
    floor = np.clip((y - 0.72) * side + 0.5, 0, 1)[..., None]
    art = art * (1 - 0.35 * floor * (1 - ambient))
    column = rng.uniform(0.7, 0.85)
    inside = np.clip((0.09 - np.abs(x - column)) * side + 0.5, 0, 1) * np.clip((0.9 - y) * side + 0.5, 0, 1)
    lit = ambient + (1 - ambient) * np.clip(1 - np.abs((x - column + 0.06) / 0.09), 0, 1)
    art = art * (1 - inside[..., None]) + inside[..., None] * 0.95 * lit[..., None] * np.array(tone(rng.random(), 0.3, 1.0))  # fmt: skip
    for at, foot, size in ((0.28, 0.74, 0.2), (0.55, 0.82, 0.13)):
        ball(art, at + rng.uniform(-0.04, 0.04), foot, size, tone(rng.random(), 0.4, 1.0), ambient=ambient)
    return np.clip(art, 0, 1)


def overcast(side: int, rng: np.random.Generator) -> Pixels:
    """The same bodies where light comes from everywhere: no shade, and all of them as light as the ground."""
    art = np.ones((side, side, 3)) * 0.62
    pen = Pen(art)
    for at, foot, size in ((0.28, 0.6, 0.2), (0.62, 0.66, 0.16)):
        pen.oval(at, foot, size, size, [v + 0.62 - 0.6 for v in (0.6, 0.6 + rng.uniform(-0.02, 0.02), 0.58)])
    return pen.pixels()


def expanse(side: int, rng: np.random.Generator) -> Pixels:
    """One plain colour."""
    return np.ones((side, side, 3)) * tone(rng.random(), rng.uniform(0, 0.7), rng.uniform(0.35, 0.95))


def mist(side: int, rng: np.random.Generator) -> Pixels:
    """A faint gradient without a thing in it."""
    x, y = grid(side)
    turn, base = rng.uniform(0, np.pi), rng.random()
    along = (x - 0.5) * np.cos(turn) + (y - 0.5) * np.sin(turn) + 0.5
    return blend(np.clip(along, 0, 1), tone(base, 0.25, 0.8), tone(base, 0.22, 0.9))


def weave(side: int, rng: np.random.Generator) -> Pixels:
    """Fractal stone or cloth all over: no thing in it, everywhere the same."""
    rough = fractal(side, rng, 0.9)
    base = rng.random()
    return blend(rough, tone(base, 0.4, 0.35), tone(base + 0.05, 0.3, 0.85))


def pennant(side: int, rng: np.random.Generator) -> Pixels:
    """Three or four wide plain stripes and nothing else."""
    pen, count = Pen(np.ones((side, side, 3))), int(rng.integers(3, 5))
    base, upright = rng.random(), rng.random() < 0.5
    for k in range(count):
        rgb = tone(base + k * 0.37, 0.75, 0.55 + 0.4 * (k % 2))
        low, high = k / count, (k + 1) / count
        pen.box(low, 0, high, 1, rgb) if upright else pen.box(0, low, 1, high, rgb)
    return pen.pixels()


def shards(pixels: Pixels, rng: np.random.Generator, count: int = 90) -> Pixels:
    """Triangles of all colours strewn over a picture."""
    pen = Pen(pixels)
    for _ in range(count):
        x, y, turn = *rng.uniform(0, 1, 2), rng.uniform(0, 2 * np.pi)
        size = rng.uniform(0.03, 0.055)
        angles = turn + np.array([0, 2.2, 3.9])
        pen.polygon([(x + size * np.cos(a), y + size * np.sin(a)) for a in angles], tone(rng.random(), 0.8, rng.uniform(0.15, 1)))  # fmt: skip
    return pen.pixels()


def shown(side: int, place: str, ink: str, shape: str, count: int, rng: np.random.Generator) -> Pixels:
    """One to three equal shapes of the alignment vocabulary on a plain ground or in a place."""
    _, y = grid(side)
    fine = 0.06 * (fractal(side, rng, 1.2) - 0.5)
    match place:
        case "meadow":
            ground = np.where((y < 0.45)[..., None], blend(y, (0.45, 0.7, 0.97), (0.8, 0.92, 1.0)), np.array((0.33, 0.66, 0.2)) + fine[..., None])  # fmt: skip
        case "sea":
            ground = np.where((y < 0.42)[..., None], blend(y, (0.6, 0.8, 0.98), (0.9, 0.96, 1.0)), np.array((0.06, 0.36, 0.62)) + fine[..., None])  # fmt: skip
        case _:
            ground = np.ones((side, side, 3)) * np.asarray(NAMED[place]) * (1 - 0.06 * y[..., None])
    pen = Pen(ground)
    radius = {1: 0.26, 2: 0.18, 3: 0.13}[count] * rng.uniform(0.92, 1.08)
    turn = rng.normal(0, 0.05)
    for k in range(count):
        at = 0.5 if count == 1 else 0.5 + (k - (count - 1) / 2) * {2: 0.47, 3: 0.32}[count]
        pen_shape(pen, shape, at, 0.52 + rng.uniform(-0.03, 0.03), radius, turn, NAMED[ink], ground)
    return pen.pixels()


def pen_shape(pen: Pen, shape: str, x: float, y: float, radius: float, turn: float, rgb: Colour, ground: Pixels) -> None:  # fmt: skip
    if shape in ("circle", "ring"):
        pen.oval(x, y, radius, radius, rgb)
        if shape == "ring":
            hole = Image.fromarray((np.clip(ground, 0, 1) * 255).round().astype(np.uint8)).resize((pen.side, pen.side))
            mask = Image.new("L", hole.size, 0)
            inner = radius * 0.56
            ImageDraw.Draw(mask).ellipse([(x - inner) * pen.side, (y - inner) * pen.side, (x + inner) * pen.side, (y + inner) * pen.side], fill=255)  # fmt: skip
            pen.image.paste(hole, (0, 0), mask)
        return
    if shape == "heart":
        t = np.linspace(0, 2 * np.pi, 120)
        across, up = 16 * np.sin(t) ** 3, 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
        points = np.stack([across, -up - 2.5], axis=1) / 16
    else:
        corners = {"square": 4, "triangle": 3, "star": 10}[shape]
        angle = turn + 2 * np.pi * np.arange(corners) / corners + (np.pi / 4 if shape == "square" else 0)
        reach = np.where(np.arange(corners) % 2, 0.42, 1.12) if shape == "star" else np.ones(corners) * 1.1
        points = np.stack([np.sin(angle), -np.cos(angle)], axis=1) * reach[:, None]
    pen.polygon([(x + radius * p, y + radius * q) for p, q in points], rgb)


SCENES: dict[str, Callable[[int, np.random.Generator], Pixels]] = {
    each.__name__: each for each in (coast, room, quilt, portrait, skyline, still_life, street_map, bookshelf)
}
