"""Pictures and clips from a pipeline, in batches that come out the same however the work is split."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Float, UInt8
from PIL.Image import Image
from torch import Tensor

from mpo.models.checks import size_rule
from mpo.models.families import find_family, sampling_arguments
from mpo.models.guidance import guidance_within
from mpo.models.identity import model_identity
from mpo.models.repeated_prompts import prompts_read_once
from mpo.models.schedulers import scheduler_in_place
from mpo.recipe import Recipe
from mpo.run_folder.files import sha256
from mpo.run_folder.latents import holds_origin, write_latents
from mpo.run_folder.media import SUFFIX, is_made_from, words_of, write_media
from mpo.run_folder.tables import write_table
from mpo.runtime.lazily import Lazily
from mpo.runtime.pieces import Advance, Piece, Work, do_share
from mpo.runtime.seeds import Purpose, derive_seed
from mpo.sizes import Size, size_fields

T = TypeVar("T")

PIECE = 64  # samples, about, whose files one record names
RECORDS = pa.schema([("place", pa.int64()), ("sha256", pa.string()), ("latents_sha256", pa.string())])


@runtime_checkable
class SamplingSettings(Protocol):
    """What a recipe's sections generate, validation and evaluate share."""

    @property
    def num_inference_steps(self) -> int: ...
    @property
    def guidance_scale(self) -> float: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def scheduler(self) -> str | None: ...
    @property
    def guidance_range(self) -> tuple[float, float] | None: ...


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


class Samples(Lazily[Sample]):
    """Samples that are made when they are asked for, and what can be said of each without that: to make ten million takes minutes.

    size: a place -> the size of its sample. words: a place -> what its sample is made from; all, with `common`, as text.
    """

    def __init__(
        self,
        count: int,
        sample: Callable[[int], Sample],
        *,
        size: Callable[[int], Size | None],
        words: Callable[[int], str],
        common: str = "",
    ):
        super().__init__(count, sample)
        self.size, self.words, self.common = size, words, common


