"""Weights of `video-measured`, learnt from drawn pairs: `python -m benchmarks.clip_weights [--output FILE.yaml]`.

The published weights of `video` give object motion and sharpness nothing, so that by them a frozen or a blurred clip is as
good as any. Here the better clip of a pair is known from how it was drawn: both have the same faults, and the worse one has
one more. Prints how often learnt and published weights order pairs with unseen captions, and pairs drawn by other code.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from benchmarks import heldout_clips
from benchmarks.calibration_clips import GROUNDS, STEPS, Film, describe, pulsing, shoot, to_clip
from benchmarks.calibration_set import granularity, to_image, to_pixels
from benchmarks.heldout_set import motion_blur
from mpo.embedded.scenes import SHAPES
from reward import Checklist, Clip, VisionReward, save_checklist
from reward.agreement import Interval, agreement
from reward.pairs import fit_on_pairs, judge_pairs
from reward.preferences import Preference

NAME, NUM_TRAIN, NUM_HELDOUT, NUM_OTHER = "video-measured", 700, 300, 200
HEAD = """\
# yaml-language-server: $schema=schema.json
# What the measured judge answers of the checklist `video`, in its words, with weights learnt from pairs of drawn clips whose
# better one is known: python -m benchmarks.clip_weights --output reward/checklists/video-measured.yaml
"""
FAULTS = ("blur", "flicker", "jerk", "gloom", "wash", "grain", "wobble", "vanishing", "pulsing", "motion", "thing")


def sample_film(rng: np.random.Generator) -> Film:
    """A film without faults."""
    ground = str(rng.choice(list(GROUNDS)))
    motion = (*STEPS, None)[rng.integers(5)]
    shape, colour = str(rng.choice(SHAPES)), str(rng.choice(GROUNDS[ground]))
    size, travel = rng.uniform(0.14, 0.2), rng.uniform(0.3, 0.5)
    return Film(shape, colour, ground, motion, travel, size, gentle=rng.random() < 0.3, flat=rng.random() < 0.3)


def shoot_with(film: Film, faults: frozenset[str], rng: np.random.Generator) -> Clip:
    """The film with faults of random amounts; "motion" and "thing" contradict its caption."""
    amounts = {
        "blur": ("blur_sigma", 1.2, 3.5), "flicker": ("flicker", 0.08, 0.4), "jerk": ("jerk", 0.03, 0.08),
        "gloom": ("gloom", 0.5, 0.95), "wobble": ("wobble", 0.2, 0.8), "vanishing": ("vanish", 0.2, 0.6),
    }  # fmt: skip
    for fault in sorted(faults & set(amounts)):
        name, low, high = amounts[fault]
        film = replace(film, **{name: float(rng.uniform(low, high))})
    if "motion" in faults:  # it stands still though the caption says that it moves; or moves though it should not
        film = replace(film, motion=None if film.motion else str(rng.choice(list(STEPS))))
    if "thing" in faults:
        film = replace(film, colour=str(rng.choice([c for c in GROUNDS[film.ground] if c != film.colour])))
    clip = shoot(film, rng)
    if "pulsing" in faults:
        clip = pulsing(clip, float(rng.uniform(1.2, 4)))
    if "wash" in faults:
        wash = rng.uniform(0.5, 0.9)
        clip = to_clip(clip.frames / 255 * (1 - wash) + 0.68 * wash)
    if "grain" in faults:
        sigma = float(rng.uniform(0.06, 0.2))
        grainy = [to_pixels(granularity(to_image(frame / 255), sigma, rng)) for frame in clip.frames]
        clip = to_clip(np.stack(grainy))
    return clip


def perform_with(film: Film, faults: frozenset[str], rng: np.random.Generator) -> Clip:
    """The same by the examination set's drawing code, with its own kinds of faults."""
    motion = film.motion
    if "motion" in faults:
        motion = None if motion else str(rng.choice(list(STEPS)))
    ink = film.colour
    if "thing" in faults:
        ink = str(rng.choice([c for c in GROUNDS[film.ground] if c != ink]))
    centres = heldout_clips.positions(motion, film.travel)
    if "jerk" in faults:
        side = np.array([0.7, 0.7]) * rng.uniform(0.03, 0.07)
        centres = centres + side * (-1.0) ** np.arange(len(centres))[:, None]
    radii = np.full(len(centres), film.radius)
    if "vanishing" in faults:
        radii[rng.integers(len(radii) - 4) :][:4] = 0
    if "wobble" in faults:
        radii = radii * rng.uniform(0.4, 1.4, len(radii))
    clip = heldout_clips.performed(film.ground, ink, film.shape, centres, radii)
    changes: dict[str, Callable[[int, np.ndarray], np.ndarray]] = {}
    sigma, stops, share, dark = rng.uniform(1.3, 3.5), rng.uniform(0.4, 2.0), rng.uniform(0.6, 0.95), rng.uniform(2, 6)
    changes["blur"] = lambda _, frame: to_pixels(motion_blur(to_image(frame), sigma))
    changes["pulsing"] = lambda k, frame: ndimage.gaussian_filter(frame, (sigma, sigma, 0)) if k % 3 == 0 else frame
    changes["flicker"] = lambda k, frame: (frame**2.2 * 2 ** (stops * (k % 2 - 0.5))) ** (1 / 2.2)
    changes["wash"] = lambda _, frame: frame * (1 - share) + share * frame.mean(axis=-1, keepdims=True)
    changes["gloom"] = lambda _, frame: (frame**2.2 * 2**-dark) ** (1 / 2.2)
    changes["grain"] = lambda _, frame: frame + rng.normal(0, 0.15, frame.shape)
    for fault in (fault for fault in changes if fault in faults):
        clip = heldout_clips.changed(clip, changes[fault])
    return clip


