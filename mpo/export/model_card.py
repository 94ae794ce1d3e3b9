"""The model card beside the LoRA: what it is, how it was made, how it did, what it is not."""

from mpo.comparison.win_rates import read_evaluation
from mpo.models import SHIPPED
from mpo.models.loading import load_index
from mpo.recipe import Recipe, dump_recipe
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import read_selection
from mpo.runtime.hub import is_hub_id
from mpo.training.checkpoint_files import result_of
from mpo.training.objectives import METHODS


def model_card(run: RunFolder, recipe: Recipe, *, peft: bool = False, elsewhere: str = "") -> str:
    """Markdown with the hub's YAML front matter: what it is, how it was made, how it did, what it is not.

    elsewhere: a sentence about other programs than diffusers.
    """
    _, scores, summary = read_evaluation(run)
    selection = read_selection(run)
    table = "\n".join(
        f"| {name} | {entry['win_rate']:.3f} | {entry['ci95'][0]:.3f} to {entry['ci95'][1]:.3f} | {entry['tie_rate']:.3f} | {entry['base_mean']:.3f} | {entry['tuned_mean']:.3f} |"
        for name, entry in [("total", summary["total"]), *summary["dimensions"].items()]
    )
    base = recipe.model.path
    return f"""---
{f"base_model: {base}" if base not in SHIPPED and is_hub_id(base) else "base_model_relation: adapter"}
library_name: diffusers
tags: [lora, text-to-{scores.checklist.kind}, {recipe.train.objective}, multi-dimensional-preference-optimisation]
---
# {recipe.name}

A LoRA of rank {recipe.train.rank} for `{base}`, trained with {METHODS[recipe.train.objective]} on pairs of
{_selection_words(recipe, scores.checklist.fingerprint)} (method: arXiv 2412.21059).

```python
{_how_to_load(recipe, peft=peft)}
```

{elsewhere}

## Training
{selection["num_kept"]} pairs over {selection["num_prompts"]} prompts, from {selection["num_candidates"]} candidates;
{result_of(run)} steps of {recipe.train.batch_size} pairs, beta {recipe.train.beta:g} on mean squared errors, learning rate {recipe.train.learning_rate:g}.

## Evaluation
Tuned against base on {summary["total"]["num_prompts"]} held-out prompts at {recipe.evaluate.num_seeds} paired seeds each, by the judge that also
selected the training pairs. Scores that differ by no more than {summary["tie_threshold"]:.2g} are a tie, which counts half a win; intervals are 95 %, by bootstrap over prompts.

| dimension | win rate | 95 % interval | tie rate | base mean | tuned mean |
|---|---|---|---|---|---|
{table}

## Limits
The LoRA is tuned for what the judge measures, and inherits the weaknesses of the judge and the base model. No person has rated it.

## Recipe
```yaml
{dump_recipe(recipe).rstrip()}
```
"""


def _how_to_load(recipe: Recipe, *, peft: bool) -> str:
    """The lines of Python that load model and LoRA, in the folder of the card's parent."""
    model = recipe.model
    imports, load = ["from diffusers import DiffusionPipeline"], f"DiffusionPipeline.from_pretrained({model.path!r})"
    if model.path in SHIPPED:
        name = {"embedded": "EMBEDDED", "embedded-video": "EMBEDDED_VIDEO"}[model.path]
        imports = ["import torch", *imports, f"from mpo.models import {name}"]
        load = f"DiffusionPipeline.from_pretrained({name}).to(torch.float32)"
    elif model.is_one_file:
        name = load_index(model)["_class_name"]
        imports = [f"from diffusers import {name}"]
        load = f"{name}.from_single_file({model.path!r}" + (f", config={model.config!r})" if model.config else ")")
    into = ", load_into_transformer_2=True" if model.expert == "low" else ""
    add = f'pipeline.load_lora_weights("lora"{into})  # this folder'
    if peft:
        imports.append("from peft import PeftModel")
        add = 'pipeline.transformer = PeftModel.from_pretrained(pipeline.transformer, "lora")  # this folder'
    return "\n".join([*imports, "", f"pipeline = {load}", add])


def _selection_words(recipe: Recipe, checklist: str) -> str:
    pictures = f"`{recipe.preferences.path}`" if recipe.preferences else "its own samples"
    if recipe.select.strategy == "given":
        return f"{pictures}, as people compared them"
    return f"{pictures}, selected by `{recipe.select.strategy}` from the scores of the `{recipe.judge.name}` judge on the checklist\n`{checklist}`"
