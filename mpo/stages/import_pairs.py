"""Stage import-pairs: pictures that have been compared already, instead of candidates of our own.

All pictures of a prompt become its candidates, so that a judge may also choose new pairs among them.
"""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from mpo import MpoError
from mpo.data.preferences import Preference, fit, nearest_size, read_preferences
from mpo.data.prompts import drop_similar
from mpo.models.checks import size_multiple
from mpo.models.loading import load_index
from mpo.recipe import Recipe, read_recipe
from mpo.run_folder.files import append_line, read_lines, sha256, write_lines
from mpo.run_folder.media import write_png
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import CANDIDATES, PREFERENCES, PROMPTS, read_prompts_table, write_table
from mpo.runtime.progress import say, track
from reward.errors import MediaError
from reward.media import read_image


def import_pairs(folder: str | Path) -> None:
    """The recipe's preferences -> prompts.parquet, candidates/, candidates.parquet, preferences.parquet.

    The pictures of a prompt are resized to the one of `model.sizes` that suits its first chosen one; without sizes they
    stay as they are and must be equal in size. Pairs of prompts that are held out, or too similar to others, are left out.
    imported.jsonl says what has been read so far, so that a killed run continues there.
    """
    run = RunFolder(folder)
    recipe = read_recipe(run.recipe)
    settings = recipe.preferences
    if settings is None:
        raise MpoError("the recipe has no section 'preferences': it makes its own candidates; run `mpo generate`")
    heldout, validation = read_prompts_table(run.heldout_prompts), read_prompts_table(run.validation_prompts)
    multiple = size_multiple(load_index(recipe.model))
    apart = {*heldout, *validation}
    imported = _Imported(run.candidates)
    done = read_lines(run.imported)
    write_lines(run.imported, done)
    for record in done:
        imported.add(record)
    with track("import-pairs", total=settings.limit, done=len(done)) as advance:
        for number, preference in enumerate(islice(read_preferences(settings), len(done), None), start=len(done)):
            record: dict[str, Any] = {"prompt": preference.prompt}
            if preference.prompt not in apart:
                images = _images(preference, number, recipe, imported.sizes.get(preference.prompt), multiple)
                record |= {"size": images[0].size, "digests": imported.write(preference.prompt, images)}
            imported.add(record)
            append_line(run.imported, record)
            advance()
    _number(run, recipe, imported, [*heldout, *validation])


def _number(run: RunFolder, recipe: Recipe, imported: "_Imported", others: list[str]) -> None:
    """Drop prompts that are too similar, renumber the rest and their pictures, write the tables."""
    prompts = list(imported.sizes)
    kept = prompts
    if recipe.prompts.max_similarity is not None and kept:
        limit, by = recipe.prompts.max_similarity, recipe.prompts.similarity
        kept = drop_similar(kept, limit, apart_from=others, by=by)
    if imported.num_heldout or len(kept) < len(prompts):
        say(
            f"import-pairs: left out {imported.num_heldout} pairs of held-out prompts, and {len(prompts) - len(kept)} of {len(prompts)} prompts as too similar"
        )
    prompt_ids = {text: i for i, text in enumerate(kept)}
    if not any(imported.pictures[chosen][0] in prompt_ids for chosen, _ in imported.pairs):
        assert recipe.preferences is not None
        raise MpoError(
            f"preferences.path={recipe.preferences.path!r} leaves no pair: all are ties or the same picture twice, of held-out prompts, or too similar to others"
        )
    # Pictures of a prompt are adjacent.
    used = [k for k, (prompt, _) in enumerate(imported.pictures) if prompt in prompt_ids]
    used.sort(key=lambda k: (prompt_ids[imported.pictures[k][0]], k))
    ids = {k: i for i, k in enumerate(used)}
    columns = {
        "candidate_id": list(range(len(used))),
        "prompt_id": [prompt_ids[imported.pictures[k][0]] for k in used],
        "seed": [None] * len(used),  # made elsewhere
        "file": [imported.file(k).name for k in used],
        "sha256": [imported.pictures[k][1] for k in used],
    }
    for k in set(range(len(imported.pictures))) - set(used):
        imported.file(k).unlink(missing_ok=True)
    write_table(run.prompts, {"prompt_id": list(range(len(kept))), "prompt": kept}, PROMPTS)
    write_table(run.candidates_table, columns, CANDIDATES)
    pairs = [(ids[chosen], ids[rejected]) for chosen, rejected in imported.pairs if chosen in ids]
    write_table(
        run.preferences, {"chosen_id": [c for c, _ in pairs], "rejected_id": [r for _, r in pairs]}, PREFERENCES
    )


class _Imported:
    """What has been read so far: all records of imported.jsonl. A picture is kept once for its prompt."""

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
        """Write a pair's pictures that the prompt does not have yet, in the places that `add` gives them; returns all digests."""
        digests, fresh = [], []
        for image in images:
            file = self.file(len(self.pictures) + len(fresh))
            write_png(file, image)
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
    """Chosen and rejected at the same size. size: that of the prompt's other pictures; None = these are the first.

    multiple: sides must be multiples of this many pixels.
    """
    assert recipe.preferences is not None
    where = f"preferences.path={recipe.preferences.path!r}: "
    try:
        images = [read_image(preference.chosen), read_image(preference.rejected)]
    except MediaError as error:
        raise MpoError(f"{where}pair {number}: {error}") from None
    if recipe.model.sizes:
        return [fit(image, size or nearest_size(images[0], recipe.model.sizes)) for image in images]
    mixed = recipe.select.strategy != "given"  # new pairs are then formed among the pictures of a prompt
    expected = size if size and mixed else images[0].size
    for image in images:
        if image.size != expected:
            raise MpoError(
                f"{where}the pictures of pair {number} differ in size from each other, or from others of their prompt ({image.size}, {expected}); set model.sizes, such as [[1024, 1024]]"
            )
        if image.width % multiple or image.height % multiple:
            raise MpoError(
                f"{where}pair {number} has {image.width}x{image.height} pixels, but the model takes multiples of {multiple}; set model.sizes, such as [[1024, 1024]]"
            )
    return images
