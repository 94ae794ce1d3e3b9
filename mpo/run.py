"""A whole run: the stages in order, and the checks before the first of them."""

import importlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa

from mpo import MpoError
from mpo.progress import say
from mpo.prompts import read_prompt_sets
from mpo.recipe import Recipe, dump_recipe, read_recipe
from mpo.store import Run, write_table, write_text
from reward.checklist import PROMPT_FIELD

PROMPTS = pa.schema([("prompt_id", pa.int64()), ("prompt", pa.string())])

STAGES = ("generate", "score", "select", "encode", "train", "evaluate", "export", "report")


def stage_function(stage: str) -> Callable[..., None]:
    """The function of a stage. Imported late: the first takes diffusers along, which takes seconds."""
    return getattr(importlib.import_module(f"mpo.{stage}"), stage)


def check(recipe: Recipe) -> tuple[list[str], list[str]]:
    """Everything that can be checked before weights load; returns training and held-out prompts.

    Raises ValueError (MpoError, ChecklistError, JudgeError) with one line that names field, value and remedy.
    """
    from mpo.models import check_model
    from mpo.score import load_reward
    from mpo.select import lead_of

    train, heldout = read_prompt_sets(recipe)
    reward = load_reward(recipe)
    lead_of(recipe.select.strategy, reward.checklist)
    if any(PROMPT_FIELD in question.text for question in reward.checklist):
        reward.judge.require_prompts([*train, *heldout])
    check_model(recipe.model)
    return train, heldout


def prepare(recipe: Recipe, output: str | Path) -> Run:
    """Check, then write recipe.yaml and the prompt tables. Refuses a folder that holds another recipe's run."""
    run = Run(output)
    resolved = dump_recipe(recipe)
    if run.recipe.exists():
        if read_recipe(run.recipe) != recipe:
            differing = _differences(read_recipe(run.recipe), recipe)
            raise MpoError(
                f"--output {str(output)!r} holds a run of another recipe (it differs in {', '.join(differing)}); use another folder"
            )
    elif run.folder.exists() and any(run.folder.iterdir()):
        raise MpoError(f"--output {str(output)!r} is not empty and holds no run; use another folder")
    train, heldout = check(recipe)
    for path, prompts in ((run.prompts, train), (run.heldout_prompts, heldout)):
        if not path.exists():
            write_table(path, {"prompt_id": list(range(len(prompts))), "prompt": prompts}, PROMPTS)
    if not run.recipe.exists():  # last: where it stands, the tables stand too
        write_text(run.recipe, resolved)
    return run


def _differences(held: Recipe, wanted: Recipe) -> list[str]:
    names = []
    for name in Recipe.model_fields:
        a, b = getattr(held, name), getattr(wanted, name)
        if a != b:
            names += (
                [f"{name}.{key}" for key in type(a).model_fields if getattr(a, key) != getattr(b, key)]
                if hasattr(type(a), "model_fields")
                else [name]
            )
    return names


def run_recipe(recipe: Recipe, output: str | Path, *, stages: Sequence[str] = STAGES, repair: bool = False) -> None:
    """The stages from first to last. What is done already is not done again.

    With `repair`, damaged candidates are made again first.
    """
    run = prepare(recipe, output)
    for stage in stages:
        run_stage(run.folder, stage, repair=repair)


def run_stage(folder: str | Path, stage: str, *, repair: bool = False) -> None:
    """One stage of a prepared run. Raises MpoError where the folder is no run."""
    run = Run(folder)
    if not run.recipe.is_file():
        raise MpoError(
            f"{str(folder)!r} is no run: it holds no recipe.yaml; make one with `mpo run RECIPE --output {folder}`"
        )
    run.log_event("start", stage=stage, pid=os.getpid())
    say(f"{stage} ...")
    stage_function(stage)(folder, **({"repair": True} if repair and stage == "generate" else {}))
    run.log_event("done", stage=stage)


def plan(recipe: Recipe) -> list[tuple[str, str]]:
    """Each stage and what it will do, in numbers."""
    train, heldout = check(recipe)
    g, t, e = recipe.generate, recipe.train, recipe.evaluate
    num_candidates = len(train) * g.num_candidates
    num_samples = 2 * len(heldout) * e.num_seeds
    kept = f"at most {recipe.select.num_pairs} pairs" if recipe.select.num_pairs else "all pairs"
    per_prompt = f", at most {recipe.select.pairs_per_prompt} a prompt" if recipe.select.pairs_per_prompt else ""
    return [
        (
            "generate",
            f"{num_candidates} candidates: {len(train)} prompts x {g.num_candidates}, {g.num_inference_steps} steps, guidance {g.guidance_scale:g}",
        ),
        ("score", f"judge {recipe.judge.name}, checklist {recipe.judge.checklist}"),
        ("select", f"{recipe.select.strategy}, margin {recipe.select.margin:g}: {kept}{per_prompt}"),
        ("encode", "latents and prompt embeddings of the selected pairs"),
        (
            "train",
            f"{t.num_steps} steps of {t.batch_size} pairs, LoRA rank {t.rank}, beta {t.beta:g}, learning rate {t.learning_rate:g}",
        ),
        ("evaluate", f"{num_samples} pictures: {len(heldout)} held-out prompts x {e.num_seeds} seeds x base and tuned"),
        ("export", "lora/pytorch_lora_weights.safetensors and a model card"),
        ("report", "evaluation/report.html"),
    ]
