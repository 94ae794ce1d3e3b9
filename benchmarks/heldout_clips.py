"""Clips with known answers on which the measured judge is examined; its thresholds were set on `calibration_clips`,
and those that it shares with pictures on `heldout_set`, too, from which some grounds and defects here come.

Other drawing code (scikit-image's), other shapes and grounds, another size, frame count and rate, other photographs, and
other defects of the same names: an exposure that flickers in linear light, a codec's keyframes that pulse, a subject that
stutters or leaps, shapes that stretch, melt or turn into others, a camera simulated by averaging a large photograph.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage import draw as pen
from skimage.util import random_noise

from benchmarks.calibration_set import Case, photograph, to_image, to_pixels
from benchmarks.heldout_set import INK, ground, jpeg, motion_blur, paint, vignette
from reward.media import Clip

SIDE, NUM_FRAMES, FPS, SCALE = 80, 12, 12.0, 3
HEADINGS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
PAIRS = (  # ground and the ink on it
    ("blue", "yellow"), ("white", "red"), ("meadow", "purple"), ("night sky", "white"), ("black", "orange"),
    ("green", "white"), ("desert", "blue"), ("purple", "yellow"), ("sea", "red"), ("yellow", "blue"),
)  # fmt: skip
PHOTOGRAPHS = ("flower.jpg", "motorcycle_left.png", "rocket.jpg", "ihc.png")
FIGURES = ("circle", "square", "triangle", "star", "ring", "heart")


def developed(canvases: list[np.ndarray]) -> Clip:
    """Large canvases (S, S, 3) in [0, 1] -> a clip, each averaged down for smooth edges."""
    small = [
        canvas.reshape(canvas.shape[0] // SCALE, SCALE, canvas.shape[1] // SCALE, SCALE, 3).mean(axis=(1, 3))
        for canvas in canvases
    ]
    return recorded(small)


def recorded(frames) -> Clip:
    pixels = (np.clip(np.stack(list(frames)), 0, 1) * 255).round().astype(np.uint8)
    return Clip(pixels, np.arange(len(pixels)) / FPS)


def changed(clip: Clip, change) -> Clip:
    """The clip with `change(frame number, pixels in [0, 1])` applied to each frame."""
    return recorded(change(k, frame / 255) for k, frame in enumerate(clip.frames))


def positions(heading: str | None, travel: float, start: tuple[float, float] | None = None) -> np.ndarray:
    """(F, 2) centres x, y in sides; motion starts and ends gently, as that of a thing with mass does."""
    ease = 0.5 - 0.5 * np.cos(np.linspace(0, np.pi, NUM_FRAMES))
    way = np.array(HEADINGS[heading] if heading else (0, 0)) * travel
    first = np.array(start) if start else 0.5 - way / 2
    return first + ease[:, None] * way


def performed(place: str, ink: str, figure: str, centres: np.ndarray, radii: Any = 0.16, turns: Any = 0.0) -> Clip:
    """A figure on a ground, at a centre, radius and turn for each frame; a radius of 0 hides it."""
    radii, turns = np.broadcast_to(radii, NUM_FRAMES), np.broadcast_to(turns, NUM_FRAMES)
    scene, canvases = ground(place, SIDE * SCALE), []
    for (x, y), radius, turn in zip(centres, radii, turns, strict=True):
        canvas = scene.copy()
        if radius > 0:
            paint(canvas, figure, np.array(INK[ink]), x, y, radius, turn)
        canvases.append(canvas)
    return developed(canvases)


def melted(place: str, ink: str, amount: float, rng: np.random.Generator) -> Clip:
    """A disc whose outline is pulled to other random points in each frame."""
    scene, canvases = ground(place, SIDE * SCALE), []
    angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    for x, y in positions("right", 0.3):
        bumps = ndimage.gaussian_filter1d(rng.normal(size=72), 4, mode="wrap")
        reach = np.clip(1 + amount * bumps / bumps.std(), 0.05, 3)
        points = np.stack([y + 0.16 * reach * np.sin(angles), x + 0.16 * reach * np.cos(angles)], axis=1)
        canvas = scene.copy()
        canvas[pen.polygon(*(points * SIDE * SCALE).T, shape=canvas.shape[:2])] = INK[ink]
        canvases.append(canvas)
    return developed(canvases)


def filmed(large: np.ndarray, offsets: np.ndarray, windows: np.ndarray | None = None) -> Clip:
    """A camera over a large picture (S, S, 3): windows off its middle by offsets (F, 2) in sides of the window."""
    wide = 80 * 4
    windows = np.full(len(offsets), wide) if windows is None else windows
    frames = []
    for (x, y), window in zip(offsets * wide, windows, strict=True):
        top, left = (round(large.shape[0] / 2 + shift - window / 2) for shift in (y, x))
        cut = large[top : top + round(window), left : left + round(window)]
        assert cut.shape[0] == cut.shape[1] == round(window), "the picture is too small for this camera path"
        frames.append(to_pixels(to_image(cut).resize((SIDE, SIDE), Image.Resampling.BOX)))
    return recorded(frames)


def judged(question_ids: str, clip: Clip, series: str, amount: float, prompt: str = "") -> Iterator[Case]:
    """Cases from marks: "clear_1+ clear_2-" are a yes to the first question and a no to the second."""
    for mark in question_ids.split():
        yield Case(mark[:-1], clip, mark[-1] == "+", series, amount, prompt)


def ladder(stem: str, marks: str) -> str:
    """Marks of a stem's questions, strictest first; "clear_" with "-?+" is "clear_1- clear_3+", ? leaves one out."""
    return " ".join(f"{stem}{k}{mark}" for k, mark in enumerate(marks, start=1) if mark != "?")


