"""What each stage depends on, and whether its work is still valid.

A stage depends on fields of the recipe and on files; its manifest records both, with the files that it made. A stage is
done if all of that is as recorded. If not, the verdict names the field or file, and the command that puts it
right.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from mpo import MpoError
from mpo.models.identity import model_identity
from mpo.recipe import Recipe, flat_fields, one_or_all
from mpo.run_folder.candidates import compare_candidates, remember_candidates
from mpo.run_folder.files import delete, read_json, sha256, write_json
from mpo.run_folder.manifest import (
    Manifest,
    digests,
    library_versions,
    manifest_file,
    read_manifest,
    write_manifest,
)
from mpo.run_folder.paths import RunFolder
from mpo.training.checkpoint_files import damaged_checkpoints, result_file, start_of, unvalidated_steps
from reward.judging import checklist_of

STAGES = ("generate", "score", "select", "encode", "train", "evaluate", "export", "report")
MANIFEST = "its manifest"  # as a verdict names it
PREPARE = "prompts"  # before the stages: the tables of prompts

# stage: the recipe's fields that decide what it makes, sections or single ones.
FIELDS: dict[str, tuple[str, ...]] = {
    PREPARE: ("prompts",),
    "generate": ("seed", "model", "generate"),
    "import-pairs": ("model", "preferences", "prompts.max_similarity", "prompts.similarity", "select.strategy"),
    "score": ("judge",),
    "select": ("seed", "select"),
    "encode": ("model",),
    "train": ("model", "train"),
    "evaluate": ("model", "judge", "evaluate", "train.rank", "train.alpha", "train.lora_targets", "train.ema_decay"),
    "export": tuple(name for name in Recipe.model_fields if name != "tracking"),  # the card shows the recipe
    "report": tuple(name for name in Recipe.model_fields if name != "tracking"),
}
# These change when training writes, and where weights wait, not what comes of it.
FREE = ("train.checkpoint_interval_steps", "model.offload")
# What a stage does not load: import-pairs asks for the model's sizes alone.
NOT_LOADED = {
    "import-pairs": ("model.quantization.denoiser", "model.quantization.text_encoders"),
    "encode": ("model.quantization.denoiser",),
}
# These came later. They are recorded where they are set: at these values the work is what it was before there were any.
SAMPLING = {"scheduler": None, "guidance_range": None, "compile": False}
LATER: dict[str, Any] = {
    "model.quantization.denoiser": None,
    "model.quantization.text_encoders": None,
    **{
        f"{section}.{name}": value
        for section in ("generate", "validation", "evaluate")
        for name, value in SAMPLING.items()
    },
}
# What differs between runs of the same work is not recorded.
VARYING = ("trackers", "timing.jsonl")


def stages_of(recipe: Recipe) -> tuple[str, ...]:
    """The recipe's stages in order. A recipe with pairs of its own imports them; if it takes them as given, no judge is asked."""
    if recipe.preferences is None:
        return STAGES
    return ("import-pairs", *(stage for stage in STAGES[1:] if (stage, recipe.select.strategy) != ("score", "given")))


def stages_from(recipe: Recipe, stage: str) -> tuple[str, ...]:
    """A stage and all later ones."""
    stages = stages_of(recipe)
    return stages[stages.index(stage) :]


def inputs_of(run: RunFolder, recipe: Recipe, stage: str) -> list[Path]:
    """Files and folders that a stage reads."""
    match stage:
        case "prompts":
            return []
        case "generate":
            return [run.prompts, run.start]
        case "import-pairs":
            return [run.heldout_prompts, run.validation_prompts]
        case "score":
            return [run.prompts, run.candidates_table]
        case "select":
            return [run.candidates_table, run.preferences if recipe.select.strategy == "given" else run.scores]
        case "encode":
            return [run.prompts, run.candidates_table, run.pairs]
        case "train":
            return [run.pairs, run.encoded, run.validation_prompts, run.start]
        case "evaluate":
            return [run.heldout_prompts, run.trained, *_result(run)]
        case "export":
            return [run.selection, run.trained, *_result(run), run.evaluation_table, run.summary]
        case "report":
            chosen = [run.prompts, run.candidates_table, run.pairs, run.selection]
            judged = [] if recipe.select.strategy == "given" else [run.scores]
            trained = [run.training_log, run.validation_log, run.trained]
            evaluated = [run.heldout_prompts, run.evaluation_table, run.summary, run.samples]
            return [*chosen, *judged, *trained, *evaluated]
    raise AssertionError(stage)


