"""A run's candidates, scores and pairs as a Hugging Face data set with a card, for others to train on or to look at.

Two configurations: `candidates` (a row each: prompt, picture or clip, scores) and `pairs` (prompt, chosen, rejected, margins,
the names that TRL uses). Parquet files with the pictures or clips inside; `datasets.load_dataset(FOLDER, "pairs")` reads them.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCardData

from mpo import MpoError
from mpo.recipe import Recipe, candidate_stage, dump_recipe, read_recipe
from mpo.run_folder.files import replacing
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import read_selection, read_table, rows_of
from mpo.runtime.progress import track
from mpo.scoring import scored_checklist
from reward import Checklist
from reward.checklist import Kind
from reward.judging import checklist_of_all, judges_in_words

SHARD = 1000  # rows in a file


def publish(folder: str | Path, output: str | Path) -> None:
    """Write the data set of a run to a new folder. Raises MpoError if pairs are missing or the folder exists."""
    import datasets

    run, output = RunFolder(folder), Path(output)
    if output.exists():
        raise MpoError(f"--output {str(output)!r} exists; give a new folder")
    run.require()
    recipe = read_recipe(run.recipe)
    pairs = rows_of(read_table(run.pairs, made_by="select"))
    checklist = None
    scores: Sequence[dict[str, Any]] = []
    if run.scores.exists():  # missing if pairs came as given
        table = read_table(run.scores, made_by="score")
        checklist = scored_checklist(table, run.scores)
        scores = rows_of(table)
    candidates = rows_of(read_table(run.candidates_table, made_by=candidate_stage(recipe)))
    prompts = [row["prompt"] for row in rows_of(read_table(run.prompts, made_by="run"))]
    names = checklist.dimensions if checklist else ()
    kind = checklist_of_all(recipe.judge).kind

    def media(candidate_id: int) -> dict[str, Any]:
        file = run.candidates / candidates[candidate_id]["file"]
        return {"bytes": file.read_bytes(), "path": file.name}

    def candidate_rows() -> Iterator[dict[str, Any]]:
        for k, row in enumerate(candidates):
            values: dict[str, Any] = {"candidate_id": row["candidate_id"], "prompt": prompts[row["prompt_id"]]}
            values |= {kind: media(row["candidate_id"]), "seed": row["seed"]}
            if scores:
                values |= {"total": scores[k]["total"], **dict(zip(names, scores[k]["dimensions"], strict=True))}
                values["answers"] = scores[k]["answers"]
            yield values

    def pair_rows() -> Iterator[dict[str, Any]]:
        for row in pairs:
            values = {"prompt": prompts[row["prompt_id"]]}
            values |= {side: media(row[f"{side}_id"]) for side in ("chosen", "rejected")}
            values |= {"chosen_id": row["chosen_id"], "rejected_id": row["rejected_id"]}
            if scores:
                values |= {"margin": row["margin"]}
                values |= {f"margin_{name}": m for name, m in zip(names, row["dimension_margins"], strict=True)}
            yield values

    number, text = datasets.Value("float64"), datasets.Value("string")
    medium = datasets.Image() if kind == "image" else datasets.Video()
    whole = datasets.Value("int64")
    candidate_features = {"candidate_id": whole, "prompt": text, kind: medium, "seed": whole}
    pair_features = {"prompt": text, "chosen": medium, "rejected": medium, "chosen_id": whole, "rejected_id": whole}
    if scores:
        candidate_features |= {"total": number, **dict.fromkeys(names, number), "answers": datasets.List(number)}
        pair_features |= {"margin": number, **{f"margin_{name}": number for name in names}}
    with replacing(output) as temporary, track("dataset", total=len(candidates) + len(pairs)) as advance:
        for name, rows, features, count in (
            ("candidates", candidate_rows(), candidate_features, len(candidates)),
            ("pairs", pair_rows(), pair_features, len(pairs)),
        ):
            _write(temporary / name, rows, datasets.Features(features), count, advance)
        (temporary / "README.md").write_text(_card(run, recipe, kind, checklist, len(candidates), len(pairs)), "utf-8")


def _write(folder: Path, rows: Iterator[dict[str, Any]], features: Any, count: int, advance: Any) -> None:
    import datasets

    folder.mkdir(parents=True)
    num_shards = -(-count // SHARD)
    for shard in range(num_shards):
        block = [row for _, row in zip(range(min(SHARD, count - shard * SHARD)), rows, strict=False)]
        columns = {name: [row[name] for row in block] for name in features}
        data = datasets.Dataset.from_dict(columns, features=features)
        data.to_parquet(str(folder / f"train-{shard:05d}-of-{num_shards:05d}.parquet"))
        advance(len(block))


def size_category(num_rows: int) -> str:
    """As the hub sorts data sets: n<1K, 1K<n<10K, and so on."""
    steps = ["1K", "10K", "100K", "1M", "10M", "100M", "1B"]
    k = sum(num_rows >= 10**n for n in range(3, 3 + len(steps)))
    return f"n<{steps[0]}" if k == 0 else f"n>{steps[-1]}" if k == len(steps) else f"{steps[k - 1]}<n<{steps[k]}"


def _card(
    run: RunFolder, recipe: Recipe, kind: Kind, checklist: Checklist | None, num_candidates: int, num_pairs: int
) -> str:
    """Markdown with the hub's YAML front matter."""
    selection = read_selection(run)
    made = {"image": "pictures", "video": "clips"}[kind]
    origin = (
        f"{made.capitalize()} and prompts are those of `{recipe.preferences.path}`."
        if recipe.preferences
        else f"{made.capitalize()} are samples of `{recipe.model.path}`."
    )
    scored = "Nothing was scored: pairs are as their source has them."
    if checklist is not None:
        dimensions = ", ".join(f"`{name}`" for name in checklist.dimensions)
        scored = f"""Scored by the {judges_in_words(recipe.judge)} on the checklist `{checklist.fingerprint}` (method: arXiv 2412.21059):
`total` and the dimensions {dimensions}. `answers` are +1 yes, -1 no, 0 does not apply, or a probability, in the order of
the questions below. Pairs are those of strategy `{selection["strategy"]}` at margin {selection["margin"]}."""
    questions = "\n".join(f"{k + 1}. `{q.id}`: {q.text}" for k, q in enumerate(checklist)) if checklist else "None."
    data = DatasetCardData(
        pretty_name=recipe.name,
        tags=["preference", f"text-to-{kind}", "multi-dimensional-preference-optimisation"],
        task_categories=[f"text-to-{kind}"],
        size_categories=[size_category(num_candidates)],
        configs=[
            {"config_name": "pairs", "data_files": "pairs/*.parquet", "default": True},
            {"config_name": "candidates", "data_files": "candidates/*.parquet"},
        ],
    )
    return f"""---
{data.to_yaml()}
---
# {recipe.name}

{num_candidates} {made} and {num_pairs} pairs of them. {origin}

{scored}

```python
from datasets import load_dataset

pairs = load_dataset("FOLDER", "pairs", split="train")  # prompt, chosen, rejected
```

## Limits
A judge is not a person, and its mistakes are in the scores. {made.capitalize()} may show what the model has learnt wrongly. The
licences of the model, of the prompts and of any {made} taken from elsewhere apply.

## Questions
{questions}

## Recipe
```yaml
{dump_recipe(recipe).rstrip()}
```
"""
