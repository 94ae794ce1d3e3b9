"""Does a picture show what a text says, for texts about simple coloured shapes?

Classical detection for a stated vocabulary (`COLOURS`, `SHAPES`, counts to three, plain backgrounds, four
places, four positions); any other text raises. The picture is split into background and foreground by
comparing each row with the colours at its two ends (CIE76 colour difference); foreground pixels of the
named colour form connected components; each component is compared with templates of the shapes by
intersection over union after normalising position and size.
"""

import re
from dataclasses import dataclass
from functools import cache, lru_cache

import cv2
import numpy as np
from scipy import ndimage
from skimage import measure
from skimage.draw import polygon2mask
from skimage.transform import resize

from reward.errors import JudgeError
from reward.judges.picture import convert

# Hue ranges in degrees, [low, high): the basic chromatic terms as commonly divided on the HSV circle.
HUES = {
    "red": (-22, 17),
    "orange": (17, 43),
    "yellow": (43, 72),
    "green": (72, 170),
    "blue": (185, 258),
    "purple": (258, 325),
}
COLOURS = (*HUES, "white", "black")
SHAPES = ("circle", "square", "triangle", "star", "ring", "heart")
COUNTS = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3}
PLACES = ("meadow", "sea", "desert", "night sky")
POSITIONS = ("left", "right", "top", "bottom")

MIN_AREA = 0.005  # of the picture: smaller components are specks
_TEMPLATE_SIDE = 32

_GROUP = re.compile(rf"({'|'.join(COUNTS)}) ({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})s?")
_PLACE = re.compile(rf"(?:on|in) (?:an?|the) (?:({'|'.join(COLOURS)}) background|({'|'.join(PLACES)}))")
_POSITION = re.compile(rf"(?:on|at) the ({'|'.join(POSITIONS)})")


@dataclass(frozen=True)
class Claim:
    """A number of objects of one colour and shape."""

    count: int
    colour: str
    shape: str


@dataclass(frozen=True)
class Claims:
    """What a text says, taken apart."""

    groups: tuple[Claim, ...]
    place: str | None  # None = the text names no background
    position: str | None  # None = the text names no position


REMEDY = "Use another judge, or leave out what asks about the text (--no-alignment, VisionReward.without_alignment)"


@lru_cache(maxsize=4096)
def parse(prompt: str) -> Claims:
    """A text such as "two red circles and a blue star in a meadow" -> its claims.

    Raises JudgeError if a word is left over, since the judge does not guess what it may mean, and if two groups share a colour.
    """
    claims, left_over = take_apart(plain_words(prompt))
    if not claims:
        raise JudgeError(f"{cannot_read(prompt, left_over)}. {REMEDY}")
    refuse_shared_colours(prompt, claims)
    return claims


def refuse_shared_colours(prompt: str, claims: Claims) -> None:
    """Raises JudgeError if two groups have the same colour: each is found by its own."""
    colours = [group.colour for group in claims.groups]
    shared = next((colour for colour in colours if colours.count(colour) > 1), None)
    if shared:
        raise JudgeError(
            f"the measured judge cannot judge prompt {prompt!r}: it tells things apart by their colours, and two groups are {shared}; give each group a colour of its own. {REMEDY}"
        )


def plain_words(prompt: str) -> str:
    """The prompt in small letters, without punctuation, one space between words."""
    return " ".join(re.sub(r"[,.]", " ", prompt.lower()).split())


def take_apart(text: str) -> tuple[Claims | None, list[str]]:
    """Plain words -> their claims, or None and the words that are left over; none are left of a text without an object."""
    place, position = _PLACE.search(text), None
    if place:
        text = text[: place.start()] + text[place.end() :]
    position = _POSITION.search(text)
    if position:
        text = text[: position.start()] + text[position.end() :]
    groups = tuple(Claim(COUNTS[n], colour, shape) for n, colour, shape in _GROUP.findall(text))
    left_over = [word for word in _GROUP.sub(" ", text).split() if word != "and"]
    if not groups or left_over:
        return None, left_over
    return Claims(groups, (place[1] or place[2]) if place else None, position[1] if position else None), []


def cannot_read(prompt: str, left_over: list[str]) -> str:
    return (
        f"the measured judge cannot read prompt {prompt!r} (left over: {' '.join(left_over) or 'no object'}); it reads "
        f"'a/two/three COLOUR SHAPE [and ...] [POSITION] [PLACE]' with colours {', '.join(COLOURS)}; shapes {', '.join(SHAPES)}; "
        f"places {', '.join(PLACES)} or a plain background"
    )