def _result(run: RunFolder) -> list[Path]:
    return [result_file(run)] if run.trained.is_file() else []


def writes_of(run: RunFolder, recipe: Recipe, stage: str) -> list[Path]:
    """Files and folders that belong to a stage, including those of unfinished work."""
    match stage:
        case "prompts":
            tables = [run.heldout_prompts, run.validation_prompts]
            return tables if recipe.preferences else [run.prompts, *tables]
        case "generate":
            return [run.candidates_table, run.candidates, run.candidate_records]
        case "import-pairs":
            return [run.prompts, run.candidates_table, run.candidates, run.preferences, run.imported]
        case "score":
            return [run.scores, run.score_parts]
        case "select":
            return [run.pairs, run.selection]
        case "encode":
            return [run.encoded]
        case "train":
            logs = [run.training_log, run.timing_log, run.validation_log, run.trained, run.trackers]
            return [run.checkpoints, run.validation, *logs]
        case "evaluate":
            judged = [run.judge_tables] if recipe.evaluate.judges else []
            return [run.evaluation_table, *judged, run.summary, run.samples, run.evaluation_score_parts]
        case "export":
            return [run.lora]
        case "report":
            return [run.report]
    raise AssertionError(stage)


def outputs_of(run: RunFolder, recipe: Recipe, stage: str) -> dict[str, str]:
    """What a finished stage has made, by name, with digests. Candidates are left out: their table has their digests."""
    paths = [path for path in writes_of(run, recipe, stage) if path != run.candidates and path.name not in VARYING]
    return digests(run, paths)


def fields_of(recipe: Recipe, stage: str) -> dict[str, Any]:
    """The recipe's fields that a stage depends on, each by its full name, with its value."""
    names = list(FIELDS[stage])
    if stage == "train":
        names += ["validation", "judge"] if recipe.validation is not None else ["validation"]
    if stage == "train" and recipe.train.distilled_guidance is None and recipe.generate is not None:
        names.append("generate.guidance_scale")  # networks with distilled guidance are trained at it
    found: dict[str, Any] = {}
    whole = recipe.model_dump(mode="json")
    for name in names:
        value: Any = whole
        for part in name.split("."):
            value = None if value is None else value[part]
        found |= flat_fields(name, value)
    if "model.path" in found:
        found["the model's content"] = model_identity(recipe.model)
    if any(name.startswith("judge.") for name in found):
        checklists = [checklist_of(judging).fingerprint for judging in recipe.judge]
        found["the checklist's content"] = one_or_all(checklists)
    unset = [name for name, value in LATER.items() if name in found and found[name] == value]
    left_out = (*FREE, *unset, *NOT_LOADED.get(stage, ()))
    return {name: value for name, value in found.items() if name not in left_out}


State = Literal["done", "absent", "begun", "missing", "damaged", "stale"]


@dataclass(frozen=True)
class Verdict:
    """The state of a stage. `why` is empty for "done" and "absent"; `names` are the files concerned."""

    state: State
    why: str = ""
    names: tuple[str, ...] = ()
    undo: str = "set it back"  # what makes a stale stage valid again as it is


