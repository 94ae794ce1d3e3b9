"""What a card shows: samples of base and tuned beside each other, and one sample at rising strengths of the LoRA."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from peft.tuners.lora import LoraLayer

from mpo.models.families import denoiser_of
from mpo.models.sampling import draw_samples, samples_for
from mpo.recipe import Recipe
from mpo.run_folder.media import SUFFIX, kind_of, playable, read_pixels, write_media
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import read_table
from reward.checklist import Kind

NUM_PROMPTS = 4  # the first held-out ones: none is picked by hand
STRENGTHS: Mapping[Kind, tuple[float, ...]] = {"image": (0, 0.25, 0.5, 0.75, 1, 1.25, 1.5), "video": (0, 0.5, 1, 1.5)}


@dataclass(frozen=True)
class CardSamples:
    """Files in the card's folder."""

    prompts: tuple[str, ...]
    files: tuple[tuple[str, str], ...]  # base and tuned of each prompt, at one seed
    strengths: tuple[float, ...]
    strip: str  # the first prompt at these strengths, side by side


def write_samples(folder: Path, run: RunFolder, recipe: Recipe, pipeline: Any) -> CardSamples:
    """Files of the evaluation, and what the pipeline, with the LoRA loaded, makes at other strengths -> FOLDER/samples/."""
    prompts = {r["prompt_id"]: r["prompt"] for r in read_table(run.heldout_prompts, made_by="run").to_pylist()}
    first: dict[int, dict[str, Path]] = {}
    for row in read_table(run.evaluation_table, made_by="evaluate").to_pylist():
        first.setdefault(row["prompt_id"], {}).setdefault(row["model"], run.samples / row["file"])
    (folder / "samples").mkdir()
    shown = list(first)[:NUM_PROMPTS]
    files = tuple(
        (_copy(first[p]["base"], folder, f"{k}-base"), _copy(first[p]["tuned"], folder, f"{k}-tuned"))
        for k, p in enumerate(shown)
    )
    ends = first[shown[0]]
    kind = kind_of(ends["base"])
    rows = [{"prompt_id": shown[0], "prompt": prompts[shown[0]]}]
    [sample] = samples_for(
        rows, recipe, recipe.evaluate, folder=folder, purpose="evaluation", seed=recipe.evaluate.seed, num_seeds=1
    )
    made = []
    for strength in STRENGTHS[kind]:
        if strength in (0, 1):  # evaluated already, at the same seed
            made.append(read_pixels(ends["tuned" if strength else "base"]))
            continue
        _set_strength(denoiser_of(pipeline), strength)
        made += draw_samples(pipeline, [sample], recipe.evaluate)
    _set_strength(denoiser_of(pipeline), 1)
    strip = folder / "samples" / f"strengths{SUFFIX[kind]}"
    write_media(strip, np.concatenate(made, axis=-2), fps=sample.fps, origin={"strengths": list(STRENGTHS[kind])})
    if kind == "video":
        strip.write_bytes(playable(strip))
    name = strip.relative_to(folder).as_posix()
    return CardSamples(tuple(prompts[p] for p in shown), files, STRENGTHS[kind], name)


def _copy(file: Path, folder: Path, name: str) -> str:
    """A picture as it is, a clip in a form that browsers play; returns its path within the folder."""
    target = folder / "samples" / f"{name}{file.suffix}"
    target.write_bytes(file.read_bytes() if kind_of(file) == "image" else playable(file))
    return target.relative_to(folder).as_posix()


def _set_strength(denoiser: Any, strength: float) -> None:
    """Of all of its LoRAs, as a share of what they were trained at."""
    for layer in denoiser.modules():
        if isinstance(layer, LoraLayer):
            for name in layer.scaling:
                layer.set_scale(name, strength)
