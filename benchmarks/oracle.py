"""What the oracle reads off pictures whose truth is known: `python -m benchmarks.oracle [--num-pictures 1000] [--weights FILE]`.

Scenes and defects are drawn as the embedded model's training pictures were (`scenes.sample_scene`, `scenes.sample_defects`), from seeds
of no training, and read as they are and after the embedded model's autoencoder. Prints the tables of `mpo/embedded/oracle/README.md`.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from diffusers import AutoencoderTiny
from PIL import Image
from sklearn.metrics import roc_auc_score

from mpo.embedded.oracle import ALL_PLACES, DEFECTS, Oracle, read_pictures
from mpo.embedded.oracle_pictures import AUTOENCODER, UNKNOWN, Pictures, describe, pass_through
from mpo.embedded.scenes import (
    COLOURS,
    POSITIONS,
    SHAPES,
    Scene,
    caption,
    paint,
    sample_defects,
    sample_scene,
)

SEED = 12


def one_thing_changed(scene: Scene, rng: np.random.Generator) -> Scene:
    """Another shape, colour, number, place or position of one object or of the scene."""
    changes = ["shape", "colour", "place", *["count"] * (len(scene.groups) == 1), *["position"] * bool(scene.position)]
    group, others = scene.groups[0], scene.groups[1:]

    def other(values: Any, value: Any) -> Any:
        left = [each for each in values if each != value]
        return left[rng.integers(len(left))]

    match str(rng.choice(changes)):
        case "place":
            return replace(scene, place=other(ALL_PLACES, scene.place))
        case "position":
            return replace(scene, position=other(POSITIONS, scene.position))
        case "count":
            return replace(scene, groups=(replace(group, count=other((1, 2, 3), group.count)),), position=None)
        case "shape":
            return replace(scene, groups=(replace(group, shape=other(SHAPES, group.shape)), *others))
        case _:
            return replace(scene, groups=(replace(group, colour=other(tuple(COLOURS), group.colour)), *others))


def draw(num_pictures: int) -> tuple[list[Scene], np.ndarray, Pictures]:
    """Scenes, whether each picture has no defect, and the pictures with their truth."""
    rng = np.random.default_rng(SEED)
    scenes, free, rows = [], [], []
    for _ in range(num_pictures):
        scene, defects = sample_scene(rng), sample_defects(rng)
        rows.append((np.asarray(paint(scene, defects, rng)), *describe(scene, defects)))
        scenes.append(scene)
        free.append(defects.is_none)
    return scenes, np.array(free), Pictures(*(np.stack(column) for column in zip(*rows, strict=True)))


def content_row(oracle: Oracle, scenes: list[Scene], pictures: Pictures, of: np.ndarray) -> list[float]:
    """Shares of the pictures `of` that are read right, and those whose own caption scores above one with one thing changed."""
    found = read_pictures(oracle.reader, pictures.pixels)
    numbers = pictures.numbers
    single = of & (pictures.position != UNKNOWN)
    right = {
        "shapes": ((found.shapes[..., 0] < 0.5) == (numbers.sum(axis=2) > 0)).all(axis=1),
        "colours": ((found.colours[..., 0] < 0.5) == (numbers.sum(axis=1) > 0)).all(axis=1),
        "count": found.total.argmax(axis=1) == numbers.sum(axis=(1, 2)),
        "objects": (found.objects.argmax(axis=-1) == numbers).all(axis=(1, 2)),
        "place": found.place.argmax(axis=1) == pictures.place,
    }
    all_right = np.logical_and.reduce([*right.values()])
    position = found.position.argmax(axis=1) == pictures.position
    rng = np.random.default_rng(SEED)
    images = [Image.fromarray(pixels) for pixels in pictures.pixels]
    content = oracle.checklist.questions[:1]
    own = oracle.answer(images, [caption(scene) for scene in scenes], content)[:, 0]
    changed = oracle.answer(images, [caption(one_thing_changed(scene, rng)) for scene in scenes], content)[:, 0]
    shares = [*(value[of].mean() for value in right.values()), position[single].mean(), all_right[of].mean()]
    return [*shares, (own > changed)[of].mean(), own[of].mean(), changed[of].mean()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-pictures", type=int, default=1000)
    parser.add_argument("--weights", help="a file of mpo.embedded.train_oracle; the one that ships if left out")
    arguments = parser.parse_args()
    oracle = Oracle(arguments.weights)
    scenes, free, drawn = draw(arguments.num_pictures)
    autoencoder: Any = AutoencoderTiny.from_pretrained(Path(AUTOENCODER)).eval()
    decoded = pass_through(autoencoder, drawn, latent_noise=0.1, seed=SEED)

    print(
        "| pictures | shapes | colours | number | so many of each shape and colour | place | position | all but position | own caption above a changed one | content, own | content, changed |"
    )
    print("|" + "---|" * 11)
    for words, pictures in (("as drawn", drawn), ("from the autoencoder", decoded)):
        for which, of in (("no defect", free), ("one or two defects", ~free)):
            *shares, own, changed = content_row(oracle, scenes, pictures, of)
            cells = [f"{100 * share:.1f} %" for share in shares] + [f"{own:.3f}", f"{changed:.3f}"]
            print(f"| {words}, {which} | {' | '.join(cells)} |")
    print()
    print(
        "| defect | pictures with it | found (AUC) | mean error where it is | mean reading where it is not | correlation of the amounts | AUC, from the autoencoder | correlation, from the autoencoder |"
    )
    print("|" + "---|" * 8)
    readings = [read_pictures(oracle.reader, pictures.pixels).amounts for pictures in (drawn, decoded)]
    for k, defect in enumerate(DEFECTS):
        truth = drawn.amounts[:, k]
        there = truth > 0
        read, read_decoded = readings[0][:, k], readings[1][:, k]
        cells = [
            f"{there.sum()}",
            f"{roc_auc_score(there, read):.3f}",
            f"{np.abs(read - truth)[there].mean():.3f}",
            f"{read[~there].mean():.3f}",
            f"{np.corrcoef(truth, read)[0, 1]:.3f}",
            f"{roc_auc_score(there, read_decoded):.3f}",
            f"{np.corrcoef(truth, read_decoded)[0, 1]:.3f}",
        ]
        print(f"| {defect.replace('_', ' ')} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