def examine(run: RunFolder, recipe: Recipe, stage: str) -> Verdict:
    """Whether a stage is done, and if not, why. Reads the files that it names, each once per process; candidates as `compare_candidates` says."""
    half_done = "half done"
    redone = pending_redo(run)
    if redone and stage in stages_from(recipe, redone.stage):
        if not redone.deleted:
            return Verdict("begun", "half deleted: --redo was stopped")
        half_done = "half done, after --redo deleted what was there before"
    try:
        held = read_manifest(run, stage)
    except MpoError:
        return Verdict("damaged", f"its manifest is damaged ({manifest_file(run, stage)})", (MANIFEST,))
    if held is None:
        made = [path for path in writes_of(run, recipe, stage) if path.exists()]
        return Verdict("begun", half_done) if made else Verdict("absent")
    fields = fields_of(recipe, stage)
    changed = _changed_field(held, fields, recipe)
    if changed:
        return Verdict("stale", changed)
    if stage == "train":
        try:
            start_of(run, recipe.train.num_steps)
        except MpoError as error:
            why, _, undo = str(error).partition("; ")
            return Verdict("stale", f"recipe.yaml says {why}", undo=undo)
    inputs = digests(run, inputs_of(run, recipe, stage))
    for name in sorted(held.inputs.keys() | inputs.keys()):
        if held.inputs.get(name) != inputs.get(name):
            how = "is new" if name not in held.inputs else "is gone" if name not in inputs else "has changed since"
            return Verdict("stale", f"what it was made from has changed: {name} {how}")
    if held.outputs is None:
        return Verdict("begun", half_done)
    if held.recipe != fields:
        return Verdict("begun", "not done: train.num_steps has changed")
    expected = held.outputs
    missing = tuple(name for name in expected if not (run.folder / name).is_file())
    damaged = tuple(n for n, digest in expected.items() if n not in missing and sha256(run.folder / n) != digest)
    table = run.candidates_table.name
    if table in expected and table not in (*missing, *damaged):
        gone, other = compare_candidates(run)
        missing, damaged = (*missing, *gone), (*damaged, *other)
    if missing and stage in ("train", "import-pairs") and missing != ("trained.json",):
        return Verdict("damaged", f"{missing[0]} is missing", missing)  # it cannot be made again alone
    if damaged:
        return Verdict("damaged", f"{damaged[0]} is not what stage {stage} wrote", damaged)
    if missing:
        return Verdict("missing", f"{missing[0]} is missing", missing)
    return Verdict("done")


def _changed_field(held: Manifest, now: dict[str, Any], recipe: Recipe) -> str:
    """Which field differs, in words; "" = none."""
    for name in sorted(held.recipe.keys() | now.keys()):
        before, after = held.recipe.get(name), now.get(name)
        if name == "train.num_steps" and recipe.train.lr_schedule == "constant":
            continue  # training continues, or ends where it is
        if name.startswith("judge") and name not in held.recipe.keys() & now.keys():
            continue  # they come and go with a validation section, which differs itself
        if before != after:
            where = "" if name.startswith("the ") else "recipe.yaml says "
            return f"{where}{name}={after!r}, but it was made with {before!r}"
    return ""


def is_done(run: RunFolder, recipe: Recipe, stage: str) -> bool:
    """Whether nothing is left to do or to put right, up to a stage. Writes nothing."""
    stages = stages_of(recipe)
    upto = (PREPARE, *stages[: stages.index(stage) + 1])
    return all(examine(run, recipe, each).state == "done" for each in upto)


def require_earlier(run: RunFolder, recipe: Recipe, stage: str) -> None:
    """Raises MpoError unless earlier stages are done, or at least nothing that this stage reads is missing."""
    needed = {p.relative_to(run.folder).parts[0] for p in inputs_of(run, recipe, stage)}
    if stage in ("score", "encode"):
        needed.add("candidates")
    for earlier in (PREPARE, *stages_of(recipe)):
        if earlier == stage:
            return
        verdict = examine(run, recipe, earlier)
        makes = {p.relative_to(run.folder).parts[0] for p in writes_of(run, recipe, earlier)}
        if verdict.state in ("stale", "damaged"):
            raise MpoError(f"{stage}: {remedy(run, earlier, verdict)}")
        concerned = {Path(name).parts[0] for name in verdict.names} or makes
        if verdict.state != "done" and needed & concerned:
            words = verdict.why if verdict.names else f"stage {earlier} is {verdict.why or 'not done'}"
            raise MpoError(f"{stage}: {words}; run `mpo {earlier} {run.folder}` first")


def remedy(run: RunFolder, stage: str, verdict: Verdict) -> str:
    """What is wrong, and the command that puts it right: one line."""
    if stage == PREPARE:
        first = "generate" if (run.candidates_table.exists() and not run.preferences.exists()) else "import-pairs"
        if verdict.state != "stale":
            return f"{verdict.why}; run `mpo {first} {run.folder} --repair`, which makes the prompts' tables again"
        return f"{verdict.why}; set it back, or use another folder with --from {run.folder}"
    if verdict.state == "stale":
        return f"stage {stage}: {verdict.why}; {verdict.undo}, or run `mpo {stage} {run.folder} --redo`, which makes it and all later stages again"
    return f"stage {stage}: {verdict.why}; run `mpo {stage} {run.folder} --repair`, which makes it again"


def begin(run: RunFolder, recipe: Recipe, stage: str) -> Manifest:
    """Record what goes into a stage, before it writes anything."""
    remember_candidates(run)
    inputs = digests(run, inputs_of(run, recipe, stage))
    manifest = Manifest(stage, fields_of(recipe, stage), inputs, None, library_versions())
    if read_manifest(run, stage) != manifest:
        write_manifest(run, manifest)
    return manifest


