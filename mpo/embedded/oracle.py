"""The oracle: an independent judge of the embedded text-to-image model's pictures.

How a scene of `mpo/embedded/scenes.py` was drawn is known, so a small network could be taught to read off a picture what it
shows and what is wrong with it (`mpo/embedded/train_oracle.py`; the card is `mpo/embedded/oracle/README.md`). It shares no code
with the measured judge, and has no part in choosing pairs unless a recipe says so:

    evaluate:
      judges:
        - name: mpo.embedded.oracle:Oracle

N pictures, H x W pixels, D defects, S shapes, C colours.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mpo.embedded.scenes import (
    COLOURS,
    COUNTS,
    IMAGE_SIZE,
    PLACES,
    POSITIONS,
    SHAPES,
    Group,
    Scene,
    caption,
    group_phrase,
)
from reward.checklist import Checklist, Kind, Question, SubDimension
from reward.errors import JudgeError, first_line
from reward.judges.scorers import Scorer
from reward.media import Media, Sampling

WEIGHTS = Path(__file__).parent / "oracle" / "oracle.safetensors"
DEFECTS = ("blur", "gloom", "wash", "noise", "clutter", "cut_off", "shrink", "blocks", "flat")  # as in `scenes.Defects`
ALL_PLACES = (*COLOURS, *PLACES)
NUM_NUMBERS = len(COUNTS) + 1  # of objects: none to three
_SIZES = {
    "place": (len(ALL_PLACES),),
    "position": (1 + len(POSITIONS),),  # the middle first
    "total": (NUM_NUMBERS,),
    "shapes": (len(SHAPES), NUM_NUMBERS),
    "colours": (len(COLOURS), NUM_NUMBERS),
    "objects": (len(SHAPES), len(COLOURS), NUM_NUMBERS),
    "amounts": (len(DEFECTS),),
}  # of what the network says about one picture


class Reader(nn.Module):
    """A convolutional network of 0.8 million weights: pictures (N, 3, 64, 64) in [0, 1] -> what `_SIZES` names."""

    def __init__(self) -> None:
        super().__init__()
        self.grain = _layer(4, 16, size=4, stride=2)  # 32x32: blur, noise and blocks show in neighbouring pixels
        self.fine = nn.Sequential(_layer(16, 48, stride=2), _layer(48, 48))  # 16x16
        self.coarse = nn.Sequential(_layer(48, 96, stride=2), _layer(96, 96), _layer(96, 128))  # 8x8
        self.where = nn.Sequential(_layer(128, 80, stride=2), nn.Flatten())  # 4x4: what lies where
        self.hidden = nn.Sequential(nn.Linear(80 * 16 + 2 * 128 + 2 * 48, 192), nn.ReLU())
        self.quality = nn.Sequential(nn.Linear(2 * (16 + 48 + 128) + 128, 96), nn.ReLU())
        self.parts = nn.Conv2d(128, 1 + len(SHAPES) + len(COLOURS), 1)
        nn.init.constant_(self.parts.bias[:1], -4.0)  # most of a picture is no object  # type: ignore[index]
        self.sharpness = nn.Parameter(torch.ones(4))  # of total, shapes, colours, objects
        self.heads = nn.ModuleDict(
            {name: nn.Linear(96 if name == "amounts" else 192, int(np.prod(size))) for name, size in _SIZES.items()}
        )

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Logits (N, *size), the last axis over the classes; of amounts (N, D), each of its own."""
        # What stands out has the same outline in any colour: without this channel, shapes take several times as long to learn.
        grain = self.grain(torch.cat([pixels * 4 - 2, stand_out(pixels) * 4 - 2], dim=1))
        fine = self.fine(grain)
        coarse = self.coarse(fine)
        # An object is the same wherever it lies: the largest over the picture says that it is there, the mean how much.
        largest = coarse.amax(dim=(2, 3))
        spreads = [_mean_and_spread(features) for features in (grain, fine, coarse)]
        seen = torch.cat([self.where(coarse), largest, coarse.mean(dim=(2, 3)), spreads[1]], dim=1)
        hidden, quality = self.hidden(seen), self.quality(torch.cat([*spreads, largest], dim=1))
        said = {
            name: head(quality if name == "amounts" else hidden).unflatten(1, _SIZES[name])
            for name, head in self.heads.items()
        }
        for k, (name, count) in enumerate(self.count(coarse).items()):
            said[name] = said[name] - self.sharpness[k].exp() * (count[..., None] - torch.arange(NUM_NUMBERS)).square()
        return said

    def count(self, coarse: Tensor) -> dict[str, Tensor]:
        """How many objects there are in all, of each shape, of each colour and of both, each summed over the picture's 8x8
        cells: a cell's shape and its colour are one object's, so that a red star and a blue ring are no blue star.
        """
        there, shape, colour = self.parts(coarse).flatten(2).split([1, len(SHAPES), len(COLOURS)], dim=1)
        of_shape = there.sigmoid() * shape.softmax(dim=1)
        objects = torch.einsum("nsp,ncp->nsc", of_shape, colour.softmax(dim=1))
        return {
            "total": objects.sum(dim=(1, 2)),
            "shapes": objects.sum(dim=2),
            "colours": objects.sum(dim=1),
            "objects": objects,
        }


