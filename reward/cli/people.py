"""Commands about people's judgements: fit, agree, leaderboard, tune."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from reward.cli.options import (
    Cache,
    ChecklistName,
    Format,
    Json,
    JudgeName,
    Options,
    Overwrite,
    Questions,
    Quiet,
    Root,
    judges_of,
    load_reward,
    make_room,
)
from reward.cli.output import fail_if, is_quiet, set_quiet, table

COIN = math.log(2)  # the log loss of a coin


def fit(
    preferences: Annotated[Path, typer.Argument(help="A file of preferences.")],
    output: Annotated[Path, typer.Option(help="The checklist with the learnt weights: a .yaml file.")],
    overwrite: Overwrite = False,
    format: Format = "jsonl",
    root: Root = None,
    method: Annotated[str, typer.Option(help="exact, or projected passes as in the paper.")] = "exact",
    judge: JudgeName = "measured",
    option: Options = None,
    checklist: ChecklistName = None,
    questions: Questions = None,
    cache: Cache = None,
    quiet: Quiet = False,
) -> None:
    """Learn a checklist's weights from people's preferences, with an interval for each."""
    from reward.checklist import save_checklist
    from reward.errors import RewardError
    from reward.pairs import fit_on_pairs, judge_pairs
    from reward.preferences import read_preferences
    from reward.weights import check_fit

    set_quiet(quiet)
    make_room(output, (".yaml", ".yml"), overwrite=overwrite)
    judges = judges_of(judge, option, checklist, questions)
    given = read_preferences(preferences, format, root=root)
    check_fit(len({each.group for each in given}), method)
    pairs = judge_pairs(load_reward(judges, cache), given, progress=not is_quiet())
    fitted = fit_on_pairs(pairs, method=method, name=output.stem)
    rows = zip(
        fitted.checklist.questions, fitted.weights, fitted.low, fitted.high, pairs.a.checklist.weights, strict=True
    )
    lines = [
        [q.id, f"{w:.3f}", f"{low:.3f} to {high:.3f}", f"{old:.3f}", q.text]
        for q, w, low, high, old in rows
        if not q.gate
    ]
    table(["question", "weight", "95 %", "before", "text"], lines)
    typer.echo(
        f"{fitted.num_pairs} pairs, {fitted.num_ties} of them ties; l2 {fitted.l2:.1e} by cross-validation;"
        f" accuracy on unseen pairs {fitted.cv_accuracy:.3f}, log loss {fitted.cv_log_loss:.3f}"
    )
    if not fitted.weights.any():
        raise RewardError(
            "every weight is 0, and so would every score be: no answer goes with what people prefer, so nothing was written; see whether `preferred` is the wrong way round, ask more questions, or give more preferences"
        )
    save_checklist(fitted.checklist, output)
    typer.echo(str(output))
    if fitted.cv_log_loss >= COIN:
        typer.echo(
            f"these weights predict unseen pairs no better than a coin (log loss {COIN:.3f}); give more preferences, or ask other questions",
            err=True,
        )
    fail_if(pairs.failures)


def agree(
    preferences: Annotated[Path, typer.Argument(help="A file of preferences.")],
    format: Format = "jsonl",
    root: Root = None,
    judge: JudgeName = "measured",
    option: Options = None,
    checklist: ChecklistName = None,
    questions: Questions = None,
    cache: Cache = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure how well a reward agrees with people: accuracy (ties dropped) and tau (ties counted), by dimension.

    With --format annotations: how often the judge answers each question as people do.
    """
    from dataclasses import asdict

    from reward.pairs import agreements, judge_pairs
    from reward.preferences import read_preferences

    set_quiet(quiet)
    judges = judges_of(judge, option, checklist, questions)
    if format == "annotations":
        from reward.judging import checklist_of_all

        _judgements(preferences, root, checklist_of_all(judges), load_reward(judges, cache), as_json)
        return
    given = read_preferences(preferences, format, root=root)
    pairs = judge_pairs(load_reward(judges, cache), given, progress=not is_quiet())
    found = agreements(pairs)
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in found], indent=1))
    else:
        rows = [
            [f.name, str(f.num_pairs), str(f.num_ties), str(f.accuracy), str(f.tau), f"{f.threshold:.3f}"]
            for f in found
        ]
        table(["score", "pairs", "ties", "accuracy (diff)", "tau", "tie up to"], rows)
    fail_if(pairs.failures)


