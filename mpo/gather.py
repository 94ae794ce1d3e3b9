"""Stage gather: pictures that have been compared already, in place of candidates of our own.

Three layouts. `pickapic`: rows of Pick-a-Pic v2 (caption, jpg_0, jpg_1 as bytes; label_0 and label_1, 1 for the better,
0.5 each for a tie; ties are left out, as in arXiv 2311.12908). `pairs`: rows of prompt, chosen, rejected, as TRL names
them; chosen and rejected are pictures, bytes, or files beside the table. `folder`: chosen/NAME.png, rejected/NAME.png
and NAME.txt with the prompt in either place.

All pictures of a prompt become its candidates, so that a judge may also choose pairs among them anew.
"""

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image, ImageOps

from mpo import MpoError
from mpo.generate import CANDIDATES
from mpo.models import load_index, size_multiple
from mpo.progress import say, track
from mpo.prompts import PROMPTS, drop_similar, read_prompts_table
from mpo.recipe import Preferences, Recipe, read_recipe
from mpo.rows import read_rows
from mpo.store import Run, read_lines, replacing, sha256, write_lines, write_table

PREFERENCES = pa.schema([("chosen_id", pa.int64()), ("rejected_id", pa.int64())])
PICTURES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class Preference:
    """One comparison; pictures still as they were stored."""

    prompt: str
    chosen: Any  # bytes, a file's path, or a mapping with "bytes" and "path"
    rejected: Any


def read_preferences(settings: Preferences) -> Iterator[Preference]:
    """The comparisons of a source, in its order, ties left out. Raises MpoError naming what cannot be read."""
    reader = {"pickapic": _pickapic, "pairs": _pairs, "folder": _folder}[settings.layout]
    return islice(reader(settings), settings.limit)


def _pickapic(settings: Preferences) -> Iterator[Preference]:
    columns = ["caption", "jpg_0", "jpg_1", "label_0"]
    for row in read_rows(
        settings.path, split=settings.split, revision=settings.revision, columns=columns, field="preferences.path"
    ):
        if row["label_0"] in (0, 1):
            first, second = ("jpg_0", "jpg_1") if row["label_0"] else ("jpg_1", "jpg_0")
            yield Preference(row["caption"].strip(), row[first], row[second])


def _pairs(settings: Preferences) -> Iterator[Preference]:
    columns = ["prompt", "chosen", "rejected"]
    beside = Path(settings.path).parent
    for row in read_rows(
        settings.path, split=settings.split, revision=settings.revision, columns=columns, field="preferences.path"
    ):
        chosen, rejected = (beside / row[c] if isinstance(row[c], str) else row[c] for c in columns[1:])
        yield Preference(row["prompt"].strip(), chosen, rejected)


def _folder(settings: Preferences) -> Iterator[Preference]:
    folder = Path(settings.path)
    chosen = sorted(p for p in (folder / "chosen").glob("*") if p.suffix.lower() in PICTURES)
    if not chosen:
        raise MpoError(
            f"preferences.path={settings.path!r} holds no chosen/*.png; lay it out as chosen/NAME.png, rejected/NAME.png, NAME.txt"
        )
    for file in chosen:
        rejected = [p for p in (folder / "rejected").glob(f"{file.stem}.*") if p.suffix.lower() in PICTURES]
        texts = [p for p in (folder / f"{file.stem}.txt", file.with_suffix(".txt")) if p.is_file()]
        if not rejected or not texts:
            raise MpoError(
                f"preferences.path={settings.path!r}: {file.name} has no {'rejected picture' if not rejected else 'text'} of its name; add it, or remove the picture"
            )
        yield Preference(texts[0].read_text("utf-8").strip(), file, rejected[0])