def depicts(pixels: np.ndarray, prompt: str) -> float:
    """How far the picture (H, W, 3) in [0, 1] shows what the text says, in [0, 1].

    At least 0.5 if every claim holds, more or less; less if a colour, a number, a place or a position is wrong, or all shapes of
    a group. One thing of another shape among two or three of a colour may leave it above 0.5: shapes count by their mean.
    """
    claims = parse(prompt)
    pixels = np.ascontiguousarray(pixels, np.float32)
    hsv = _hsv(cv2.medianBlur(pixels, 3))
    background = row_ends(pixels)
    unlike = foreground(unlikeness(convert(pixels, cv2.COLOR_RGB2Lab), convert(background, cv2.COLOR_RGB2Lab)))
    truths = [place_holds(background, claims.place)] if claims.place else []
    centroids = []
    for group in claims.groups:
        found, centres = objects(unlike & is_colour(hsv, group.colour), group)
        truths += [float(bool(centres)), *found]
        centroids.extend(centres)
    if claims.position:
        truths.append(position_holds(centroids, claims.position))
    return conjunction(truths)


def conjunction(truths: list[float]) -> float:
    """The mean of the weakest claim (the conjunction of fuzzy logic, Zadeh 1965) and of the average claim, so that one
    false claim is a no and partial truth still counts for something.
    """
    return float(0.5 * min(truths) + 0.5 * np.mean(truths))


def _hsv(pixels: np.ndarray) -> np.ndarray:
    return convert(np.clip(pixels, 0, 1), cv2.COLOR_RGB2HSV)  # hue in degrees


def is_colour(hsv: np.ndarray, name: str) -> np.ndarray | np.bool_:
    """Which pixels (..., 3; hue in degrees) have a basic colour. Shade, darkness and haze do not change the hue."""
    hue, saturation, value = np.moveaxis(hsv, -1, 0)
    if name == "white":
        return (saturation < 0.2) & (value > 0.5)
    if name == "black":
        return (value < 0.3) | ((saturation < 0.25) & (value < 0.42))
    low, high = HUES[name]
    turned = np.where(hue > high % 360 if low >= 0 else hue > 180, hue - 360 * (low < 0), hue)
    return (saturation >= np.where(value < 0.2, 0.3, 0.14)) & (value >= 0.08) & (turned >= low) & (turned < high)