def cases(seed: int = 100, *, num_grounds: int = 10, num_photographs: int = 4, num_texts: int = 60) -> Iterator[Case]:
    """All examination cases, or fewer of each kind."""
    rng = np.random.default_rng(seed)
    for i, (place, ink) in enumerate(PAIRS[:num_grounds]):
        figure, heading = FIGURES[i % 6], (*HEADINGS, None)[i % 5]
        clip = performed(place, ink, figure, positions(heading, 0.4))
        yield from _stability_cases(clip, rng)
        yield from _quality_cases(clip, rng)
        yield from _motion_cases(place, ink, figure, heading or "left", rng)
        yield from _shape_cases(place, ink, figure, rng)
        marks = [ladder("camera_motion_", "----"), ladder("camera_stability_", "++"), "camera_movement_2+"]
        yield from judged(" ".join(marks), clip, "camera stands still", 0.0)
    yield from _camera_cases(PHOTOGRAPHS[:num_photographs], rng)
    yield from _alignment_cases(num_texts)


def _stability_cases(clip: Clip, rng: np.random.Generator) -> Iterator[Case]:
    stem = "image_quality_stability_"
    for stops, marks in ((0.0, "++++"), (0.1, "-+++"), (0.35, "--++"), (0.8, "---+"), (2.5, "----")):
        exposure = 2.0 ** (stops * np.where(np.arange(NUM_FRAMES) % 2, 0.5, -0.5) + rng.normal(0, 0.02 * stops, 12))
        flickering = changed(clip, lambda k, frame, e=exposure: (frame**2.2 * e[k]) ** (1 / 2.2))
        yield from judged(ladder(stem, marks), flickering, "exposure flickers", stops)
    fading = changed(clip, lambda k, frame: frame * (1 - 0.5 * k / NUM_FRAMES))
    yield from judged(ladder(stem, "?+++"), fading, "slow fade", 0.0)
    for quality, marks in ((95, "?+++"), (12, "--?+"), (3, "---?")):
        coded = changed(
            clip, lambda k, frame, q=quality: to_pixels(jpeg(to_image(frame), q)) if k % 4 in (1, 2) else frame
        )
        yield from judged(ladder(stem, marks), coded, "keyframes pulse", 100 - quality)


def _quality_cases(clip: Clip, rng: np.random.Generator) -> Iterator[Case]:
    for sigma, marks in ((0.0, "++++"), (1.0, "-?++"), (1.6, "--?+"), (2.2, "---?"), (4.5, "----")):
        soft = changed(clip, lambda _, frame, s=sigma: to_pixels(motion_blur(to_image(frame), s)))
        yield from judged(ladder("clear_", marks), soft, "box blur", sigma)
    for variance, marks in ((0.0, "++"), (0.01, "-+"), (0.05, "--"), (0.2, "--")):
        grainy = changed(clip, lambda _, frame, v=variance: random_noise(frame, var=v, rng=rng) if v else frame)
        yield from judged(
            f"detail_refinement_3{marks[0]} detail_refinement_4{marks[1]}", grainy, "sensor noise", variance
        )
    for stops, mark in ((0.0, "+"), (1.5, "+"), (7.0, "-"), (9.0, "-")):
        dark = changed(
            clip,
            lambda _, frame, s=stops: (frame**2.2 * 2.0**-s * (1 - 0.05 * s * vignette(to_image(frame)))) ** (1 / 2.2),
        )
        yield from judged(f"lighting_accurate_3{mark}", dark, "underexposure", stops)
    if np.ptp(clip.frames[0].astype(int), axis=-1).mean() > 70:  # a colourful ground to begin with
        for fade, mark in ((0.0, "+"), (0.2, "+"), (0.8, "-"), (0.95, "-")):
            grey = changed(clip, lambda _, frame, f=fade: frame * (1 - f) + f * frame.mean(axis=-1, keepdims=True))
            yield from judged(f"color_2{mark} color_3{mark}", grey, "less saturation", fade)


