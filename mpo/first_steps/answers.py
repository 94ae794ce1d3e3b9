"""What `mpo init` asks, and what an answer may be."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mpo import MpoError
from mpo.recipe import Model, shipped_recipes
from reward.checklist import Kind
from reward.errors import JudgeError
from reward.judges import own_checklist, suggested_checklist
from reward.judges.options import OPTIONS, check_options
from reward.judges.own import is_own, own_judge

SHIPPED_PROMPTS = "shipped"  # in place of a file: those of the shipped recipe
VLM = "Qwen/Qwen2.5-VL-7B-Instruct"  # as the shipped recipes have it


@dataclass(frozen=True)
class Answers:
    """What a new recipe is made from."""

    name: str  # of the recipe, as in its file
    model: str  # as a recipe's model.path
    prompts: str  # a file, a shipped set, a hub id, or "shipped"
    heldout: str | None  # the same; None = a part of the prompts is split off
    judge: str  # measured, vlm:MODEL, server:URL, a scorer, SCORER:MODEL, or module:Class
    memory_gb: float | None  # of the GPU; None = there is none
    like: str | None = None  # a shipped recipe's name; None = by the model's family


def recipe_name(text: str) -> str:
    """A recipe's name from what a user calls it or its file. Raises MpoError if that is a shipped recipe's, or none."""
    name = re.sub(r"[^a-z0-9.-]+", "-", Path(text).stem.lower() if text.endswith((".yaml", ".yml")) else text.lower())
    name = name.strip("-.")
    if not name:
        raise MpoError(f"name={text!r} has no letter or digit; give a name such as my-recipe")
    if name in shipped_recipes():
        raise MpoError(f"name={text!r} is a shipped recipe's, which `mpo run {name}` would run; give another")
    return name


def parse_memory(text: str, flag: str = "--gpu-memory", other: str = "none") -> float | None:
    """GB of "24GB", "24 GB" or "24"; None of "none". Raises MpoError for anything else."""
    if text.strip().lower() == "none":
        return None
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:gi?b?)?\s*", text, re.IGNORECASE)
    if not found or not float(found.group(1)):
        raise MpoError(f"{flag}={text!r} is no size; give one such as 24GB, or {other}")
    return float(found.group(1))


def parse_model(text: str) -> Model:
    """A recipe's model by its path. Raises MpoError for a path that no recipe may have."""
    try:
        return Model(path=text)
    except ValidationError as error:
        raise MpoError(f"--model={text!r}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None


def parse_judge(text: str, kind: Kind) -> dict[str, Any]:
    """A recipe's section `judge`. Raises JudgeError for an unknown judge, one without what it needs, or a scorer of the other kind."""
    section = _judge(text, kind)
    own = own_checklist(section["name"], section.get("options", {}))
    if own is not None and own.kind != kind:
        raise JudgeError(f"--judge={text!r} scores {own.kind}s, and this model makes {kind}s; give a judge of {kind}s")
    if is_own(section["name"]):
        own_judge(section["name"], {})
    else:
        check_options(section["name"], section.get("options", {}))
    return section


def _judge(text: str, kind: Kind) -> dict[str, Any]:
    name, _, given = text.partition(":")
    checklist = suggested_checklist(kind, name)
    match name:
        case "measured":
            if given:
                raise JudgeError(f"--judge={text!r}: the measured judge has no model; give --judge measured")
            return {"name": name, "checklist": checklist, **({"questions": "answerable"} if kind == "image" else {})}
        case "vlm":
            options = {"model": given or VLM, "dtype": "bfloat16", "batch_size": 8 if kind == "image" else 2}
            return {"name": name, "checklist": checklist, "options": options}
        case "server":
            if not given:
                raise JudgeError("--judge=server needs an address; give --judge server:http://localhost:8000/v1")
            return {"name": name, "checklist": checklist, "options": {"base_urls": [given]}}
        case "cogvlm2":
            raise JudgeError(
                f"--judge={text!r} runs code that comes with its checkpoint: give another judge here, and write this one into the file once you have read that code (docs/reward.md)"
            )
        case _ if name in OPTIONS:  # a scorer, which brings its own checklist
            return {"name": name, **({"options": {"model": given}} if given else {})}
        case _:
            own = own_checklist(text, {})
            return {"name": text, **({} if own else {"checklist": checklist})}
