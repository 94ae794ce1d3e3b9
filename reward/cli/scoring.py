"""Commands that look at pictures and clips: score, compare, explain."""

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from reward.cli.options import (
    Cache,
    ChecklistName,
    Json,
    JudgeName,
    NoAlignment,
    Options,
    Overwrite,
    Prompt,
    Questions,
    Quiet,
    judges_of,
    load_reward,
    make_room,
    require_medium,
)
from reward.cli.output import error, fail_for, is_quiet, set_quiet, table
from reward.errors import RewardError
from reward.judging import Judging


def score(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            help="Pictures or clips, or folders that hold them; or a table: .jsonl, .csv, .parquet, a data set's folder or hub id.",
            metavar="[FILES]...",
        ),
    ] = None,
    prompt: Prompt = "",
    media_column: Annotated[
        str | None,
        typer.Option(help="The table's pictures or clips. Default: file, image or video, the first there is."),
    ] = None,
    prompt_column: Annotated[str | None, typer.Option(help="The table's prompts. Default: prompt.")] = None,
    split: Annotated[str | None, typer.Option(help="Of a data set. Default: train.")] = None,
    revision: Annotated[str | None, typer.Option(help="Of a data set on the hub: a branch, tag or commit.")] = None,
    no_alignment: NoAlignment = False,
    judge: JudgeName = "measured",
    option: Options = None,
    checklist: ChecklistName = None,
    questions: Questions = None,
    cache: Cache = None,
    output: Annotated[
        Path | None, typer.Option(help="Write the scores to this .parquet file, and go on where a killed run stopped.")
    ] = None,
    overwrite: Overwrite = False,
    workers: Annotated[
        int,
        typer.Option(
            min=1, help="Processes that score for --output, each with its own judge, and GPU if there are any."
        ),
    ] = 1,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV on standard output.")] = False,
    quiet: Quiet = False,
) -> None:
    """Score pictures or clips: one row each, one column per dimension."""
    from functools import partial

    from reward.processes import launched
    from reward.sources import open_source

    set_quiet(quiet)
    if as_json and as_csv:
        raise RewardError("--json and --csv cannot both go to standard output; give one")
    if output is None and (workers > 1 or overwrite or launched()[1] > 1):
        what = (
            f"--workers {workers}" if workers > 1 else "--overwrite" if overwrite else "a launch of several processes"
        )
        raise RewardError(f"{what} is for scores in a file; give --output scores.parquet")
    if output is not None and (as_json or as_csv):
        raise RewardError("--output writes parquet; leave out --json and --csv")
    if not files:
        raise RewardError("nothing to score; give files, or a table of them")
    judges = judges_of(judge, option, checklist, questions)
    kind = require_medium([Path(each) for each in files], judges, judge)
    source = open_source(
        files, kind, prompt=prompt, needs_prompts=not no_alignment, media_column=media_column,
        prompt_column=prompt_column, split=split, revision=revision,
    )  # fmt: skip
    _, beginning = next(source.chunks(64))
    require_medium([each.media for each in beginning if isinstance(each.media, Path)], judges, judge)
    make_reward = partial(_reward_to_score, judges, cache, no_alignment)
    if output is not None:
        _score_to(output, source, make_reward, workers, overwrite)
        return
    reward = make_reward(quiet=quiet)
    items = [item for _, chunk in source.chunks(64) for item in chunk]
    media = [item.file if item.file is not None else f"row {row}" for row, item in enumerate(items)]
    texts = [item.prompt for item in items]
    scores = reward.score([item.media for item in items], texts, on_error="record", progress=not quiet)
    rows = _score_rows(scores, media)
    names = ["file", "total", *reward.checklist.dimensions]
    if as_json:
        kept = [i for i in range(len(media)) if i not in scores.failures]
        found = {
            "judge": reward.fingerprint,
            "checklist": reward.checklist.fingerprint,
            "dimensions": reward.checklist.dimensions,
            "questions": reward.checklist.question_ids,
            "scores": [
                row | {"prompt": texts[i], "p_yes": scores.p_yes[i].tolist()} for i, row in zip(kept, rows, strict=True)
            ],
            "failures": [{"file": media[i], "prompt": texts[i], "why": why} for i, why in scores.failures.items()],
        }
        typer.echo(json.dumps(found, indent=1))
    elif as_csv:
        writer = csv.DictWriter(sys.stdout, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        table(names, [[row["file"], *(f"{row[name]:.3f}" for name in names[1:])] for row in rows])
    fail_for(scores.failures, media)


def _reward_to_score(judges: Sequence[Judging], cache: Path | None, no_alignment: bool, *, quiet: bool = True) -> Any:
    """The reward, in this process or one that it has started."""
    set_quiet(quiet)
    reward = load_reward(judges, cache)
    return reward.without_alignment() if no_alignment else reward


def _score_to(output: Path, source: Any, make_reward: Any, workers: int, overwrite: bool) -> None:
    from reward.bulk import score_table
    from reward.processes import launched, shut_down

    make_room(output, (".parquet",), overwrite=True)  # whether it may be replaced is known once the judge is
    if workers > 1 and launched()[1] > 1:
        raise RewardError(f"--workers {workers} in a launch of {launched()[1]} processes; leave it out")
    found = score_table(source, output, make_reward, num_workers=workers, overwrite=overwrite, progress=not is_quiet())
    shut_down()
    if found is None:
        return
    typer.echo(f"{output}: {found}")
    if found.num_failed:
        error(f"{found.num_failed} could not be scored; column 'error' of {output} says why")
        raise typer.Exit(1)


def compare(
    a: Annotated[Path, typer.Argument(help="A picture or clip.")],
    b: Annotated[Path, typer.Argument(help="Another.")],
    prompt: Prompt = "",
    no_alignment: NoAlignment = False,
    judge: JudgeName = "measured",
    option: Options = None,
    checklist: ChecklistName = None,
    questions: Questions = None,
    cache: Cache = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show which of two items is better for a prompt, by how much, and because of which answers."""
    set_quiet(quiet)
    judges = judges_of(judge, option, checklist, questions)
    require_medium([a, b], judges, judge)
    reward = load_reward(judges, cache)
    found = (reward.without_alignment() if no_alignment else reward).compare(a, b, prompt)
    if as_json:
        contributions = [_contribution_fields(each, prompt) for each in found.contributions]
        fields = {"preferred": found.preferred, "margin": found.margin, "dimensions": found.dimension_margins}
        typer.echo(json.dumps(fields | {"contributions": contributions}, indent=1))
        return
    verdict = "a tie" if found.preferred == "tie" else f"{ {'a': a, 'b': b}[found.preferred] } is better"
    typer.echo(f"{verdict}; {a.name} leads by {found.margin:+.3f}")
    table(["dimension", "lead"], [[name, f"{lead:+.3f}"] for name, lead in found.dimension_margins.items()])
    _contributions(found.contributions, prompt)


def explain(
    item: Annotated[Path, typer.Argument(help="A picture or clip.")],
    prompt: Prompt = "",
    no_alignment: NoAlignment = False,
    judge: JudgeName = "measured",
    option: Options = None,
    checklist: ChecklistName = None,
    questions: Questions = None,
    cache: Cache = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show what each answer adds to an item's score, largest first."""
    set_quiet(quiet)
    judges = judges_of(judge, option, checklist, questions)
    require_medium([item], judges, judge)
    reward = load_reward(judges, cache)
    reward = reward.without_alignment() if no_alignment else reward
    found = reward.explain(item, prompt)
    if not as_json:
        _contributions(found, prompt)
        return
    # Answers that add nothing are left out; the total is still complete.
    total = sum(each.difference for each in found) + reward.checklist.intercept / reward.checklist.divisor
    judged = {"judge": reward.fingerprint, "checklist": reward.checklist.fingerprint, "total": total}
    contributions = [_contribution_fields(each, prompt) for each in found]
    typer.echo(json.dumps(judged | {"contributions": contributions}, indent=1))


def _score_rows(scores: Any, media: Sequence[str]) -> list[dict[str, Any]]:
    """File, total and dimensions of each item that was scored."""
    totals, dimensions = scores.total.tolist(), scores.dimensions.tolist()
    return [
        {"file": file, "total": totals[i]} | dict(zip(scores.checklist.dimensions, dimensions[i], strict=True))
        for i, file in enumerate(media)
        if i not in scores.failures
    ]


def _contribution_fields(contribution: Any, prompt: str) -> dict[str, Any]:
    question = contribution.question
    fields = {
        "question_id": question.id,
        "question": question.ask(prompt),
        "dimension": contribution.dimension,
        "answer": contribution.answer,
        "other_answer": contribution.other_answer,
        "difference": contribution.difference,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _contributions(contributions: Sequence[Any], prompt: str) -> None:
    compared = any(each.other_answer is not None for each in contributions)
    rows = []
    for each in contributions:
        told = [each.answer] if each.other_answer is None else [each.answer, each.other_answer]
        answers = [each.question.words(answer, decimals=3) for answer in told]
        rows.append([each.question.ask(prompt), each.dimension, *answers, f"{each.difference:+.3f}"])
    table(["question", "dimension", *(("first", "second", "lead") if compared else ("answer", "adds"))], rows)