def _mean_and_spread(features: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, 2C): the mean and the standard deviation over the picture."""
    mean = features.mean(dim=(2, 3))
    variance = features.square().mean(dim=(2, 3)) - mean.square()
    return torch.cat([mean, (variance.clamp(min=0) + 1e-4).sqrt()], dim=1)


def stand_out(pixels: Tensor) -> Tensor:
    """(N, 1, H, W) in [0, 1]: how unlike the nearer of its row's two ends each pixel is, as a share of the picture's largest."""
    left, right = (ends.mean(dim=3, keepdim=True) for ends in (pixels[..., :2], pixels[..., -2:]))
    unlike = torch.minimum(*((pixels - end).square().sum(dim=1, keepdim=True) for end in (left, right))).sqrt()
    return unlike / (unlike.amax(dim=(2, 3), keepdim=True) + 0.02)


def _layer(channels: int, out_channels: int, *, size: int = 3, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(channels, out_channels, size, stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.ReLU())


@dataclass(frozen=True)
class Readings:
    """What the network reads off N pictures; float64 probabilities in [0, 1]."""

    place: Float[np.ndarray, "N P"]  # of ALL_PLACES
    position: Float[np.ndarray, "N 5"]  # of the middle, then POSITIONS, if there is one object
    total: Float[np.ndarray, "N 4"]  # of 0 to 3 objects in all
    shapes: Float[np.ndarray, "N S 4"]  # of 0 to 3 objects of each shape
    colours: Float[np.ndarray, "N C 4"]  # of each colour
    objects: Float[np.ndarray, "N S C 4"]  # of each shape and colour
    amounts: Float[np.ndarray, "N D"]  # of DEFECTS: 0 = none, 1 = the most that `scenes.sample_defects` draws

    def claims(self, row: int, scene: Scene) -> dict[str, float]:
        """How probable it is that one picture shows each thing that a scene says. Of each group: its shape, its colour,
        and so many objects of both; of the picture: so many objects in all, its place, and its position if one is told.
        """
        found: dict[str, float] = {}
        for k, group in enumerate(scene.groups):
            shape, colour = SHAPES.index(group.shape), list(COLOURS).index(group.colour)
            found[f"shape {k}"] = 1 - float(self.shapes[row, shape, 0])
            found[f"colour {k}"] = 1 - float(self.colours[row, colour, 0])
            found[f"objects {k}"] = float(self.objects[row, shape, colour, group.count])
        found["count"] = float(self.total[row, sum(group.count for group in scene.groups)])
        found["place"] = float(self.place[row, ALL_PLACES.index(scene.place)])
        if scene.position:
            found["position"] = float(self.position[row, 1 + POSITIONS.index(scene.position)])
        return found


def to_pixels(images: np.ndarray) -> Tensor:
    """uint8 (N, H, W, 3) -> (N, 3, H, W) in [0, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def load_reader(weights: Path = WEIGHTS) -> Reader:
    """Raises JudgeError if the file is missing or holds another network."""
    reader = Reader()
    try:
        state = load_file(weights)
        reader.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    except (OSError, SafetensorError, RuntimeError) as error:
        raise JudgeError(
            f"the oracle's weights {str(weights)!r} cannot be loaded ({first_line(error)}); make them with python -m mpo.embedded.train_oracle"
        ) from error
    return reader.eval()


@torch.inference_mode()
def read_pictures(reader: Reader, images: np.ndarray) -> Readings:
    """images: uint8 (N, 64, 64, 3)."""
    said = {name: value.double() for name, value in reader(to_pixels(images)).items()}
    amounts = said.pop("amounts").sigmoid().numpy()
    return Readings(**{name: logits.softmax(dim=-1).numpy() for name, logits in said.items()}, amounts=amounts)


def _without_articles(words: str) -> str:
    return re.sub(r"\b(?:an?|the|one) ", "", words)


_GROUPS = {
    _without_articles(group_phrase(group)): group
    for group in (Group(s, c, n) for s in SHAPES for c in COLOURS for n in range(1, NUM_NUMBERS))
}
_ENDINGS = {
    _without_articles(caption(scene)): scene
    for scene in (Scene((), place, position) for place in ALL_PLACES for position in (None, *POSITIONS))
}  # such as " on left in meadow"


@lru_cache(maxsize=4096)
def parse_caption(prompt: str) -> Scene:
    """The scene whose `scenes.caption` a prompt is, give or take articles. Raises JudgeError for any other prompt.

    A position is read of a single object alone, since it says nothing about a picture of several in the training set.
    """
    words = _without_articles(" ".join(prompt.lower().rstrip(" .").split()))
    for ending in sorted((ending for ending in _ENDINGS if words.endswith(ending)), key=len, reverse=True):
        phrases = words.removesuffix(ending).split(" and ")
        groups = tuple(_GROUPS[phrase] for phrase in phrases if phrase in _GROUPS)
        total = sum(group.count for group in groups)
        position = _ENDINGS[ending].position
        if len(groups) == len(phrases) and total < (NUM_NUMBERS if position is None else 2):
            return Scene(groups, _ENDINGS[ending].place, position)
    raise JudgeError(
        f"the oracle cannot read prompt {prompt!r}; it reads captions of the embedded model, such as {caption(_EXAMPLE)!r}: one to three objects in all, a position of one alone, colours {', '.join(COLOURS)}, shapes {', '.join(SHAPES)}; use another judge, or none (--set evaluate.judges=[])"
    )


_EXAMPLE = Scene((Group("circle", "red"), Group("star", "blue")), "meadow")


def _checklist() -> Checklist:
    words = {"content": "share of the prompt that the picture shows"}
    words |= {
        f"no_{defect}": f"freedom from {defect.replace('_', ' ')}, without regard to the words" for defect in DEFECTS
    }
    subdimensions = tuple(
        SubDimension(
            name=f"oracle_{part}",
            dimension=f"oracle_{part}",
            questions=(
                Question(
                    id=f"oracle_{part}",
                    text=f'Oracle, {text}, for "{{prompt}}"',
                    weight=1.0 if part == "content" else 1 / len(DEFECTS),
                    value=True,
                ),
            ),
        )
        for part, text in words.items()
    )
    return Checklist(name="oracle", version=1, kind="image", subdimensions=subdimensions)


class Oracle(Scorer):
    """Ten numbers about a picture of the embedded model, each the better the higher.

    `oracle_content`, in [0, 1]: the mean probability of the prompt's claims (`Readings.claims`). `oracle_no_blur` and eight
    more, in [-1, 0]: minus a defect's amount, in units of the largest that `scenes.sample_defects` draws (a blur of 3
    pixels, 25 fragments and so on: `train_oracle.amounts_of`). The weights, 1 and 1/9 each, make the total the content
    plus the mean freedom from defects, in [-1, 1].
    """

    checklist: Checklist = _checklist()
    sampling = Sampling(max_frames=1)

    def __init__(self, weights: str | None = None, *, batch_size: int = 64):
        """weights: a file that `mpo.embedded.train_oracle` made; None = the one that ships. Raises JudgeError if it cannot be loaded."""
        self.batch_size = batch_size
        self.reader = load_reader(Path(weights) if weights else WEIGHTS)

    @property
    def fingerprint(self) -> str:
        """Digest over all weights, this module's code and the vocabulary's."""
        digest = hashlib.sha256()
        for key, value in self.reader.state_dict().items():
            digest.update(key.encode() + value.numpy().tobytes())
        for name in ("oracle.py", "scenes.py"):
            digest.update((Path(__file__).parent / name).read_bytes())
        return f"oracle:{digest.hexdigest()[:16]}"

    @staticmethod
    def require_prompts(prompts: Sequence[str], kind: Kind) -> None:  # type: ignore[override]
        """Raises JudgeError for a prompt that is no caption of a scene. Static, so that a run asks before it begins."""
        for prompt in prompts:
            parse_caption(prompt)

    def numbers(self, media: Sequence[Media], prompts: Sequence[str]) -> np.ndarray:
        """(N, 10) float64: see `Scorer.numbers`. Raises JudgeError for a prompt or a picture of another size than the model's."""
        scenes = [parse_caption(prompt) for prompt in prompts]
        readings = read_pictures(self.reader, np.stack([_pixels(picture) for picture in media]))
        content = [np.mean(list(readings.claims(row, scene).values())) for row, scene in enumerate(scenes)]
        return np.concatenate([np.array(content)[:, None], -readings.amounts], axis=1)


def _pixels(picture: Any) -> np.ndarray:
    if picture.size != (IMAGE_SIZE, IMAGE_SIZE):
        width, height = picture.size
        raise JudgeError(
            f"the oracle reads pictures of {IMAGE_SIZE}x{IMAGE_SIZE} pixels, the embedded model's; this one has {width}x{height}; use another judge, or none (--set evaluate.judges=[])"
        )
    return np.asarray(picture.convert("RGB"))