def drawn_pairs(num_pairs: int, seed: int, draw=shoot_with) -> list[Preference]:
    """Pairs of clips for random captions; a or b at random is the better one."""
    rng, pairs = np.random.default_rng(seed), []
    for _ in range(num_pairs):
        film = sample_film(rng)
        order = [str(fault) for fault in rng.permutation(FAULTS)]
        num_shared = int(rng.choice([0, 1, 2], p=[0.6, 0.25, 0.15]))
        better, worse = (draw(film, frozenset(order[:count]), rng) for count in (num_shared, num_shared + 1))
        prompt = describe(film)
        if rng.random() < 0.5:
            pairs.append(Preference(prompt, better, worse, 1.0, prompt))
        else:
            pairs.append(Preference(prompt, worse, better, 0.0, prompt))
    return pairs


def order_pairs(checklist: Checklist | str, pairs: list[Preference]) -> tuple[Interval, float]:
    """How often a checklist's total orders pairs right (an equal total is wrong), and how often it is equal."""
    judged = judge_pairs(VisionReward("measured", checklist, questions="answerable"), pairs)
    margins = judged.a.total - judged.b.total
    return agreement("total", margins, judged.preferred, judged.groups).accuracy, float(np.mean(margins == 0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, help="where to write the checklist")
    output = parser.parse_args().output
    train, heldout = drawn_pairs(NUM_TRAIN, seed=0), drawn_pairs(NUM_HELDOUT, seed=1)
    known = {pair.prompt for pair in train}
    heldout = [pair for pair in heldout if pair.prompt not in known]
    judged = judge_pairs(VisionReward("measured", "video", questions="answerable"), train)
    fitted = fit_on_pairs(judged, name=NAME)
    print(f"{fitted.num_pairs} pairs, l2 {fitted.l2:.1e}; unseen folds {fitted.cv_accuracy:.3f}")
    for question, weight, low, high in zip(fitted.checklist, fitted.weights, fitted.low, fitted.high, strict=True):
        print(f"{question.id:26s} {weight:7.3f}   {low:7.3f} to {high:7.3f}")
    others = drawn_pairs(NUM_OTHER, seed=2, draw=perform_with)
    for name, pairs in (("unseen captions", heldout), ("drawn by other code", others)):
        for weights, checklist in (("learnt", fitted.checklist), ("published", "video")):
            right, equal = order_pairs(checklist, pairs)
            print(f"{name:20s} {len(pairs):4d} pairs  {weights:9s} {right}  equal {equal:.3f}")
    if output:
        save_checklist(fitted.checklist, output)
        output.write_text(HEAD + output.read_text("utf-8"), "utf-8")


if __name__ == "__main__":
    main()
