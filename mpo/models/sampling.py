"""Pictures and clips from a pipeline, in batches that come out the same however the work is split."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL.Image import Image
from torch import Tensor

from mpo.models.checks import size_rule
from mpo.models.families import find_family, sampling_arguments
from mpo.models.identity import model_identity
from mpo.recipe import Recipe
from mpo.run_folder.files import sha256
from mpo.run_folder.latents import holds_origin, write_latents
from mpo.run_folder.media import SUFFIX, is_made_from, words_of, write_media
from mpo.runtime.pieces import Advance, Piece, Work, do_share
from mpo.runtime.seeds import Purpose, derive_seed
from mpo.sizes import Size, size_fields


@runtime_checkable
class SamplingSettings(Protocol):
    """What a recipe's sections generate, validation and evaluate share."""

    @property
    def num_inference_steps(self) -> int: ...
    @property
    def guidance_scale(self) -> float: ...
    @property
    def batch_size(self) -> int: ...


@dataclass(frozen=True)
class Sample:
    """One picture or clip to make: the prompt, the seed of its first noise, where it goes, and its size."""

    prompt: str
    seed: int
    file: Path
    size: Size | None  # None = the pipeline's own
    fps: float | None  # frames a second; None for pictures
    origin: Mapping[str, Any]  # what it is made from, as its file says
    latents: Path | None = None  # where its latents go; None = they are not kept


def samples_for(
    prompts: Sequence[Mapping[str, Any]],
    recipe: Recipe,
    settings: SamplingSettings,
    *,
    folder: Path,
    purpose: Purpose,
    seed: int,
    num_seeds: int,
    lora: Path | None = None,
    keep_latents: bool = False,
) -> list[Sample]:
    """`num_seeds` pictures or clips for each row of a table of prompts, one after the other. lora: a file; None = the untuned model."""
    rule = size_rule(recipe.model)
    made_with = {
        "model": recipe.model.path,
        "identity": model_identity(recipe.model),
        "dtype": recipe.model.dtype,
        "num_inference_steps": settings.num_inference_steps,
        "guidance_scale": settings.guidance_scale,
        "batch_size": settings.batch_size,
        "lora": lora and {"sha256": sha256(lora), "rank": recipe.train.rank, "alpha": recipe.train.alpha},
    }
    samples = []
    for row in prompts:
        for k in range(num_seeds):
            size = size_of(recipe, row["prompt_id"])
            own = derive_seed(purpose, seed, row["prompt_id"], k)
            origin = {"prompt": row["prompt"], "seed": own, "size": size and size_fields(size), **made_with}
            file = folder / f"{row['prompt_id']:06d}-{k:02d}{SUFFIX[rule.kind]}"
            latents = file.with_suffix(".safetensors") if keep_latents else None
            samples.append(Sample(row["prompt"], own, file, size, size.fps if size else rule.fps, origin, latents))
    return samples


def size_of(recipe: Recipe, prompt_id: int) -> Size | None:
    """The size of a prompt's pictures or clips: the recipe's sizes in turn."""
    sizes = recipe.model.sizes
    return sizes[prompt_id % len(sizes)] if sizes else None


def make_samples(
    load: Callable[[], Any],
    samples: Sequence[Sample],
    settings: SamplingSettings,
    *,
    description: str,
    lockstep: bool = False,
) -> None:
    """Make this process's share of the missing files; returns when all processes are done. See `Sampling` and `do_share`."""
    do_share(Sampling(load, samples, settings, description=description), lockstep=lockstep)


