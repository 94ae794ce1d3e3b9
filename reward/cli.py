"""The command `reward`: thin; each command calls functions that a user can import.

Exit codes: 0 = done; 1 = some items could not be scored, the others were; 2 = a user's mistake, explained in one line.
"""

import csv
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from reward.errors import RewardError

app = typer.Typer(
    name="reward",
    help="Readable scores for pictures and clips: a judge answers a checklist, weights add up the answers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

JudgeName = Annotated[
    str,
    typer.Option(
        "--judge",
        help="measured, vlm, cogvlm2, server, a scorer such as pickscore, your own as module:Class, or a YAML file with a list of judges.",
    ),
]
Options = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        "-o",
        help="An option of the judge, such as model=Qwen/Qwen2.5-VL-3B-Instruct. Repeatable.",
        metavar="KEY=VALUE",
    ),
]
ChecklistName = Annotated[
    str | None,
    typer.Option(
        "--checklist",
        help="image, video, video-measured, official:image, official:image-full, official:video, or a YAML file. Default: the scorer's own, else image.",
    ),
]
Questions = Annotated[
    str | None,
    typer.Option(
        "--questions", help="all, answerable (by this judge; the default), or question ids separated by commas."
    ),
]
Cache = Annotated[
    Path | None, typer.Option("--cache", help="Keep answers in this folder, so that nothing is asked twice.")
]
NoAlignment = Annotated[
    bool,
    typer.Option("--no-alignment", help="Leave out the questions that ask about the prompt; no prompt is needed then."),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print only errors on standard error: no progress, no remarks.")
]
Prompt = Annotated[str, typer.Option("--prompt", "-p", help="The prompt that the items were made from.")]
Format = Annotated[
    str, typer.Option("--format", help="jsonl, visionrewarddb, genai-bench, hpdv2, imagerewarddb or pickapic.")
]
Root = Annotated[
    Path | None, typer.Option("--root", help="Folder that relative paths start from. Default: the file's own.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace --output if it exists.")]
Json = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]


def judges_of(judge: str, options: Sequence[str], checklist: str | None, questions: str | None):
    """The judges that a command's options describe."""
    from reward.judges import own_checklist
    from reward.judging import Judging, read_judges
    from reward.settings import parse_setting

    if judge.endswith((".yaml", ".yml")):
        given = {"--option": options, "--checklist": checklist, "--questions": questions}
        for flag in (flag for flag, value in given.items() if value):
            raise RewardError(f"{flag} goes with one judge; write it into {judge}")
        return read_judges(Path(judge))
    values = dict(parse_setting(option, flag="--option", example="batch_size=4") for option in options)
    if checklist is None and own_checklist(judge, values) is None:
        checklist = "image"
    questions = questions or "answerable"
    asked = questions if questions in ("all", "answerable") else tuple(each.strip() for each in questions.split(","))
    return (Judging(name=judge, checklist=checklist, questions=asked, options=values),)


def load_reward(judge: str, options: Sequence[str], checklist: str | None, questions: str | None, cache: Path | None):
    """The reward that a command's options describe."""
    from reward import judging

    judges = judges_of(judge, options, checklist, questions)
    judging.check_judges(judges)  # before weights are loaded
    reward = judging.load_reward(judges, cache=cache)
    if len(judges) == 1 and judges[0].questions == "answerable":
        whole = judging.checklist_of(judges[0])
        left_out = len(whole.questions) - len(reward.checklist.questions)
        if left_out:
            _say(f"{left_out} questions of checklist {whole.name!r} are left out: the {judge} judge cannot answer them")
    return reward


def _version(show_version: bool) -> None:
    if show_version:
        from importlib.metadata import version

        typer.echo(version("mpo"))
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool | None, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = None,
) -> None:
    pass


@app.command()
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
    kind = _kind_of(judge, option, checklist, questions)
    _require_medium([Path(each) for each in files], kind, judge)
    source = open_source(
        files, kind, prompt=prompt, needs_prompts=not no_alignment, media_column=media_column,
        prompt_column=prompt_column, split=split, revision=revision,
    )  # fmt: skip
    _, beginning = next(source.chunks(64))
    _require_medium([each.media for each in beginning if isinstance(each.media, Path)], kind, judge)
    make_reward = partial(_reward_to_score, judge, option or [], checklist, questions, cache, no_alignment)
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
        _table(names, [[row["file"], *(f"{row[name]:.3f}" for name in names[1:])] for row in rows])
    _fail_for(scores.failures, media)