def leaderboard(
    benchmarks: Annotated[
        list[str] | None,
        typer.Argument(
            help="genai-bench, monetbench, hpdv2, imagerewarddb or pickapic, each with its file or folder.",
            metavar="NAME=PATH...",
        ),
    ] = None,
    root: Annotated[
        list[str] | None,
        typer.Option(help="Folder that a benchmark's relative paths start from. Repeatable.", metavar="NAME=FOLDER"),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many pairs of each benchmark.")] = None,
    judge: JudgeName = "measured",
    option: Options = None,
    checklist: ChecklistName = None,
    questions: Questions = None,
    cache: Cache = None,
    output: Annotated[Path | None, typer.Option(help="Write the board to this .json or .md file.")] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure a judge on benchmarks of people's preferences, beside figures that others have published."""
    from reward import leaderboard as boards
    from reward.files import replacing

    set_quiet(quiet)
    if output is not None:
        make_room(output, (".json", ".md"), overwrite=overwrite)
    preferences = boards.read_benchmarks(boards.parse_benchmarks(benchmarks or [], root or []), limit=limit)
    reward = load_reward(judges_of(judge, option, checklist, questions), cache)
    board = boards.measure_board(reward, preferences, judge=judge, progress=not quiet)
    if output is not None:
        text = boards.board_as_json(board) if output.suffix == ".json" else boards.board_as_markdown(board)
        with replacing(output) as temporary:
            temporary.write_text(text, "utf-8")
    if as_json:
        typer.echo(boards.board_as_json(board), nl=False)
    else:
        table(*boards.table_of(board))
        for remark in boards.remarks_on(board):
            typer.echo(remark)
    fail_if([why for each in board.measured for why in each.failures])


def tune(
    annotations: Annotated[Path, typer.Argument(help="Checklist answers: VisionRewardDB's layout, or JSON lines.")],
    model: Annotated[str, typer.Option(help="A vision-language model: a folder or hub id.")],
    output: Annotated[Path, typer.Option(help="Folder for the LoRA; `-o model=FOLDER` then judges with it.")],
    heldout: Annotated[Path | None, typer.Option(help="Answers to test the judge on, before and after.")] = None,
    checklist: ChecklistName = None,
    root: Root = None,
    num_steps: Annotated[int, typer.Option(help="Steps of the optimizer.", min=1)] = 1500,
    batch_size: Annotated[int, typer.Option(help="Answers a step.", min=1)] = 64,
    micro_batch_size: Annotated[int, typer.Option(help="Answers in one pass, of which a step adds up.", min=1)] = 4,
    learning_rate: Annotated[float, typer.Option(help="After a warm-up of 50 steps.", min=0)] = 1e-4,
    rank: Annotated[int, typer.Option(help="Of the LoRA.", min=1)] = 16,
    bf16: Annotated[bool, typer.Option("--bf16", help="Compute in bfloat16.")] = False,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Less memory, about a third slower.")
    ] = False,
    dtype: Annotated[str, typer.Option(help="Type of the loaded weights: float32, bfloat16 or auto.")] = "auto",
    seed: Annotated[int, typer.Option(help="Of the answers' order and the LoRA's first weights.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Tune a judge: a LoRA on a vision-language model, taught people's checklist answers."""
    from reward import VisionReward, load_checklist
    from reward.errors import RewardError
    from reward.pairs import judgements
    from reward.preferences import read_annotations

    set_quiet(quiet)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise RewardError(f"--output {output} exists and is no empty folder; give another name")
    loaded = load_checklist(checklist or "image")
    taught = read_annotations(annotations, loaded.kind, root=root, checklist=loaded)
    examined = read_annotations(heldout, loaded.kind, root=root, checklist=loaded) if heldout else []
    from reward.judges import check_kind
    from reward.judges.vlm import VLMJudge
    from reward.tune import TuneSettings
    from reward.tune import tune as tune_judge

    settings = TuneSettings(
        num_steps=num_steps, batch_size=batch_size, micro_batch_size=micro_batch_size, learning_rate=learning_rate, rank=rank,
        bf16=bf16, gradient_checkpointing=gradient_checkpointing, seed=seed,
    )  # fmt: skip
    check_kind("vlm", {"model": model, "dtype": dtype}, loaded)  # before its weights are loaded
    judge = VLMJudge(model, dtype=dtype)
    reward = VisionReward(judge, loaded)
    before, failures = judgements(reward, examined, progress=not quiet)
    log = tune_judge(judge, taught, loaded, output, settings)
    if log:
        typer.echo(f"loss {log[0]['loss']:.3f} at the start, {log[-1]['loss']:.3f} at the end")
    after, _ = judgements(reward, examined, progress=not quiet)
    _before_and_after(before, after)
    typer.echo(str(output))
    fail_if(failures)


def _before_and_after(before: Sequence[Any], after: Sequence[Any]) -> None:
    rows = []
    for then, now in zip(before, after, strict=True):
        counts = [str(then.num_yes), str(then.num_no)]
        rows.append([then.question_id, *counts, f"{then.balanced_accuracy:.3f}", f"{now.balanced_accuracy:.3f}"])
    table(["question", "yes", "no", "balanced accuracy before", "after"], rows)


def _judgements(path: Path, root: Path | None, whole: Any, reward: Any, as_json: bool) -> None:
    from dataclasses import asdict

    from reward.pairs import judgements
    from reward.preferences import read_annotations

    annotations = read_annotations(path, whole.kind, root=root, checklist=whole)
    found, failures = judgements(reward, annotations, progress=not is_quiet())
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in found], indent=1))
        fail_if(failures)
        return
    rows = [[each.question_id, str(each.num_yes), str(each.num_no), f"{each.balanced_accuracy:.3f}"] for each in found]
    table(["question", "yes", "no", "balanced accuracy"], rows)
    fail_if(failures)
