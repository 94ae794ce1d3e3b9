"""The prompts of a new recipe: one file split into those that train, are held out and validate, or a file each."""

from collections.abc import Mapping
from typing import Any

from mpo import MpoError
from mpo.data.prompts import read_prompts
from mpo.first_steps.answers import SHIPPED_PROMPTS, Answers
from mpo.first_steps.draft import Draft
from mpo.recipe import TABLE_FILES, PromptSource, find_prompts
from mpo.runtime.hub import is_hub_id

COLUMNS = ("prompt", "caption", "text", "Prompt", "Prompts")  # of tables, the first that is there
# Of the prompts that are held out, and that validate: more of few, so that a win rate says something.
FEW = 1000
SHARES = {"few": (0.2, 0.1), "many": (0.1, 0.05)}
MIN_VALIDATION = 8  # prompts; with fewer the best checkpoint is a matter of luck


def set_prompts(draft: Draft, answers: Answers) -> int | None:
    """How many prompts train; None = those of the shipped recipe, or a number that is not known here."""
    if answers.prompts == SHIPPED_PROMPTS:
        if answers.heldout is not None:
            draft.set(("prompts", "heldout"), _source(answers.heldout, "--heldout")[0])
        return None
    shipped = draft.fields["prompts"]
    limits = {
        name: (shipped[name] or {}).get("limit") if isinstance(shipped.get(name), Mapping) else None
        for name in ("train", "heldout", "validation")
    }
    source, num = _source(answers.prompts, "--prompts")
    if num is None:  # on the hub: nothing is read from there now
        draft.set(("prompts", "train"), _limited(source, limits["train"], None))
        if answers.heldout is not None:
            other, num_heldout = _source(answers.heldout, "--heldout")
            draft.set(("prompts", "heldout"), _limited(other, limits["heldout"], num_heldout))
        return None
    held, validates = SHARES["few" if num < FEW else "many"]
    if answers.heldout is not None:
        other, num_heldout = _source(answers.heldout, "--heldout")
        draft.set(("prompts", "heldout"), _limited(other, limits["heldout"], num_heldout))
        held = 0.0
    elif num < 2:
        raise MpoError(f"--prompts={answers.prompts!r} holds one prompt; give at least two, or others in --heldout")
    elif num < 5:
        held = 0.5
    first = round(held + validates, 6)
    if not draft.has("validation") or round(first * num) - round(held * num) < MIN_VALIDATION:
        draft.remove("validation")
        draft.remove("prompts", "validation")
        first = held
    parts = {"heldout": (0.0, held), "validation": (held, first), "train": (first, 1.0)}
    counts = {name: round(high * num) - round(low * num) for name, (low, high) in parts.items()}
    said = {"heldout": "held out", "validation": "to find the best checkpoint", "train": "to train on"}
    for name, (low, high) in parts.items():
        if low == high:
            continue
        part = {**source, "shuffle_seed": 0} | ({"share": [low, high]} if (low, high) != (0.0, 1.0) else {})
        draft.set(
            ("prompts", name),
            _limited(part, limits[name], counts[name]),
            f"{counts[name]} of {num} prompts, {said[name]}",
        )
    order = [name for name in ("train", "heldout", "validation", *shipped) if name in shipped]
    draft.fields["prompts"] = {
        name: draft.fields["prompts"][name] for name in dict.fromkeys(order) if draft.has("prompts", name)
    }
    return min(counts["train"], limits["train"] or counts["train"])


def _limited(source: Mapping[str, Any], limit: int | None, num: int | None) -> dict[str, Any]:
    """As many of a source's prompts as the shipped recipe takes, at random. num: None = unknown."""
    if limit is None or (num is not None and num <= limit):
        return dict(source)
    return {**source, "limit": limit, "shuffle_seed": 0}


def _source(text: str, flag: str) -> tuple[dict[str, Any], int | None]:
    """A source of prompts, and how many different ones it holds; None = it is on the hub."""
    path = find_prompts(text)
    if not path.exists() and not text.endswith((".txt", *TABLE_FILES)) and is_hub_id(text) and "/" in text:
        return {"path": text}, None
    if path.suffix == ".txt":
        return {"path": text}, len(read_prompts(PromptSource(path=text), field=flag))
    problem = None
    for column in COLUMNS:
        try:
            num = len(read_prompts(PromptSource(path=text, column=column), field=flag))
        except MpoError as error:
            problem = problem or error
            continue
        return {"path": text} | ({} if column == "prompt" else {"column": column}), num
    assert problem is not None
    raise problem