def _reward_to_score(
    judge: str, options: Sequence[str], checklist: str | None, questions: str | None, cache: Path | None, no_alignment: bool,
    *, quiet: bool = True,
) -> Any:  # fmt: skip
    """The reward, in this process or one that it has started."""
    set_quiet(quiet)
    reward = load_reward(judge, options, checklist, questions, cache)
    return reward.without_alignment() if no_alignment else reward


def _score_to(output: Path, source: Any, make_reward: Any, workers: int, overwrite: bool) -> None:
    from reward.bulk import score_table
    from reward.processes import launched, shut_down

    _make_room(output, (".parquet",), overwrite=True)  # whether it may be replaced is known once the judge is
    if workers > 1 and launched()[1] > 1:
        raise RewardError(f"--workers {workers} in a launch of {launched()[1]} processes; leave it out")
    found = score_table(source, output, make_reward, num_workers=workers, overwrite=overwrite, progress=not _quiet)
    shut_down()
    if found is None:
        return
    typer.echo(f"{output}: {found}")
    if found.num_failed:
        _error(f"{found.num_failed} could not be scored; column 'error' of {output} says why")
        raise typer.Exit(1)


@app.command()
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
    _require_medium([a, b], _kind_of(judge, option, checklist, questions), judge)
    reward = load_reward(judge, option or [], checklist, questions, cache)
    found = (reward.without_alignment() if no_alignment else reward).compare(a, b, prompt)
    if as_json:
        contributions = [_contribution_fields(each, prompt) for each in found.contributions]
        fields = {"preferred": found.preferred, "margin": found.margin, "dimensions": found.dimension_margins}
        typer.echo(json.dumps(fields | {"contributions": contributions}, indent=1))
        return
    verdict = "a tie" if found.preferred == "tie" else f"{ {'a': a, 'b': b}[found.preferred] } is better"
    typer.echo(f"{verdict}; {a.name} leads by {found.margin:+.3f}")
    _table(["dimension", "lead"], [[name, f"{lead:+.3f}"] for name, lead in found.dimension_margins.items()])
    _contributions(found.contributions, prompt)


@app.command()
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
    _require_medium([item], _kind_of(judge, option, checklist, questions), judge)
    reward = load_reward(judge, option or [], checklist, questions, cache)
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


@app.command()
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
    from reward.pairs import fit_on_pairs

    set_quiet(quiet)
    _make_room(output, (".yaml", ".yml"), overwrite=overwrite)
    pairs = _judged(preferences, format, root, judge, option, checklist, questions, cache)
    fitted = fit_on_pairs(pairs, method=method, name=output.stem)
    rows = zip(
        fitted.checklist.questions, fitted.weights, fitted.low, fitted.high, pairs.a.checklist.weights, strict=True
    )
    lines = [
        [q.id, f"{w:.3f}", f"{low:.3f} to {high:.3f}", f"{old:.3f}", q.text]
        for q, w, low, high, old in rows
        if not q.gate
    ]
    _table(["question", "weight", "95 %", "before", "text"], lines)
    typer.echo(
        f"{fitted.num_pairs} pairs, {fitted.num_ties} of them ties; l2 {fitted.l2:.1e} by cross-validation;"
        f" accuracy on unseen pairs {fitted.cv_accuracy:.3f}, log loss {fitted.cv_log_loss:.3f}"
    )
    save_checklist(fitted.checklist, output)
    typer.echo(str(output))
    _fail_if(pairs.failures)