def finish(run: RunFolder, recipe: Recipe, manifest: Manifest) -> None:
    """Record what a stage has made."""
    outputs = outputs_of(run, recipe, manifest.stage)
    write_manifest(run, Manifest(manifest.stage, manifest.recipe, manifest.inputs, outputs, manifest.versions))
    redone = pending_redo(run)
    if redone and redone.stage == manifest.stage:
        delete(run.redo)


def repair(run: RunFolder, recipe: Recipe, stage: str, names: Iterable[str]) -> list[str]:
    """Delete what is damaged, so that the stage makes it again; returns what was deleted."""
    names = list(names)
    if names == [MANIFEST]:  # what it made cannot be told from damage without it
        doomed = [manifest_file(run, stage), *writes_of(run, recipe, stage)]
    elif stage == "import-pairs":
        doomed = writes_of(run, recipe, stage)
    elif stage == "train":
        logs = {run.training_log.name, run.validation_log.name}
        lost = unvalidated_steps(run, recipe.validation.interval_steps) if recipe.validation else []
        names += [f"{run.checkpoints.name}/step-{step:06d}/state.json" for step in lost]
        # Validations belong to the checkpoints: all from the first damaged one are made again.
        steps = {Path(name).parts[1] for name in names if name.startswith("validation/")}
        if logs & set(names) or 0 in lost or "step-000000" in steps:
            doomed = writes_of(run, recipe, stage)  # what the steps recorded can only be restored by taking them again
        else:
            files = [run.folder / name for name in names] + [run.checkpoints / step / "state.json" for step in steps]
            folders = damaged_checkpoints(run, files)
            doomed = [run.trained, *folders, *(run.validation / folder.name for folder in folders)]
    else:
        doomed = [run.folder / name for name in names]
    for path in doomed:
        delete(path)
    return [path.relative_to(run.folder).as_posix() for path in doomed]


def redo(run: RunFolder, recipe: Recipe, stage: str) -> list[str]:
    """Delete what a stage and later ones have made; returns the names of those that had made anything.

    redo.json says so until the stage is done again: half-deleted work must not pass for damaged or unfinished work.
    """
    undone = []
    write_json(run.redo, asdict(Redo(stage, deleted=False)))
    for later in stages_from(recipe, stage):
        paths = [path for path in (*writes_of(run, recipe, later), manifest_file(run, later)) if path.exists()]
        for path in paths:
            delete(path)
        undone += [later] if paths else []
    write_json(run.redo, asdict(Redo(stage, deleted=True)))
    return undone


@dataclass(frozen=True)
class Redo:
    """What redo.json holds."""

    stage: str
    deleted: bool  # whether all is deleted that the stage and later ones had made


def pending_redo(run: RunFolder) -> Redo | None:
    """The --redo whose stage is not done again; None = there is none. Raises MpoError if redo.json is damaged."""
    if not run.redo.exists():
        return None
    try:
        return Redo(**read_json(run.redo))
    except (MpoError, TypeError):
        raise MpoError(f"{run.redo} is damaged; delete it, and see `mpo status {run.folder}`") from None


def status(run: RunFolder, recipe: Recipe) -> list[tuple[str, Verdict, str]]:
    """Each stage in order: its verdict, and what to do about it ("" = nothing)."""
    rows = []
    broken = ""  # the first stage to be put right
    for stage in (PREPARE, *stages_of(recipe)):
        try:
            verdict = examine(run, recipe, stage)
        except MpoError as error:  # a manifest, or a table that it leads to, is damaged
            verdict = Verdict("damaged", str(error))
        todo = ""
        if broken and verdict.state != "absent":
            todo = f"after {broken}"  # by itself, or to be judged then
        elif verdict.state in ("stale", "damaged") and stage == PREPARE:
            todo = remedy(run, stage, verdict).partition("; ")[2]
        elif verdict.state in ("stale", "damaged"):
            todo = f"mpo {stage} {run.folder} --{'redo' if verdict.state == 'stale' else 'repair'}"
        elif verdict.state != "done" and stage != PREPARE:
            todo = f"mpo {stage} {run.folder}"
        if verdict.state in ("stale", "damaged") and not broken:
            broken = stage
        rows.append((stage, verdict, todo))
    return rows