def open_picture(stored: Any) -> Image.Image:
    """A stored picture in RGB, turned upright. Raises OSError where it cannot be decoded."""
    if isinstance(stored, dict):
        stored = stored["bytes"] if stored.get("bytes") is not None else Path(stored["path"])
    with Image.open(io.BytesIO(stored) if isinstance(stored, bytes) else stored) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def fit(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scaled to cover (width, height), and cut to it around the centre."""
    return ImageOps.fit(image, size, Image.Resampling.LANCZOS)


def nearest_size(image: Image.Image, sizes: tuple[tuple[int, int], ...]) -> tuple[int, int]:
    """The size of the nearest aspect ratio, by the ratio of the ratios."""
    aspect = image.width / image.height
    return min(sizes, key=lambda size: max(aspect / (size[0] / size[1]), (size[0] / size[1]) / aspect))


def gather(folder: str | Path) -> None:
    """The recipe's preferences -> prompts.parquet, candidates/, candidates.parquet, preferences.parquet.

    The pictures of a prompt are brought to the size of `model.sizes` that suits its first chosen one; without sizes they
    stay as they are and must be alike. Pairs of prompts that are held out, or too similar to others, are left out.
    gathered.jsonl says what has been read so far, so that a killed run goes on there.
    """
    run = Run(folder)
    recipe = read_recipe(run.recipe)
    settings = recipe.preferences
    if settings is None:
        raise MpoError("the recipe has no section 'preferences': it makes its own candidates; run `mpo generate`")
    if run.preferences.exists():
        return
    heldout, validation = read_prompts_table(run.heldout_prompts), read_prompts_table(run.validation_prompts)
    multiple = size_multiple(load_index(recipe.model))
    apart = {*heldout, *validation}
    gathered = _Gathered(run.candidates)
    done = read_lines(run.gathered)
    write_lines(run.gathered, done)
    for record in done:
        gathered.add(record)
    with (
        track("gather", total=settings.limit, done=len(done)) as advance,
        run.gathered.open("a", encoding="utf-8") as log,
    ):
        for number, preference in enumerate(islice(read_preferences(settings), len(done), None), start=len(done)):
            record: dict[str, Any] = {"prompt": preference.prompt}
            if preference.prompt not in apart:
                images = _images(preference, number, recipe, gathered.sizes.get(preference.prompt), multiple)
                record |= {"size": images[0].size, "digests": gathered.write(preference.prompt, images)}
            gathered.add(record)
            log.write(json.dumps(record) + "\n")
            log.flush()
            advance()
    _number(run, recipe, gathered, [*heldout, *validation])


def _number(run: Run, recipe: Recipe, gathered: "_Gathered", others: list[str]) -> None:
    """Drop prompts that are too similar, number the rest and their pictures anew, write the tables."""
    prompts = list(gathered.sizes)
    kept = prompts
    if recipe.prompts.max_similarity is not None and kept:
        limit, by = recipe.prompts.max_similarity, recipe.prompts.similarity
        kept = drop_similar(kept, limit, apart_from=others, by=by)
    if gathered.num_heldout or len(kept) < len(prompts):
        say(
            f"gather: left out {gathered.num_heldout} pairs of held-out prompts, and {len(prompts) - len(kept)} of {len(prompts)} prompts as too similar"
        )
    prompt_ids = {text: i for i, text in enumerate(kept)}
    if not any(gathered.pictures[chosen][0] in prompt_ids for chosen, _ in gathered.pairs):
        assert recipe.preferences is not None
        raise MpoError(
            f"preferences.path={recipe.preferences.path!r} leaves no pair: all are ties or the same picture twice, of held-out prompts, or too similar to others"
        )
    # Pictures of a prompt stand together.
    used = [k for k, (prompt, _) in enumerate(gathered.pictures) if prompt in prompt_ids]
    used.sort(key=lambda k: (prompt_ids[gathered.pictures[k][0]], k))
    ids = {k: i for i, k in enumerate(used)}
    columns = {
        "candidate_id": list(range(len(used))),
        "prompt_id": [prompt_ids[gathered.pictures[k][0]] for k in used],
        "seed": [None] * len(used),  # made elsewhere
        "file": [gathered.file(k).name for k in used],
        "sha256": [gathered.pictures[k][1] for k in used],
    }
    for k in set(range(len(gathered.pictures))) - set(used):
        gathered.file(k).unlink(missing_ok=True)
    write_table(run.prompts, {"prompt_id": list(range(len(kept))), "prompt": kept}, PROMPTS)
    write_table(run.candidates_table, columns, CANDIDATES)
    pairs = [(ids[chosen], ids[rejected]) for chosen, rejected in gathered.pairs if chosen in ids]
    write_table(
        run.preferences, {"chosen_id": [c for c, _ in pairs], "rejected_id": [r for _, r in pairs]}, PREFERENCES
    )


class _Gathered:
    """What has been read so far: records of gathered.jsonl, taken together. A picture is kept once for its prompt."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.sizes: dict[str, tuple[int, int]] = {}  # of each prompt's pictures, in order of appearance
        self.pictures: list[tuple[str, str]] = []  # prompt, sha256
        self.pairs: list[tuple[int, int]] = []  # chosen and rejected picture
        self.num_heldout = 0
        self._known: dict[tuple[str, str], int] = {}

    def file(self, picture: int) -> Path:
        return self.folder / f"{picture:08d}.png"

    def write(self, prompt: str, images: Sequence[Image.Image]) -> list[str]:
        """A pair's pictures, those that the prompt has not yet in the places that `add` gives them; their digests."""
        digests, fresh = [], []
        for image in images:
            file = self.file(len(self.pictures) + len(fresh))
            with replacing(file) as temporary:
                image.save(temporary, format="PNG")
            digests.append(sha256(file))
            if (prompt, digests[-1]) in self._known or digests[-1] in fresh:
                file.unlink()
            else:
                fresh.append(digests[-1])
        return digests

    def add(self, record: dict[str, Any]) -> None:
        """Counts only: the files are there."""
        prompt = record["prompt"]
        if "digests" not in record:
            self.num_heldout += 1
            return
        self.sizes.setdefault(prompt, tuple(record["size"]))
        chosen, rejected = (self._place(prompt, digest) for digest in record["digests"])
        if chosen != rejected:
            self.pairs.append((chosen, rejected))

    def _place(self, prompt: str, digest: str) -> int:
        place = self._known.setdefault((prompt, digest), len(self.pictures))
        if place == len(self.pictures):
            self.pictures.append((prompt, digest))
        return place


def _images(
    preference: Preference, number: int, recipe: Recipe, size: tuple[int, int] | None, multiple: int
) -> list[Image.Image]:
    """Chosen and rejected at the same size. size: of the prompt's other pictures; None = these are the first.

    multiple: of so many pixels the model takes.
    """
    assert recipe.preferences is not None
    where = f"preferences.path={recipe.preferences.path!r}: "
    try:
        images = [open_picture(preference.chosen), open_picture(preference.rejected)]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise MpoError(f"{where}pair {number} cannot be read ({error}); mend or remove it") from None
    if recipe.model.sizes:
        return [fit(image, size or nearest_size(images[0], recipe.model.sizes)) for image in images]
    mixed = recipe.select.strategy != "given"  # pairs are then formed anew among the pictures of a prompt
    expected = size if size and mixed else images[0].size
    for image in images:
        if image.size != expected:
            raise MpoError(
                f"{where}the pictures of pair {number} differ in size from each other, or from others of their prompt ({image.size}, {expected}); set model.sizes, such as [[1024, 1024]]"
            )
        if image.width % multiple or image.height % multiple:
            raise MpoError(
                f"{where}pair {number} is of {image.width}x{image.height} pixels, and the model takes multiples of {multiple}; set model.sizes, such as [[1024, 1024]]"
            )
    return images
