"""Stage import-pairs: pictures or clips that have been compared already, instead of candidates of our own.

All of a prompt become its candidates, so that a judge may also choose new pairs among them.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from mpo import MpoError
from mpo.data.fitting import Fitted, read_fitted
from mpo.data.preferences import Preference, read_preferences
from mpo.data.prompts import drop_similar
from mpo.models.checks import size_rule
from mpo.recipe import Recipe, read_recipe
from mpo.run_folder.files import append_line, read_lines, sha256, write_lines
from mpo.run_folder.media import SUFFIX, write_media
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import CANDIDATES, PREFERENCES, PROMPTS, read_prompts_table, write_table
from mpo.runtime.progress import say, track
from mpo.sizes import Size, SizeRule, parse_size, size_fields
from reward.errors import MediaError

PER_FOLDER = 10_000  # pictures or clips


def import_pairs(folder: str | Path) -> None:
    """The recipe's preferences -> prompts.parquet, candidates/, candidates.parquet, preferences.parquet.

    The pictures or clips of a prompt are brought to the one of `model.sizes` that suits its first chosen one; without sizes
    they stay as they are and must be equal in size. Left out are pairs of prompts that are held out, or too similar to
    others, and pairs that cannot be read. imported.jsonl says what has been read so far, so that a killed run continues there.
    """
    run = RunFolder(folder)
    recipe = read_recipe(run.recipe)
    settings = recipe.preferences
    if settings is None:
        raise MpoError("the recipe has no section 'preferences': it makes its own candidates; run `mpo generate`")
    heldout, validation = read_prompts_table(run.heldout_prompts), read_prompts_table(run.validation_prompts)
    rule = size_rule(recipe.model)
    apart = {*heldout, *validation}
    imported = _Imported(run.candidates, SUFFIX[rule.kind])
    done = read_lines(run.imported)
    write_lines(run.imported, done)
    for record in done:
        imported.add(record)
    with track("import-pairs", total=settings.limit, done=len(done)) as advance:
        for number, preference in enumerate(
            islice(read_preferences(settings, rule.kind), len(done), None), start=len(done)
        ):
            record: dict[str, Any] = {"prompt": preference.prompt}
            if preference.prompt not in apart:
                try:
                    both = _read(preference, number, recipe, imported.sizes.get(preference.prompt), rule)
                    record |= {"size": size_fields(both[0].size), "digests": imported.write(preference.prompt, both)}
                    record |= {"changes": [change for one in both for change in one.changes]}
                except MediaError as error:
                    record |= {"problem": f"pair {number}: {error}"}
            imported.add(record)
            append_line(run.imported, record)
            advance()
    _number(run, recipe, imported, [*heldout, *validation])


def _number(run: RunFolder, recipe: Recipe, imported: "_Imported", others: list[str]) -> None:
    """Drop prompts that are too similar, renumber the rest and their pictures, write the tables."""
    prompts = list(imported.sizes)
    kept = prompts
    imported.say_what_was_done()
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
            f"preferences.path={recipe.preferences.path!r} leaves no pair: all are ties or the same picture twice, of held-out prompts, too similar to others, or cannot be read{imported.problems and f' ({imported.problems[0]})'}"
        )
    # Pictures of a prompt are adjacent.
    used = [k for k, (prompt, _) in enumerate(imported.pictures) if prompt in prompt_ids]
    used.sort(key=lambda k: (prompt_ids[imported.pictures[k][0]], k))
    ids = {k: i for i, k in enumerate(used)}
    columns = {
        "candidate_id": list(range(len(used))),
        "prompt_id": [prompt_ids[imported.pictures[k][0]] for k in used],
        "seed": [None] * len(used),  # made elsewhere
        "file": [imported.file(k).relative_to(run.candidates).as_posix() for k in used],
        "sha256": [imported.pictures[k][1] for k in used],
        "latents": [None] * len(used),
        "latents_sha256": [None] * len(used),
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
    """What has been read so far: all records of imported.jsonl. A picture or clip is kept once for its prompt."""

    def __init__(self, folder: Path, suffix: str):
        self.folder, self.suffix = folder, suffix
        self.sizes: dict[str, Size] = {}  # of each prompt's pictures, in order of appearance
        self.pictures: list[tuple[str, str]] = []  # prompt, sha256
        self.pairs: list[tuple[int, int]] = []  # chosen and rejected picture
        self.num_heldout = 0
        self.problems: list[str] = []  # pairs that could not be read
        self.changes: Counter[str] = Counter()  # what was done to clips in time
        self._known: dict[tuple[str, str], int] = {}

    def file(self, picture: int) -> Path:
        return self.folder / f"{picture // PER_FOLDER:04d}" / f"{picture:08d}{self.suffix}"

    def write(self, prompt: str, both: Sequence[Fitted]) -> list[str]:
        """Write a pair's pictures that the prompt does not have yet, in the places that `add` gives them; returns all digests."""
        digests, fresh = [], []
        for one in both:
            file = self.file(len(self.pictures) + len(fresh))
            write_media(file, one.pixels, fps=one.size.fps)
            digests.append(sha256(file))
            if (prompt, digests[-1]) in self._known or digests[-1] in fresh:
                file.unlink()
            else:
                fresh.append(digests[-1])
        return digests

    def add(self, record: dict[str, Any]) -> None:
        """Counts only: the files are there."""
        prompt = record["prompt"]
        if "problem" in record:
            self.problems.append(record["problem"])
            return
        if "digests" not in record:
            self.num_heldout += 1
            return
        self.sizes.setdefault(prompt, parse_size(record["size"]))
        self.changes.update(record["changes"])
        chosen, rejected = (self._place(prompt, digest) for digest in record["digests"])
        if chosen != rejected:
            self.pairs.append((chosen, rejected))

    def say_what_was_done(self) -> None:
        """To the user: what was left out as unreadable, and what was done to clips in time."""
        if self.problems:
            say(f"import-pairs: left out {len(self.problems)} pairs that cannot be read, such as {self.problems[0]}")
        if self.changes:
            words = ", ".join(f"{count} {change}" for change, count in sorted(self.changes.items()))
            say(f"import-pairs: clips brought to the recipe's rate and number of frames: {words}")

    def _place(self, prompt: str, digest: str) -> int:
        place = self._known.setdefault((prompt, digest), len(self.pictures))
        if place == len(self.pictures):
            self.pictures.append((prompt, digest))
        return place