@app.command()
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

    from reward.pairs import agreements

    set_quiet(quiet)
    if format == "annotations":
        from reward.judging import checklist_of_all

        reward = load_reward(judge, option or [], checklist, questions, cache)
        whole = checklist_of_all(judges_of(judge, option or [], checklist, questions))
        _judgements(preferences, root, whole, reward, as_json)
        return
    pairs = _judged(preferences, format, root, judge, option, checklist, questions, cache)
    found = agreements(pairs)
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in found], indent=1))
    else:
        rows = [
            [f.name, str(f.num_pairs), str(f.num_ties), str(f.accuracy), str(f.tau), f"{f.threshold:.3f}"]
            for f in found
        ]
        _table(["score", "pairs", "ties", "accuracy (diff)", "tau", "tie up to"], rows)
    _fail_if(pairs.failures)


@app.command()
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
        _make_room(output, (".json", ".md"), overwrite=overwrite)
    preferences = boards.read_benchmarks(boards.parse_benchmarks(benchmarks or [], root or []), limit=limit)
    reward = load_reward(judge, option or [], checklist, questions, cache)
    board = boards.measure_board(reward, preferences, judge=judge, progress=not quiet)
    if output is not None:
        text = boards.board_as_json(board) if output.suffix == ".json" else boards.board_as_markdown(board)
        with replacing(output) as temporary:
            temporary.write_text(text, "utf-8")
    if as_json:
        typer.echo(boards.board_as_json(board), nl=False)
    else:
        _table(*boards.table_of(board))
        for remark in boards.remarks_on(board):
            typer.echo(remark)
    _fail_if([why for each in board.measured for why in each.failures])


@app.command()
def tune(
    annotations: Annotated[Path, typer.Argument(help="Checklist answers: VisionRewardDB's layout, or JSON lines.")],
    model: Annotated[str, typer.Option(help="A vision-language model: a folder or hub id.")],
    output: Annotated[Path, typer.Option(help="Folder for the LoRA; `-o model=FOLDER` then judges with it.")],
    heldout: Annotated[Path | None, typer.Option(help="Answers to test the judge on, before and after.")] = None,
    checklist: ChecklistName = None,
    root: Root = None,
    num_steps: int = 1500,
    batch_size: int = 64,
    micro_batch_size: int = 4,
    learning_rate: float = 1e-4,
    rank: int = 16,
    bf16: bool = False,
    gradient_checkpointing: bool = False,
    dtype: Annotated[str, typer.Option(help="Type of the loaded weights: float32, bfloat16 or auto.")] = "auto",
    seed: int = 0,
    quiet: Quiet = False,
) -> None:
    """Tune a judge: a LoRA on a vision-language model, taught people's checklist answers."""
    from reward import VisionReward, load_checklist
    from reward.pairs import judgements
    from reward.preferences import read_annotations

    set_quiet(quiet)
    loaded = load_checklist(checklist or "image")
    taught = read_annotations(annotations, loaded.kind, root=root, checklist=loaded)
    examined = read_annotations(heldout, loaded.kind, root=root, checklist=loaded) if heldout else []
    from reward.judges import check_kind
    from reward.judges.vlm import VLMJudge
    from reward.tune import TuneSettings
    from reward.tune import tune as tune_judge

    check_kind("vlm", {"model": model, "dtype": dtype}, loaded)  # before its weights are loaded
    judge = VLMJudge(model, dtype=dtype)
    reward = VisionReward(judge, loaded)
    before, failures = judgements(reward, examined, progress=not quiet)
    settings = TuneSettings(
        num_steps=num_steps, batch_size=batch_size, micro_batch_size=micro_batch_size, learning_rate=learning_rate, rank=rank,
        bf16=bf16, gradient_checkpointing=gradient_checkpointing, seed=seed,
    )  # fmt: skip
    log = tune_judge(judge, taught, loaded, output, settings)
    if log:
        typer.echo(f"loss {log[0]['loss']:.3f} at the start, {log[-1]['loss']:.3f} at the end")
    after, _ = judgements(reward, examined, progress=not quiet)
    _before_and_after(before, after)
    typer.echo(str(output))
    _fail_if(failures)


def _before_and_after(before: Sequence[Any], after: Sequence[Any]) -> None:
    rows = []
    for then, now in zip(before, after, strict=True):
        counts = [str(then.num_yes), str(then.num_no)]
        rows.append([then.question_id, *counts, f"{then.balanced_accuracy:.3f}", f"{now.balanced_accuracy:.3f}"])
    _table(["question", "yes", "no", "balanced accuracy before", "after"], rows)


