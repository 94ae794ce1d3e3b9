"""The model card beside the LoRA: what it is, how it was made, how it did, what it is not."""

from typing import Any

from huggingface_hub import ModelCardData

from mpo.comparison.win_rates import opinions, read_evaluation
from mpo.export.card_samples import CardSamples
from mpo.models import SHIPPED
from mpo.models.loading import load_index
from mpo.recipe import METHODS, Recipe, dump_recipe
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import read_selection
from mpo.runtime.hub import is_hub_id
from mpo.training.checkpoint_files import result_of
from reward.judging import judges_in_words


def model_card(
    run: RunFolder, recipe: Recipe, *, peft: bool = False, elsewhere: str = "", samples: CardSamples | None = None
) -> str:
    """Markdown with the hub's YAML front matter: what it is, how it was made, how it did, what it is not.

    elsewhere: a sentence about other programs than diffusers. samples: files beside the card that it shows.
    """
    _, scores, summary = read_evaluation(run)
    selection = read_selection(run)
    table = "\n".join(
        f"| {name} | {entry['win_rate']:.3f} | {entry['ci95'][0]:.3f} to {entry['ci95'][1]:.3f} | {entry['tie_rate']:.3f} | {entry['base_mean']:.3f} | {entry['tuned_mean']:.3f} |"
        for name, entry in [("total", summary["total"]), *summary["dimensions"].items()]
    )
    base = recipe.model.path
    return f"""---
{_hub_data(recipe, scores.checklist.kind, samples).to_yaml()}
---
# {recipe.name}

A LoRA of rank {recipe.train.rank} for `{base}`, trained with {METHODS[recipe.train.objective]} on pairs of
{_selection_words(recipe, scores.checklist.fingerprint)} (method: arXiv 2412.21059).

```python
{_how_to_load(recipe, peft=peft)}
```

{elsewhere}
{_shown(samples) if samples else ""}
## Training
{selection["num_kept"]} pairs over {selection["num_prompts"]} prompts, from {selection["num_candidates"]} candidates;
{result_of(run)} steps of {recipe.train.batch_size} pairs, beta {recipe.train.beta:g} on mean squared errors, learning rate {recipe.train.learning_rate:g}.

## Evaluation
Tuned against base on {summary["total"]["num_prompts"]} held-out prompts at {recipe.evaluate.num_seeds} paired seeds each, by {_the_judge(recipe)}.
Scores that differ by no more than {summary["tie_threshold"]:.2g} are a tie, which counts half a win; intervals are 95 %, by bootstrap over prompts.

| dimension | win rate | 95 % interval | tie rate | base mean | tuned mean |
|---|---|---|---|---|---|
{table}
{_beyond_the_judge(summary)}
## Limits
The LoRA is tuned for what the judge measures, and inherits the weaknesses of the judge and the base model. No person has rated it.

## Recipe
```yaml
{dump_recipe(recipe).rstrip()}
```
"""


def _beyond_the_judge(summary: dict[str, Any]) -> str:
    """What judges say that had no part in choosing, and what no judge sees."""
    lines = []
    if summary["judges"]:
        lines += [
            "\nBy judges that had no part in choosing:\n",
            "| judge | win rate | 95 % interval | base mean | tuned mean | of the gain above |",
            "|---|---|---|---|---|---|",
        ]
        for row in opinions(summary):
            low, high = row.rates["ci95"]
            means = f"{row.rates['base_mean']:.3f} | {row.rates['tuned_mean']:.3f}"
            lines.append(
                f"| {row.judge}: {row.name} | {row.rates['win_rate']:.3f} | {low:.3f} to {high:.3f} | {means} | {row.verdict} |"
            )
    for name, guard in summary["guards"].items():
        low, high = guard["ci95"]
        lines.append(f"\n{name.capitalize()}, tuned / base: {guard['ratio']:.3f} ({low:.3f} to {high:.3f}).")
    return "\n".join(lines) + ("\n" if lines else "")


def _hub_data(recipe: Recipe, kind: str, samples: CardSamples | None) -> ModelCardData:
    """What the hub reads. The licence of a LoRA is that of its model, which the hub shows where that has a page."""
    base = recipe.model.path
    on_hub = base not in SHIPPED and is_hub_id(base)
    licence: dict[str, Any] = {"license": "apache-2.0"} if base in SHIPPED else {}
    if on_hub:
        licence = {
            "license": "other",
            "license_name": "that-of-the-base-model",
            "license_link": f"https://huggingface.co/{base}",
        }
    widget = [
        {"text": prompt, "output": {"url": tuned}}
        for prompt, (_, tuned) in (zip(samples.prompts, samples.files, strict=True) if samples else ())
    ]
    return ModelCardData(
        base_model=base if on_hub else None,
        base_model_relation="adapter",
        library_name="diffusers",
        pipeline_tag=f"text-to-{kind}",
        tags=["lora", f"text-to-{kind}", recipe.train.objective, "multi-dimensional-preference-optimisation"],
        widget=widget or None,
        **licence,
    )


def _shown(samples: CardSamples) -> str:
    """The samples as a section: the base model's beside the tuned one's, and the strip of strengths."""
    rows = "\n".join(
        f"| {prompt} | {_media(base)} | {_media(tuned)} |"
        for prompt, (base, tuned) in zip(samples.prompts, samples.files, strict=True)
    )
    return f"""
## Samples
The first held-out prompts, each at one seed.

| prompt | base | tuned |
|---|---|---|
{rows}

The first of them with the LoRA at strength {", ".join(f"{s:g}" for s in samples.strengths)}:

{_media(samples.strip)}
"""


def _media(file: str) -> str:
    """A picture or a clip in Markdown, as the hub shows it."""
    return (
        f'<video src="{file}" autoplay loop muted playsinline></video>'
        if file.endswith(".mp4")
        else f"![{file}]({file})"
    )


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


def _the_judge(recipe: Recipe) -> str:
    if recipe.select.strategy == "given":
        return f"the {judges_in_words(recipe.judge)}, which was not asked about the training pairs"
    return "the judge that also selected the training pairs"


def _selection_words(recipe: Recipe, checklist: str) -> str:
    pictures = f"`{recipe.preferences.path}`" if recipe.preferences else "its own samples"
    if recipe.select.strategy == "given":
        return f"{pictures}, as people compared them"
    return f"{pictures}, selected by `{recipe.select.strategy}` from the scores of the {judges_in_words(recipe.judge)} on the checklist\n`{checklist}`"