def _read(preference: Preference, number: int, recipe: Recipe, size: Size | None, rule: SizeRule) -> list[Fitted]:
    """Chosen and rejected at the same size. size: that of the prompt's others; None = these are the first.

    Raises MediaError if one cannot be read, and MpoError if the recipe gives no sizes and theirs do not fit.
    """
    assert recipe.preferences is not None
    sizes = recipe.model.sizes
    sources = (preference.chosen, preference.rejected)
    if sizes:
        first = read_fitted(sources[0], rule.kind, sizes=sizes, size=size)
        return [first, read_fitted(sources[1], rule.kind, sizes=sizes, size=first.size)]
    both = [read_fitted(source, rule.kind, sizes=None) for source in sources]
    where = f"preferences.path={recipe.preferences.path!r}: "
    mixed = recipe.select.strategy != "given"  # new pairs are then formed among the pictures of a prompt
    expected = size if size and mixed else both[0].size
    remedy = f"set model.sizes, such as {[size_fields(rule.nearest(both[0].size))]}"
    for one in both:
        if one.size != expected:
            raise MpoError(
                f"{where}the {rule.kind}s of pair {number} differ in size from each other, or from others of their prompt ({one.size}, {expected}); {remedy}"
            )
        if rule.nearest(one.size) != one.size:
            raise MpoError(f"{where}pair {number} has {one.size}, but the model takes {rule.words()}; {remedy}")
    return both