def listed(samples: Sequence[Sample]) -> Samples:
    """Samples that are there already."""

    def words(place: int) -> str:
        sample = samples[place]
        return f"{sample.file.name} {sample.fps} {sample.latents is not None} {words_of(sample.origin)}"

    return Samples(len(samples), samples.__getitem__, size=lambda place: samples[place].size, words=words)


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
    in_folders: bool = False,
) -> Samples:
    """`num_seeds` pictures or clips for each row of a table of prompts, one after the other; each is made when it is asked for.

    lora: a file; None = the untuned model. in_folders: file systems and people are slow in folders of millions, so that
    those of about a thousand prompts lie in one.
    """
    rule = size_rule(recipe.model)
    made_with = {
        "model": recipe.model.path,
        "identity": model_identity(recipe.model),
        "dtype": recipe.model.dtype,
        **{f"{part}_in": how for part, how in recipe.model.quantization.model_dump().items() if how},
        "num_inference_steps": settings.num_inference_steps,
        "guidance_scale": settings.guidance_scale,
        "batch_size": settings.batch_size,
        "lora": lora and {"sha256": sha256(lora), "rank": recipe.train.rank, "alpha": recipe.train.alpha},
        **_set_alone(settings),
    }
    per_folder = prompts_a_folder(recipe) if in_folders else None

    def size_at(place: int) -> Size | None:
        return size_of(recipe, prompts[place // num_seeds]["prompt_id"])

    def words_at(place: int) -> str:
        row = prompts[place // num_seeds]
        return f"{row['prompt_id']} {place % num_seeds} {row['prompt']}"

    def sample(place: int) -> Sample:
        row, k = prompts[place // num_seeds], place % num_seeds
        prompt_id, size = row["prompt_id"], size_at(place)
        own = derive_seed(purpose, seed, prompt_id, k)
        origin = {"prompt": row["prompt"], "seed": own, "size": size and size_fields(size), **made_with}
        within = folder / f"{prompt_id // per_folder:04d}" if per_folder else folder
        file = within / f"{prompt_id:06d}-{k:02d}{SUFFIX[rule.kind]}"
        latents = file.with_suffix(".safetensors") if keep_latents else None
        return Sample(row["prompt"], own, file, size, size.fps if size else rule.fps, origin, latents)

    sizes = [size_fields(size) for size in recipe.model.sizes or ()]
    files = {"kind": rule.kind, "fps": rule.fps, "sizes": sizes, "keep_latents": keep_latents, "in_folders": in_folders}
    common = words_of({"purpose": purpose, "seed": seed, **made_with, **files})
    return Samples(len(prompts) * num_seeds, sample, size=size_at, words=words_at, common=common)


def prompts_a_folder(recipe: Recipe) -> int:
    """The least multiple of the number of sizes, which come in turn, above a thousand: all folders are alike."""
    turn = len(recipe.model.sizes or [None])
    return turn * -(-1000 // turn)


def _set_alone(settings: SamplingSettings) -> dict[str, Any]:
    """Settings that files name only where they are set: without them pictures are those that were made before there were any."""
    shares = settings.guidance_range
    given = {
        "scheduler": settings.scheduler,
        "guidance_range": shares and list(shares),
        "compile": getattr(settings, "compile", False),
    }
    return {name: value for name, value in given.items() if value}


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


@dataclass(frozen=True)
class Batches:
    """A piece of sampling: batches, each of samples of one size."""

    places: Sequence[Sequence[int]]  # of the samples, among all
    record: Path | None  # the table that says that they are made; None = their own files do


class Sampling(Work[Batches]):
    """Pictures or clips to be made, in batches that are cut at fixed places, since rounding depends on what is in a batch.

    If any picture of a batch is missing, or says that it was made from something else, the batch is sampled whole and only
    such pictures are written. `load` gives the pipeline when it is needed.

    records: a folder for a table a piece, which says what the piece has made. A piece is then up to 64 samples, and work that
    goes on reads the tables and looks at no file that one names: to find out what ten million files are would take
    hours. None = a batch a piece, which suits few samples and many processes.
    block: samples that are cut by themselves, such as those of a folder, so that the pieces of one can be found without the
    others; None = all.
    """

    def __init__(
        self, load: Callable[[], Any], samples: Sequence[Sample], settings: SamplingSettings, *, description: str,
        records: Path | None = None, block: int | None = None,
    ):  # fmt: skip
        self.description = description
        self.settings = settings
        self._load = load
        self._samples = samples if isinstance(samples, Samples) else listed(samples)
        self._records = records
        self._block = block or max(len(samples), 1)
        self._last: tuple[int, list[Piece[Batches]]] | None = None
        num_blocks = -(-len(samples) // self._block)
        self._full = len(self.of_block(0)) if num_blocks else 0  # pieces of a block; all but the last are alike
        last = len(self.of_block(num_blocks - 1)) if num_blocks else 0
        self.num_blocks = num_blocks
        self.pieces = Lazily(max(num_blocks - 1, 0) * self._full + last, self._piece)

    def load(self) -> Any:
        return self._load()

    def of_block(self, block: int) -> list[Piece[Batches]]:
        """The pieces of a block. The last block that was asked for is kept."""
        if self._last is None or self._last[0] != block:
            self._last = (block, list(self._cut(block)))
        return self._last[1]

    def _piece(self, place: int) -> Piece[Batches]:
        block = min(place // self._full, self.num_blocks - 1)
        return self.of_block(block)[place - block * self._full]

    def _cut(self, block: int) -> Iterator[Piece[Batches]]:
        places = range(block * self._block, min((block + 1) * self._block, len(self._samples)))
        batch_size = self.settings.batch_size
        items = (
            min(PIECE, len(self._samples) // PIECE) if self._records else 1
        )  # of few samples, fewer: so that many workers share them
        num_batches = max(1, items // batch_size)
        of_one_size: dict[Size, list[int]] = {}
        for place in places:
            of_one_size.setdefault(self._samples.size(place) or Size(0, 0), []).append(place)
        count = 0
        for _, alike in sorted(of_one_size.items()):
            batches = [alike[i : i + batch_size] for i in range(0, len(alike), batch_size)]
            for i in range(0, len(batches), num_batches):
                held = batches[i : i + num_batches]
                record = self._records / f"{block:04d}" / f"{count:04d}.parquet" if self._records else None
                files = (record,) if record else tuple(_files(self._samples[place] for place in _flat(held)))
                yield Piece(Batches(held, record), sum(map(len, held)), files)
                count += 1

    def is_done(self, piece: Piece[Batches]) -> bool:
        return self._is_recorded(piece) or all(map(is_made, self.samples_of(piece)))

    def samples_of(self, piece: Piece[Batches]) -> list[Sample]:
        return [self._samples[place] for place in _flat(piece.content.places)]

    def do(self, held: Any, piece: Piece[Batches], advance: Advance) -> None:
        for places in piece.content.places:
            batch = [self._samples[place] for place in places]
            # A batch that is a piece is sampled even if it is there: processes in lockstep count on it.
            if piece.content.record is None or not all(map(is_made, batch)):
                self._make(held, batch)
            advance(len(batch))
        if piece.content.record is not None:
            rows = self._look(piece)
            write_table(piece.content.record, rows, RECORDS, {"piece": self.name(piece)})

    def _make(self, pipeline: Any, batch: Sequence[Sample]) -> None:
        last = _LastLatents(pipeline) if batch[0].latents else None
        made = draw_samples(pipeline, batch, self.settings, **(last.arguments if last else {}))
        latents = last.unpacked(made[0]) if last else [None] * len(batch)
        for sample, pixels, kept in zip(batch, made, latents, strict=True):
            if is_made(sample):
                continue
            if sample.latents is not None and kept is not None:
                write_latents(sample.latents, kept, sample.origin)
            write_media(sample.file, pixels, fps=sample.fps, origin=sample.origin)

    def words(self, piece: Piece[Batches]) -> Iterator[str]:
        yield self._samples.common
        for place in _flat(piece.content.places):
            yield self._samples.words(place)

    def made_of(self, piece: Piece[Batches]) -> dict[str, list[Any]]:
        """Columns of RECORDS of a finished piece: what its record says, or what its files are."""
        if piece.content.record is not None and self._is_recorded(piece):
            with suppress(OSError, pa.ArrowInvalid):
                return pq.read_table(piece.content.record).to_pydict()
        return self._look(piece)

    def _is_recorded(self, piece: Piece[Batches]) -> bool:
        """Whether the piece has a record, which is not one of other work."""
        if piece.content.record is None:
            return False
        try:
            metadata = pq.read_schema(piece.content.record).metadata
        except (OSError, pa.ArrowInvalid):
            return False
        return (metadata or {}).get(b"piece") == self.name(piece).encode()

    def _look(self, piece: Piece[Batches]) -> dict[str, list[Any]]:
        samples = self.samples_of(piece)
        return {
            "place": _flat(piece.content.places),
            "sha256": [sha256(sample.file) for sample in samples],
            "latents_sha256": [sample.latents and sha256(sample.latents) for sample in samples],
        }


def _flat(batches: Iterable[Iterable[T]]) -> list[T]:
    return [each for batch in batches for each in batch]


def _files(samples: Iterable[Sample]) -> list[Path]:
    return [file for sample in samples for file in (sample.latents, sample.file) if file is not None]


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
    with cheaper(pipeline, settings), torch.random.fork_rng([device] if device.type == "cuda" else []):
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


@contextmanager
def cheaper(pipeline: Any, settings: SamplingSettings) -> Iterator[None]:
    """For one call of the pipeline: the recipe's sampler, guidance in its steps alone, equal prompts read once."""
    with (
        scheduler_in_place(pipeline, settings.scheduler),
        guidance_within(pipeline, settings.guidance_range),
        prompts_read_once(pipeline),
    ):
        yield


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