def _motion_cases(place: str, ink: str, figure: str, heading: str, rng: np.random.Generator) -> Iterator[Case]:
    for travel, marks in (
        (0.0, "----"),
        (0.02, "---?"),
        (0.06, "--?+"),
        (0.15, "-?++"),
        (0.35, "?+++"),
        (0.55, "++++"),
    ):
        clip = performed(place, ink, figure, positions(heading, travel))
        yield from judged(ladder("object_motion_", marks), clip, "travel", -travel)
    smooth, across = positions(heading, 0.4), np.array(HEADINGS[heading])[::-1]
    yield from judged(ladder("movement_smoothness_", "++"), performed(place, ink, figure, smooth), "zigzag", 0.0)
    for amount, marks in ((0.012, "-?"), (0.03, "--"), (0.07, "--")):
        zigzag = smooth + amount * across * (rng.choice([-1, 1]) * (-1.0) ** np.arange(NUM_FRAMES))[:, None]
        yield from judged(
            ladder("movement_smoothness_", marks), performed(place, ink, figure, zigzag), "zigzag", amount
        )
    for hold, marks in ((3, "-?"), (4, "--")):
        even = positions(heading, 0.6)
        stutter = performed(place, ink, figure, even[np.arange(NUM_FRAMES) // hold * hold])
        yield from judged(ladder("movement_smoothness_", marks), stutter, "stutter", hold)
    leap = np.where(np.arange(NUM_FRAMES)[:, None] < NUM_FRAMES // 2, smooth[:1], smooth[-1:])
    yield from judged(ladder("movement_smoothness_", "--"), performed(place, ink, figure, leap), "leap", 1.0)


def _shape_cases(place: str, ink: str, figure: str, rng: np.random.Generator) -> Iterator[Case]:
    stem, path = "shape_throughout_", positions("right", 0.3)
    yield from judged(ladder(stem, "++++"), performed(place, ink, figure, path), "kept", 0.0)
    for amount, marks in ((0.0, "++++"), (0.15, "-?++"), (0.35, "--?+"), (0.6, "---?"), (1.3, "----")):
        yield from judged(ladder(stem, marks), melted(place, ink, amount, rng), "melting", amount)
    become = np.arange(NUM_FRAMES) >= NUM_FRAMES // 2
    other = "star" if figure != "star" else "square"
    first, second = (performed(place, ink, each, path) for each in (figure, other))
    turned = Clip(np.where(become[:, None, None, None], second.frames, first.frames), first.times_s)
    yield from judged(ladder(stem, "--?+"), turned, "turns into another", 1.0)
    for share, marks in ((3, "--?+"), (6, "---?"), (9, "----")):
        radii = np.where(np.arange(NUM_FRAMES) >= NUM_FRAMES - share, 0.0, 0.16)
        yield from judged(ladder(stem, marks), performed(place, ink, figure, path, radii), "vanishes", share)


def _camera_cases(photographs: Sequence[str], rng: np.random.Generator) -> Iterator[Case]:
    steady = np.zeros((NUM_FRAMES, 2))
    for name in photographs:
        large = to_pixels(photograph(name, side=640))
        for heading in HEADINGS:
            way = np.array(HEADINGS[heading]) + 0.3 * np.array(HEADINGS[heading])[::-1]
            ramp = np.linspace(-0.5, 0.5, NUM_FRAMES)[:, None]
            for travel, marks in ((0.0, "----"), (0.06, "--?+"), (0.15, "-?++"), (0.35, "?+++"), (0.6, "++++")):
                clip = filmed(large, ramp * travel * way / np.linalg.norm(way))
                yield from judged(ladder("camera_motion_", marks), clip, "pan", -travel)
                yield from judged("camera_stability_2+ camera_movement_2+", clip, "even pan", 0.0)
            for amount, marks in ((0.0, "+++"), (0.015, "-??"), (0.035, "---"), (0.06, "---")):
                for travel in (0.0, 0.3):
                    hand = ndimage.gaussian_filter1d(rng.normal(size=(NUM_FRAMES, 2)), 0.6, axis=0)
                    clip = filmed(large, ramp * travel * way / 1.05 + hand / hand.std() * amount)
                    marked = f"camera_stability_1{marks[0]} camera_stability_2{marks[1]} camera_movement_2{marks[2]}"
                    marked = " ".join(mark for mark in marked.split() if mark[-1] != "?")
                    yield from judged(marked, clip, f"unsteady hand, pan {travel}", amount)
            jump = np.where(np.arange(NUM_FRAMES)[:, None] < 5, 0.0, 0.3) * way
            yield from judged("camera_stability_2- camera_movement_2-", filmed(large, jump), "camera jumps", 1.0)
        for amount, marks in ((0.0, "----"), (0.15, "??++"), (0.3, "??++")):
            windows = np.linspace(320, 320 / (1 + amount / 0.38), NUM_FRAMES)
            yield from judged(ladder("camera_motion_", marks), filmed(large, steady, windows), "zoom", -amount)
        for sigma, marks in ((0.0, "++"), (1.5, "-?"), (2.8, "--"), (4.5, "--")):
            soft = to_pixels(motion_blur(to_image(large), sigma / 2))
            marked = " ".join(f"detail_refinement_{k}{m}" for k, m in zip((1, 2), marks, strict=True) if m != "?")
            yield from judged(marked, filmed(soft, steady), "lost detail", sigma)
        for heading in HEADINGS:
            # A disc on the photograph: it moves over it, or the camera alone moves.
            for travel, marks in ((0.0, "----"), (0.15, "-?++"), (0.35, "?+++")):
                for camera in (0.0, 0.3):
                    ways = positions(heading, travel) - 0.5
                    canvases = []
                    for (x, y), offset in zip(ways, np.linspace(-0.5, 0.5, NUM_FRAMES), strict=True):
                        canvas = large.copy()
                        rows, columns = pen.disk((320 + y * 320, 320 + x * 320), 0.16 * 320, shape=canvas.shape[:2])
                        canvas[rows, columns] = INK["yellow"]
                        canvases.append(filmed(canvas, np.array([[offset * camera, 0.0]])).frames[0] / 255)
                    series = f"disc on a photograph, camera {camera}"
                    yield from judged(ladder("object_motion_", marks), recorded(canvases), series, -travel)


def _alignment_cases(num_texts: int) -> Iterator[Case]:
    """True texts, and texts with one claim or all claims wrong, in words that the calibration set does not use."""
    verbs = {"left": "drifts left", "right": "slides to the right", "up": "rises", "down": "falls", None: "stays still"}
    clear = {
        "blue background": "yellow white red orange", "white background": "red green purple black",
        "meadow": "red yellow purple black", "night sky": "red yellow white orange",
        "desert": "red blue green purple", "black background": "white yellow red orange",
    }  # fmt: skip
    for i in range(num_texts):
        place = list(clear)[i % len(clear)]
        inks, heading = clear[place].split(), (*HEADINGS, None)[i % 5]
        ink, figure = inks[(i // 2) % 4], FIGURES[(i // 5 + i) % 6]
        travel = (0.2, 0.3, 0.45)[i % 3]
        centres = positions(heading, travel)
        clip = performed(place.removesuffix(" background"), ink, figure, centres, radii=0.19)
        if i % 4 == 3:
            clip = changed(clip, lambda _, frame: 0.85 * ndimage.gaussian_filter(frame, (0.8, 0.8, 0)))

        def text(ink: str, figure: str, heading: str | None, place: str) -> str:
            article = "an" if ink == "orange" else "a"
            where = f"on a {place}" if "background" in place else f"in the {place}"
            return f"{article} {ink} {figure} {verbs[heading]} {where}"

        others = [each for each in verbs if each != heading]
        false_ink, false_figure = inks[(i // 2 + 1) % 4], FIGURES[(i // 5 + i + 1 + i % 4) % 6]
        elsewhere = "green background" if place != "meadow" else "white background"
        yield from judged(ladder("alignment_", "++++"), clip, "true text", 0.0, text(ink, figure, heading, place))
        for other in others:
            yield from judged(ladder("alignment_", "-+++"), clip, "motion wrong", 1.0, text(ink, figure, other, place))
        for wrong in (
            text(false_ink, figure, heading, place),
            text(ink, false_figure, heading, place),
            text(ink, figure, heading, elsewhere),
        ):
            yield from judged(ladder("alignment_", "-+++"), clip, "one word wrong", 1.0, wrong)
        two = text(false_ink, figure, others[i % 4], place)
        yield from judged(ladder("alignment_", "-??+"), clip, "two words wrong", 2.0, two)
        unlike = text(false_ink, false_figure, others[i % 4], elsewhere)
        yield from judged(ladder("alignment_", "----"), clip, "all wrong", 3.0, unlike)