@app.command()
def serve(
    host: Annotated[
        str, typer.Option(help="The address to listen at. 0.0.0.0: everybody who can reach it.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8200,
    root: Annotated[
        Path | None, typer.Option(help="Items may be named by a path under this folder. Default: data alone.")
    ] = None,
    max_body_mb: Annotated[float, typer.Option(help="Of one request.")] = 64.0,
    max_items: Annotated[int, typer.Option(help="Of one request.")] = 256,
    timeout_s: Annotated[float, typer.Option(help="For the answer to one request.")] = 600.0,
    no_alignment: NoAlignment = False,
    judge: JudgeName = "measured",
    option: Options = None,
    checklist: ChecklistName = None,
    questions: Questions = None,
    cache: Cache = None,
) -> None:
    """Serve the reward over HTTP, for trainers in another environment: POST /score, GET /health, GET /metrics."""
    try:
        from reward import service
    except ModuleNotFoundError as error:
        if error.name not in ("prometheus_client", "starlette", "uvicorn"):
            raise
        raise RewardError(f"reward serve needs {error.name}; pip install 'mpo[serve]'") from None

    if root is not None and not root.is_dir():
        raise RewardError(f"--root={str(root)!r} is no folder; give one")
    reward = load_reward(judge, option or [], checklist, questions, cache)
    limits = service.Limits(max_body_mb=max_body_mb, max_items=max_items, timeout_s=timeout_s)
    service.serve(
        reward.without_alignment() if no_alignment else reward, host=host, port=port, root=root, limits=limits, say=_say
    )


@app.command("serve-check")
def serve_check(
    url: Annotated[str, typer.Argument(help="Such as http://localhost:8000/v1.")],
    model: Annotated[str | None, typer.Option(help="Its name on the server. Default: the only one it serves.")] = None,
    api_key: Annotated[str | None, typer.Option(help="Default: $OPENAI_API_KEY.")] = None,
) -> None:
    """Find out whether a server can judge: ask it about a picture and show its answer."""
    import time

    from PIL import Image

    from reward.checklist import Question
    from reward.judges.server import ServerJudge, describe

    question = Question(id="red", text="Is this picture red?")
    with ServerJudge(url, model, api_key=api_key, max_retries=1) as judge:
        for endpoint, name, how in describe(judge):
            typer.echo(f"{endpoint} serves {name}; asked for {how}")
        for words, colour in (("a red", (200, 30, 30)), ("a blue", (30, 30, 200))):
            start = time.perf_counter()
            p_yes = judge.answer([Image.new("RGB", (224, 224), colour)], [""], [question])[0, 0]
            taken_ms = 1000 * (time.perf_counter() - start)
            typer.echo(f"of {words} picture, {question.text!r}: P(yes) {p_yes:.3f}, in {taken_ms:.0f} ms")


def _kind_of(judge: str, option: Sequence[str] | None, checklist: str | None, questions: str | None) -> Any:
    """What the judges are asked about, as far as can be known before they are loaded."""
    from reward.judging import checklist_of_all

    return checklist_of_all(judges_of(judge, option or [], checklist, questions)).kind


def _require_medium(given: Sequence[Path], kind: Any, judge: str) -> None:
    """Raises RewardError if all files and folders are, by their names, of the other medium."""
    from reward.judges import suggested_checklist
    from reward.media import is_named_as

    other = "video" if kind == "image" else "image"
    held = [sorted(each.iterdir()) if each.is_dir() else [each] for each in given]
    found = [[file for file in files if is_named_as(file, other)] for files in held]
    if found and all(found) and not any(is_named_as(file, kind) for files in held for file in files):
        raise RewardError(
            f"judge {judge} is asked about {kind}s, and only {other}s are given, such as {found[0][0]}; use --checklist {suggested_checklist(other, judge)}"
        )


def _make_room(output: Path, suffixes: Sequence[str], *, overwrite: bool) -> None:
    """Raises RewardError if a file cannot be written there, before anything is judged, not hours later."""
    if output.suffix not in suffixes:
        raise RewardError(f"--output {output} does not end in {suffixes[0]}; give a name that does")
    if output.is_dir():
        raise RewardError(f"--output {output} is a folder; give a file")
    if output.exists() and not overwrite:
        raise RewardError(f"--output {output} exists; give another name, or replace it with --overwrite")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RewardError(f"--output {output}: its folder cannot be made ({error.strerror}); give another") from error
    if not os.access(output if output.exists() else output.parent, os.W_OK):
        raise RewardError(f"--output {output} cannot be written; give a path that you may write to")


def _score_rows(scores: Any, media: Sequence[str]) -> list[dict[str, Any]]:
    """File, total and dimensions of each item that was scored."""
    totals, dimensions = scores.total.tolist(), scores.dimensions.tolist()
    return [
        {"file": file, "total": totals[i]} | dict(zip(scores.checklist.dimensions, dimensions[i], strict=True))
        for i, file in enumerate(media)
        if i not in scores.failures
    ]


def _judgements(path: Path, root: Path | None, whole: Any, reward: Any, as_json: bool) -> None:
    from dataclasses import asdict

    from reward.pairs import judgements
    from reward.preferences import read_annotations

    annotations = read_annotations(path, whole.kind, root=root, checklist=whole)
    found, failures = judgements(reward, annotations, progress=not _quiet)
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in found], indent=1))
        _fail_if(failures)
        return
    rows = [[each.question_id, str(each.num_yes), str(each.num_no), f"{each.balanced_accuracy:.3f}"] for each in found]
    _table(["question", "yes", "no", "balanced accuracy"], rows)
    _fail_if(failures)


