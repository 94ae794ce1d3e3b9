"""Stage evaluate: tuned against base on held-out prompts, at paired seeds, by the recipe's judge and by others."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mpo.comparison.guards import guards
from mpo.comparison.win_rates import MODELS, summary_of
from mpo.models.lora import load_with_lora
from mpo.models.sampling import Sample, Sampling, samples_for
from mpo.recipe import Recipe, read_recipe
from mpo.run_folder.files import delete, write_json
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import EVALUATION, read_table, write_table
from mpo.runtime.pieces import Work, do_stage
from mpo.scoring import Scoring
from mpo.training.checkpoint_files import result_file
from reward import Scores
from reward.judging import Judging, load_reward


def evaluate(folder: str | Path) -> None:
    """The trained LoRA -> evaluation/samples/, evaluation.parquet, summary.json."""
    do_stage(work(folder), lambda: gather(folder))


def work(folder: str | Path) -> Iterator[Work]:
    """The batches of pictures of either model; then, for each judge, chunks of all of them."""
    run = RunFolder(folder)
    recipe = read_recipe(run.recipe)
    for model in MODELS:
        yield _sampling(run, recipe, model)
    yield from _scorings(run, recipe)


def gather(folder: str | Path) -> None:
    """evaluation/samples/, evaluation/scores/ -> evaluation.parquet, judges/, summary.json."""
    run = RunFolder(folder)
    recipe = read_recipe(run.recipe)
    samples = [(model, sample) for model in MODELS for sample in _samples(run, recipe, model)]
    scores, *others = (judged.scores() for judged in _scorings(run, recipe))
    prompts = read_table(run.heldout_prompts, made_by="run").to_pylist()
    columns = {
        "prompt_id": [row["prompt_id"] for _ in MODELS for row in prompts for _ in range(recipe.evaluate.num_seeds)],
        "seed": [sample.seed for _, sample in samples],
        "model": [model for model, _ in samples],
        "file": [f"{model}/{sample.file.name}" for model, sample in samples],
    }
    _write_scores(run.evaluation_table, columns, scores)
    delete(run.judge_tables)
    for place, by_other in enumerate(others, 1):
        _write_scores(run.judge_tables / f"{place}.parquet", columns, by_other)
    guarded = guards(
        [sample.file for _, sample in samples],
        scores.checklist.kind,
        num_seeds=recipe.evaluate.num_seeds,
        num_bootstrap=recipe.evaluate.num_bootstrap,
        seed=recipe.evaluate.seed,
    )
    by_others = [
        {"name": name, "checklist": by_other.checklist.fingerprint, **summary_of(by_other, recipe)}
        for name, by_other in zip(_names(recipe.evaluate.judges), others, strict=True)
    ]
    write_json(run.summary, {**summary_of(scores, recipe), "judges": by_others, "guards": guarded})
    delete(run.evaluation_score_parts)


def _names(judges: Sequence[Judging]) -> list[str]:
    """Each another: judges that differ in their options alone are numbered, as in "vlm (2)"."""
    names = [judging.name for judging in judges]
    earlier = [names[:place].count(name) for place, name in enumerate(names)]
    return [f"{name} ({count + 1})" if count else name for name, count in zip(names, earlier, strict=True)]


def _sampling(run: RunFolder, recipe: Recipe, model: str) -> Sampling:
    """The pictures of one model, "base" or "tuned"."""
    lora = _lora(run, model)
    samples = _samples(run, recipe, model)
    settings = recipe.evaluate
    load = partial(load_with_lora, recipe, lora, compiled=settings.compile)
    return Sampling(load, samples, settings, description=f"evaluate: {model}")


def _scorings(run: RunFolder, recipe: Recipe) -> Iterator[Scoring]:
    """All pictures, by the recipe's judges together, then by each of the others."""
    samples = [sample for model in MODELS for sample in _samples(run, recipe, model)]

    def scoring(judgings: Sequence[Judging], parts: Path, description: str) -> Scoring:
        return Scoring(
            lambda: load_reward(judgings),
            [sample.file for sample in samples],
            [sample.prompt for sample in samples],
            parts=parts,
            description=description,
            made_by=f"mpo evaluate {run.folder}",
        )

    yield scoring(recipe.judge, run.evaluation_score_parts, "evaluate: score")
    for place, judging in enumerate(recipe.evaluate.judges, 1):
        parts = run.evaluation_score_parts / f"judge-{place}"
        yield scoring([judging], parts, f"evaluate: score by {judging.name}")


def _write_scores(path: Path, columns: Mapping[str, Any], scores: Scores) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scored = {"p_yes": scores.p_yes.tolist(), "dimensions": scores.dimensions.tolist(), "total": scores.total.tolist()}
    write_table(path, {**columns, **scored}, EVALUATION, scores.checklist.metadata)


def _samples(run: RunFolder, recipe: Recipe, model: str) -> Sequence[Sample]:
    return samples_for(
        read_table(run.heldout_prompts, made_by="run").to_pylist(),
        recipe,
        recipe.evaluate,
        folder=run.samples / model,
        purpose="evaluation",
        seed=recipe.evaluate.seed,
        num_seeds=recipe.evaluate.num_seeds,
        lora=_lora(run, model),
    )


def _lora(run: RunFolder, model: str) -> Path | None:
    return result_file(run) if model == "tuned" else None
