"""Stage export: the LoRA as a file that stock diffusers loads, with a model card."""

import json
from pathlib import Path
from typing import Any

from diffusers.utils import convert_state_dict_to_diffusers
from safetensors.torch import save_file

from mpo.checkpoint import final_lora, result_of
from mpo.evaluate import read_evaluation
from mpo.families import denoiser_name
from mpo.lora import add_lora, load_lora, lora_state
from mpo.models import load_pipeline
from mpo.objective import METHODS
from mpo.recipe import Recipe, dump_recipe, read_recipe
from mpo.select import read_selection
from mpo.store import LORA_WEIGHTS, Run, replacing


def export(folder: str | Path) -> None:
    """checkpoints/ -> lora/pytorch_lora_weights.safetensors, lora/README.md."""
    run = Run(folder)
    if run.lora.exists():
        return
    recipe = read_recipe(run.recipe)
    pipeline = load_pipeline(recipe.model)
    denoiser = add_lora(pipeline, recipe.train)
    load_lora(denoiser, final_lora(run))
    card = model_card(run, recipe, peft=not hasattr(pipeline, "load_lora_weights"))
    with replacing(run.lora) as temporary:
        write_lora(temporary, pipeline, denoiser)
        (temporary / "README.md").write_text(card, "utf-8")


def write_lora(folder: Path, pipeline: Any, denoiser: Any) -> None:
    """The LoRA as the pipeline's own `load_lora_weights` reads it, or for a pipeline without one as peft does."""
    state, config = lora_state(denoiser), denoiser.peft_config["default"]
    # Without the configuration a loader takes alpha = rank, and the LoRA acts with another strength.
    metadata = _jsonable(config.to_dict())
    if hasattr(pipeline, "save_lora_weights"):
        name = denoiser_name(pipeline)
        layers: Any = convert_state_dict_to_diffusers(state) if name == "unet" else state
        pipeline.save_lora_weights(folder, **{f"{name}_lora_layers": layers, f"{name}_lora_adapter_metadata": metadata})
        _sort_header(folder / LORA_WEIGHTS)
    else:
        folder.mkdir()
        save_file({f"base_model.model.{key}": value for key, value in state.items()}, folder / PEFT_WEIGHTS)
        (folder / "adapter_config.json").write_text(json.dumps(metadata, indent=2, sort_keys=True) + "\n", "utf-8")


def _jsonable(config: dict) -> dict:
    """Sets, whose order varies from process to process, as sorted lists: equal runs, equal bytes."""
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    return json.loads(json.dumps(plain, default=str))


def _sort_header(file: Path) -> None:
    """Put a safetensors header in order: the library writes its metadata in an order that varies by process.

    Layout: header length as 8 bytes little-endian, header as JSON padded with spaces to a multiple of 8, tensors.
    """
    data = file.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    file.unlink()  # which only its owner may read; a new file gets the rights that files have here
    file.write_bytes(len(header).to_bytes(8, "little") + header + data[end:])


PEFT_WEIGHTS = "adapter_model.safetensors"


def model_card(run: Run, recipe: Recipe, *, peft: bool = False) -> str:
    """Markdown with the hub's YAML front matter: what it is, how it was made, how it did, what it is not."""
    _, scores, summary = read_evaluation(run)
    selection = read_selection(run)
    table = "\n".join(
        f"| {name} | {entry['win_rate']:.3f} | {entry['ci95'][0]:.3f} to {entry['ci95'][1]:.3f} | {entry['tie_rate']:.3f} | {entry['base_mean']:.3f} | {entry['tuned_mean']:.3f} |"
        for name, entry in [("total", summary["total"]), *summary["dimensions"].items()]
    )
    base = recipe.model.path
    return f"""---
{f"base_model: {base}" if base != "embedded" else "base_model_relation: adapter"}
library_name: diffusers
tags: [lora, text-to-image, {recipe.train.objective}, multi-dimensional-preference-optimisation]
---
# {recipe.name}

A LoRA of rank {recipe.train.rank} for `{base}`, trained with {METHODS[recipe.train.objective]} on pairs of
{_selection_words(recipe, scores.checklist.fingerprint)} (method: arXiv 2412.21059).

```python
{"import torch" + chr(10) if base == "embedded" else ""}from diffusers import DiffusionPipeline
{"from peft import PeftModel" + chr(10) if peft else ""}{"from mpo.models import EMBEDDED" + chr(10) if base == "embedded" else ""}
pipeline = DiffusionPipeline.from_pretrained({"EMBEDDED).to(torch.float32" if base == "embedded" else repr(base)})
{'pipeline.transformer = PeftModel.from_pretrained(pipeline.transformer, "lora")  # this folder' if peft else 'pipeline.load_lora_weights("lora")  # this folder'}
```

## Training
{selection["num_kept"]} pairs over {selection["num_prompts"]} prompts, from {selection["num_candidates"]} candidates;
{result_of(run)} steps of {recipe.train.batch_size} pairs, beta {recipe.train.beta:g} on mean squared errors, learning rate {recipe.train.learning_rate:g}.

## Evaluation
Tuned against base on {summary["total"]["num_prompts"]} held-out prompts at {recipe.evaluate.num_seeds} paired seeds each, by the judge that also
selected the training pairs. A win rate counts a tie as half; intervals are 95 %, by bootstrap over prompts.

| dimension | win rate | 95 % interval | tie rate | base mean | tuned mean |
|---|---|---|---|---|---|
{table}

## Limits
The LoRA serves what the judge measures, and inherits what the judge and the base model cannot do. No person has rated it.

## Recipe
```yaml
{dump_recipe(recipe).rstrip()}
```
"""


def _selection_words(recipe: Recipe, checklist: str) -> str:
    pictures = f"`{recipe.preferences.path}`" if recipe.preferences else "its own samples"
    if recipe.select.strategy == "given":
        return f"{pictures}, as people compared them"
    return f"{pictures}, selected by `{recipe.select.strategy}` from the scores of the `{recipe.judge.name}` judge on the checklist\n`{checklist}`"