def _judged(
    path: Path, format: str, root: Path | None, judge: str, option: Any, checklist: Any, questions: Any, cache: Any
):
    from reward.pairs import judge_pairs
    from reward.preferences import read_preferences

    preferences = read_preferences(path, format, root=root)
    reward = load_reward(judge, option or [], checklist, questions, cache)
    return judge_pairs(reward, preferences, progress=not _quiet)


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    if not rows:
        return
    console = Console() if sys.stdout.isatty() else Console(width=200)
    table = Table(box=box.SIMPLE)
    for i, name in enumerate(names):
        table.add_column(name, justify="left" if i == 0 or name == "text" else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


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
    def words(value: float | None, continuous: bool) -> str:
        if value is None:
            return ""
        return f"{value:.3f}" if continuous else {1.0: "yes", -1.0: "no", 0.0: "does not apply"}[value]

    compared = any(each.other_answer is not None for each in contributions)
    rows = []
    for each in contributions:
        answers = [words(each.answer, each.question.continuous)]
        answers += [words(each.other_answer, each.question.continuous)] if compared else []
        rows.append([each.question.ask(prompt), each.dimension, *answers, f"{each.difference:+.3f}"])
    _table(["question", "dimension", *(("first", "second", "lead") if compared else ("answer", "adds"))], rows)


_quiet = False


def set_quiet(quiet: bool) -> None:
    """Quiet: only errors on standard error; no progress, no remarks, no bars from the libraries that load models."""
    global _quiet
    _quiet = quiet
    logging.getLogger("reward").setLevel(logging.ERROR if quiet else logging.WARNING)
    if quiet:
        for library in ("HUB", "DATASETS"):
            os.environ[f"HF_{library}_DISABLE_PROGRESS_BARS"] = "1"  # they read it when imported, which comes later


def _say(remark: str) -> None:
    """Print a remark; errors go to `_error`."""
    if not _quiet:
        _error(remark)


def _error(message: str) -> None:
    print(f"reward: {message}", file=sys.stderr)


def _fail_for(failures: Any, media: Sequence[Any]) -> None:
    for row, reason in failures.items():
        _error(reason if str(media[row]) in reason else f"{media[row]}: {reason}")
    _fail_if(failures)


def _fail_if(failures: Any) -> None:
    if failures:
        _error(f"{len(failures)} could not be scored")
        raise typer.Exit(1)


def main() -> None:
    """Entry point: a user's error is one line on standard error and exit code 2."""
    try:
        app()
    except RewardError as error:
        _error(str(error))
        sys.exit(2)


if __name__ == "__main__":
    main()