class Sampling(Work[Sequence[Sample]]):
    """Pictures or clips to be made, a batch a piece.

    A file that is there but says that it was made from something else is made again. Batches are cut at fixed places,
    since rounding depends on what is in a batch: if any picture of a batch is missing, the batch is sampled whole and
    only the missing ones are written. `load` gives the pipeline when it is needed.
    """

    def __init__(
        self, load: Callable[[], Any], samples: Sequence[Sample], settings: SamplingSettings, *, description: str
    ):
        self.description = description
        self.settings = settings
        self._load = load
        batches = [
            same[i : i + settings.batch_size]
            for same in _of_one_size(samples)
            for i in range(0, len(same), settings.batch_size)
        ]
        self.pieces = [Piece(batch, len(batch), _files(batch)) for batch in batches]

    def load(self) -> Any:
        return self._load()

    def is_done(self, piece: Piece[Sequence[Sample]]) -> bool:
        return all(map(is_made, piece.content))

    def do(self, held: Any, piece: Piece[Sequence[Sample]], advance: Advance) -> None:
        batch = piece.content
        last = _LastLatents(held) if batch[0].latents else None
        made = draw_samples(held, batch, self.settings, **(last.arguments if last else {}))
        latents = last.unpacked(made[0]) if last else [None] * len(batch)
        for sample, pixels, kept in zip(batch, made, latents, strict=True):
            if is_made(sample):
                continue
            if sample.latents is not None and kept is not None:
                write_latents(sample.latents, kept, sample.origin)
            write_media(sample.file, pixels, fps=sample.fps, origin=sample.origin)
        advance(len(batch))

    def words(self, piece: Piece[Sequence[Sample]]) -> Iterator[str]:
        for sample in piece.content:
            yield f"{sample.file.name} {sample.fps} {sample.latents is not None} {words_of(sample.origin)}"


def _of_one_size(samples: Sequence[Sample]) -> list[list[Sample]]:
    in_order = sorted(samples, key=lambda s: s.size or Size(0, 0))
    return [list(alike) for _, alike in groupby(in_order, key=lambda s: s.size)]


def _files(batch: Sequence[Sample]) -> tuple[Path, ...]:
    return tuple(file for sample in batch for file in (sample.latents, sample.file) if file is not None)


def is_made(sample: Sample) -> bool:
    kept = sample.latents is None or holds_origin(sample.latents, sample.origin)
    return kept and is_made_from(sample.file, sample.origin)


def draw_samples(
    pipeline: Any, batch: Sequence[Sample], settings: SamplingSettings, **callbacks: Any
) -> list[UInt8[np.ndarray, "*F H W 3"]]:
    """Pictures or clips of samples of one size, from one call of the pipeline. callbacks: of its steps."""
    arguments = sampling_arguments(
        pipeline, guidance_scale=settings.guidance_scale, num_prompts=len(batch), size=batch[0].size, fps=batch[0].fps
    )
    device = pipeline.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(batch[0].seed)  # some pipelines let their scheduler add noise without the generators
        output = pipeline(
            prompt=[sample.prompt for sample in batch],  # the first argument of some is a picture
            num_inference_steps=settings.num_inference_steps,
            generator=[torch.Generator().manual_seed(sample.seed) for sample in batch],
            output_type="pil",  # some would give real numbers
            **arguments,
            **callbacks,
        )
    return pixels_of(output)


class _LastLatents:
    """Catches a pipeline's latents after its last step: what it then decodes, on the scale of its network."""

    def __init__(self, pipeline: Any):
        self.pipeline = pipeline
        self.latents: Any = None
        if "callback_on_step_end" in inspect.signature(type(pipeline).__call__).parameters:
            self.arguments = {"callback_on_step_end": self._at_step_end}
        else:  # the older form
            self.arguments = {"callback": self._at_step, "callback_steps": 1}

    def _at_step_end(self, pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        self.latents = tensors["latents"]
        return {}

    def _at_step(self, step: int, timestep: Any, latents: Any) -> None:
        self.latents = latents

    def unpacked(self, pixels: UInt8[np.ndarray, "*F H W 3"]) -> Float[Tensor, " B *chw"]:
        """Latents of B samples as `encode_media` would give them. pixels: one of the samples, for its size."""
        own = getattr(find_family(self.pipeline), "unpack_latents", None)
        size = Size(pixels.shape[-2], pixels.shape[-3], len(pixels) if pixels.ndim == 4 else None)
        latents = own(self.pipeline, self.latents, size) if own else self.latents
        return latents.to(self.pipeline.vae.dtype)  # some loops are in float32 whatever the network's precision


def pixels_of(output: Any) -> list[UInt8[np.ndarray, "*F H W 3"]]:
    """What a pipeline's call returns -> B pictures (H, W, 3) or clips (F, H, W, 3). It gives Pillow's images, or lists of them.

    Opacity, which Qwen-Image 2.1 gives too, is dropped.
    """
    made = output.images if hasattr(output, "images") else output.frames
    return [np.stack([_rgb(f) for f in one]) if isinstance(one, list) else _rgb(one) for one in made]


def _rgb(image: Image) -> UInt8[np.ndarray, "H W 3"]:
    return np.asarray(image.convert("RGB"))