def row_ends(pixels: np.ndarray) -> np.ndarray:
    """(2, ..., H, 3): each row's colour at the left and at the right edge of pixels (..., H, W, 3), smoothed over rows."""
    margin = max(1, pixels.shape[-2] // 32)
    ends = np.stack([np.median(pixels[..., :margin, :], axis=-2), np.median(pixels[..., -margin:, :], axis=-2)])
    return ndimage.median_filter(ends, size=(1,) * (ends.ndim - 2) + (5, 1))


def unlikeness(lab: np.ndarray, ends_lab: np.ndarray) -> np.ndarray:
    """(..., H, W): colour difference from the nearer of the colours at both ends of a row; all in L*a*b*."""
    return np.linalg.norm(lab[None] - ends_lab[..., None, :], axis=-1).min(axis=0)


def foreground(difference: np.ndarray) -> np.ndarray:
    """Bool: pixels unlike the background, of a picture (H, W) or of all frames of a clip (F, H, W)."""
    # 2.3 is one just noticeable difference (Mahy 1994); a third of the largest contrast leaves haze and shadow out.
    largest = np.percentile(difference, 98, axis=(-2, -1)).max()
    return difference > max(4 * 2.3, 0.3 * largest)


def objects(mask: np.ndarray, claim: Claim) -> tuple[list[float], list[tuple[float, float]]]:
    """Truth of "of this shape" and "so many" of the pieces of a mask, and their centres (x, y): none, if all are specks."""
    labels = measure.label(mask, connectivity=1)
    regions = [r for r in measure.regionprops(labels) if r.area >= MIN_AREA * mask.size]
    if not regions:
        return [0.0, 0.0], []
    largest = max(r.area for r in regions)
    regions = [r for r in regions if r.area >= 0.3 * largest]
    shapes = [_shape_holds(r.image, claim.shape) for r in regions]
    height, width = mask.shape
    centres = [(r.centroid[1] / width, r.centroid[0] / height) for r in regions]
    return [float(np.mean(shapes)), float(len(regions) == claim.count)], centres


def _shape_holds(component: np.ndarray, shape: str) -> float:
    """Logistic in the margin by which the named shape's template fits better than any other."""
    filled = np.asarray(ndimage.binary_fill_holes(component))
    hole = 1 - component.sum() / filled.sum()
    # A highlight may tear a small hole; a ring's is about a quarter of the whole.
    normal = _normalise(component if hole > 0.1 else filled)
    overlap = {name: max(_iou(normal, template) for template in _templates(name)) for name in SHAPES}
    others = max(value for name, value in overlap.items() if name != shape)
    return float(1 / (1 + np.exp(-(overlap[shape] - others) / 0.015)))


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    return np.minimum(a, b).sum() / np.maximum(a, b).sum()


def _normalise(mask: np.ndarray) -> np.ndarray:
    """The mask's bounding box stretched to a square of fixed side, as floats."""
    return np.asarray(resize(mask.astype(np.float64), (_TEMPLATE_SIDE, _TEMPLATE_SIDE), order=1, anti_aliasing=False))


@cache
def _templates(shape: str) -> tuple[np.ndarray, ...]:
    """The shape at a few tilts, normalised like a component."""
    return tuple(_normalise(_crop(_draw(shape, degrees))) for degrees in (-15, -8, 0, 8, 15))


def _crop(mask: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _draw(shape: str, degrees: float) -> np.ndarray:
    side, turn = 129, np.deg2rad(degrees)
    match shape:
        case "circle" | "ring":
            angles = np.deg2rad(np.arange(0, 360, 5))
            points = np.stack([np.sin(angles), np.cos(angles)], axis=1)
        case "square":
            points = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]]) * 0.7
        case "triangle":
            angles = np.deg2rad([180, 300, 60])
            points = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        case "star":
            angles = np.deg2rad(180 + 36 * np.arange(10))
            points = (
                np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.where(np.arange(10) % 2, 0.42, 1.0)[:, None]
            )
        case _:  # heart: two lobes over a point
            t = np.linspace(0, 2 * np.pi, 80, endpoint=False)
            points = (
                np.stack(
                    [-(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)), 16 * np.sin(t) ** 3],
                    axis=1,
                )
                / 17
            )
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    mask = polygon2mask((side, side), points @ rotation * 0.48 * side + side / 2)
    if shape == "ring":
        y, x = np.mgrid[:side, :side] - side / 2
        mask &= np.hypot(x, y) > 0.25 * side
    return mask


def place_holds(background: np.ndarray, place: str) -> float:
    """Whether the row ends look like a plain colour, or like a place's sky over its ground."""
    height = background.shape[1]
    upper = _hsv(np.median(background[:, : int(0.35 * height)], axis=(0, 1))[None, None])[0, 0]
    lower = _hsv(np.median(background[:, int(0.7 * height) :], axis=(0, 1))[None, None])[0, 0]

    def like(hsv: np.ndarray, *names: str) -> bool:
        return any(bool(is_colour(hsv, name)) for name in names)

    sky_above = like(upper, "blue", "white") or upper[1] < 0.25
    match place:
        case "meadow":
            holds = like(lower, "green") and sky_above
        case "sea":
            holds = like(lower, "blue") and sky_above and upper[1] < 0.75 * lower[1]
        case "desert":
            holds = like(lower, "orange", "yellow") and lower[1] < 0.75 and sky_above and not like(upper, "orange")
        case "night sky":
            holds = (
                all(228 < hsv[0] < 262 and hsv[2] < 0.5 and hsv[1] > 0.2 for hsv in (upper, lower))
                and upper[2] < lower[2] + 0.05
            )
        case _:
            holds = (
                like(upper, place)
                and like(lower, place)
                and not (place == "blue" and (lower[0] > 228 or upper[1] < 0.6 * lower[1]))
            )
    return float(holds)


def position_holds(centroids: list[tuple[float, float]], position: str) -> float:
    if not centroids:
        return 0.0
    x, y = np.mean(centroids, axis=0)
    towards = {"left": 0.5 - x, "right": x - 0.5, "top": 0.5 - y, "bottom": y - 0.5}
    across = max(towards[p] for p in POSITIONS if p != position)
    return float(towards[position] > 0.08 and towards[position] > across)
