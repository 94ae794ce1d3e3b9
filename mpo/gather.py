"""Stage gather: pictures that have been compared already, in place of candidates of our own.

Three layouts. `pickapic`: rows of Pick-a-Pic v2 (caption, jpg_0, jpg_1 as bytes; label_0 and label_1, 1 for the better,
0.5 each for a tie; ties are left out, as in arXiv 2311.12908). `pairs`: rows of prompt, chosen, rejected, as TRL names
them; chosen and rejected are pictures, bytes, or files beside the table. `folder`: chosen/NAME.png, rejected/NAME.png
and NAME.txt with the prompt in either place.

All pictures of a prompt become its candidates, so that a judge may also choose pairs among them anew.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image, ImageOps

from mpo import MpoError
from mpo.generate import CANDIDATES
from mpo.progress import say, track
from mpo.prompts import PROMPTS, drop_similar, read_prompt_sets
from mpo.recipe import Preferences, Recipe, read_recipe
from mpo.rows import read_rows
from mpo.store import Run, replacing, sha256, write_table

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

    Both pictures of a pair are brought to the size of `model.sizes` that suits the chosen one; without sizes they stay
    as they are and must be alike. Pairs of prompts that are held out, or too similar to others, are left out.
    """
    run = Run(folder)
    recipe = read_recipe(run.recipe)
    settings = recipe.preferences
    if settings is None:
        raise MpoError("the recipe has no section 'preferences': it makes its own candidates; run `mpo generate`")
    if run.preferences.exists():
        return
    _, heldout, validation = read_prompt_sets(recipe.prompts)
    apart = {*heldout, *validation}
    pictures = _Pictures(run.candidates)
    prompts: dict[str, int] = {}
    pairs: list[tuple[int, int, int]] = []  # prompt, chosen and rejected picture
    num_heldout = 0
    with track("gather", total=settings.limit) as advance:
        for number, preference in enumerate(read_preferences(settings)):
            advance()
            if preference.prompt in apart:
                num_heldout += 1
                continue
            images = _images(preference, number, recipe)
            prompt = prompts.setdefault(preference.prompt, len(prompts))
            pairs.append((prompt, pictures.keep(images[0], prompt), pictures.keep(images[1], prompt)))
    kept = list(prompts)
    if recipe.prompts.max_similarity is not None and kept:
        limit, by = recipe.prompts.max_similarity, recipe.prompts.similarity
        kept = drop_similar(kept, limit, apart_from=[*heldout, *validation], by=by)
    if num_heldout or len(kept) < len(prompts):
        say(
            f"gather: left out {num_heldout} pairs of held-out prompts, and {len(prompts) - len(kept)} of {len(prompts)} prompts as too similar"
        )
    if not kept:
        raise MpoError(
            f"preferences.path={settings.path!r} leaves no pair: all are ties, of held-out prompts, or too similar to others"
        )

    # Number prompts anew, and pictures so that those of a prompt stand together.
    prompt_ids = {prompts[text]: i for i, text in enumerate(kept)}
    used = [k for k, prompt in enumerate(pictures.prompts) if prompt in prompt_ids]
    used.sort(key=lambda k: (prompt_ids[pictures.prompts[k]], k))
    ids = {k: i for i, k in enumerate(used)}
    columns = {
        "candidate_id": list(range(len(used))),
        "prompt_id": [prompt_ids[pictures.prompts[k]] for k in used],
        "seed": [None] * len(used),  # made elsewhere
        "file": [pictures.name(k) for k in used],
        "sha256": [pictures.digests[k] for k in used],
    }
    for k in set(range(len(pictures.prompts))) - set(used):
        (run.candidates / pictures.name(k)).unlink()
    write_table(run.prompts, {"prompt_id": list(range(len(kept))), "prompt": kept}, PROMPTS)
    write_table(run.candidates_table, columns, CANDIDATES)
    given = [(ids[chosen], ids[rejected]) for prompt, chosen, rejected in pairs if prompt in prompt_ids]
    write_table(
        run.preferences, {"chosen_id": [c for c, _ in given], "rejected_id": [r for _, r in given]}, PREFERENCES
    )


class _Pictures:
    """Pictures written to a folder, each once for its prompt."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.prompts: list[int] = []
        self.digests: list[str] = []
        self._known: dict[tuple[int, str], int] = {}

    def name(self, index: int) -> str:
        return f"{index:08d}.png"

    def keep(self, image: Image.Image, prompt: int) -> int:
        file = self.folder / self.name(len(self.prompts))
        with replacing(file) as temporary:
            image.save(temporary, format="PNG")
        digest = sha256(file)
        if (prompt, digest) in self._known:
            file.unlink()
            return self._known[prompt, digest]
        self._known[prompt, digest] = len(self.prompts)
        self.prompts.append(prompt)
        self.digests.append(digest)
        return len(self.prompts) - 1


def _images(preference: Preference, number: int, recipe: Recipe) -> list[Image.Image]:
    """Chosen and rejected at the same size."""
    assert recipe.preferences is not None
    where = f"preferences.path={recipe.preferences.path!r}: "
    try:
        images = [open_picture(preference.chosen), open_picture(preference.rejected)]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise MpoError(f"{where}pair {number} cannot be read ({error}); mend or remove it") from None
    if recipe.model.sizes:
        size = nearest_size(images[0], recipe.model.sizes)
        return [fit(image, size) for image in images]
    if images[0].size != images[1].size:
        raise MpoError(
            f"{where}the pictures of pair {number} differ in size ({images[0].size}, {images[1].size}); set model.sizes, such as [[1024, 1024]]"
        )
    return images
