"""The command `reward`: thin; each command calls functions that a user can import.

Exit codes: 0 all well; 1 some items could not be scored, the others were; 2 a mistake of the user's, said in one line.
"""

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from reward.errors import RewardError

app = typer.Typer(
    name="reward",
    help="Readable scores for pictures and clips: a judge answers a checklist, weights add the answers up.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

JudgeName = Annotated[str, typer.Option("--judge", help="measured, vlm, cogvlm2 or server.")]
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
    str,
    typer.Option(
        "--checklist", help="image, video, official:image, official:image-full, official:video, or a YAML file."
    ),
]
Questions = Annotated[str, typer.Option("--questions", help="all, answerable, or ids with commas between.")]
Cache = Annotated[
    Path | None, typer.Option("--cache", help="Keep answers in this folder; what is in it is not asked again.")
]
Prompt = Annotated[str, typer.Option("--prompt", "-p", help="The text that the items were made from.")]
Format = Annotated[
    str, typer.Option("--format", help="jsonl, visionrewarddb, genai-bench, hpdv2, imagerewarddb or pickapic.")
]
Root = Annotated[Path | None, typer.Option("--root", help="Folder of relative paths. Default: the file's own.")]
Json = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]


def load_reward(judge: str, options: Sequence[str], checklist: str, questions: str, cache: Path | None):
    """The reward that a command's options describe."""
    from reward import VisionReward, load_judge
    from reward.settings import parse_setting

    values = dict(parse_setting(option, flag="--option", example="batch_size=4") for option in options)
    asked = questions if questions in ("all", "answerable") else [each.strip() for each in questions.split(",")]
    reward = VisionReward(load_judge(judge, **values), checklist, questions=asked, cache=cache)
    if questions == "answerable":
        from reward import load_checklist

        left_out = len(load_checklist(checklist).questions) - len(reward.checklist.questions)
        if left_out:
            _say(f"{left_out} questions of checklist {checklist!r} are left out: the {judge} judge cannot answer them")
    return reward


def _version(show_version: bool) -> None:
    if show_version:
        from importlib.metadata import version

        typer.echo(version("mpo"))
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def score(
    files: Annotated[list[Path] | None, typer.Argument(help="Pictures or clips.")] = None,
    prompt: Prompt = "",
    prompts: Annotated[
        Path | None, typer.Option(help='JSON lines of {"file": …, "prompt": …}; paths are relative to it.')
    ] = None,
    judge: JudgeName = "measured",
    option: Options = None,
    checklist: ChecklistName = "image",
    questions: Questions = "answerable",
    cache: Cache = None,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV on standard output.")] = False,
) -> None:
    """Score pictures or clips: a row each, a column for each dimension."""
    media, texts = _items(files or [], prompt, prompts)
    reward = load_reward(judge, option or [], checklist, questions, cache)
    scores = reward.score(media, texts, on_error="record", progress=sys.stderr.isatty())
    names = reward.checklist.dimensions
    rows = [
        {"file": str(media[i]), "total": float(scores.total[i])}
        | dict(zip(names, scores.dimensions[i].tolist(), strict=True))
        for i in range(len(media))
        if i not in scores.failures
    ]
    if as_json:
        kept = [i for i in range(len(media)) if i not in scores.failures]
        rows = [
            row | {"prompt": texts[i], "p_yes": scores.p_yes[i].tolist()} for i, row in zip(kept, rows, strict=True)
        ]
        failures = [{"file": str(media[i]), "prompt": texts[i], "why": why} for i, why in scores.failures.items()]
        judged = {"judge": reward.judge.fingerprint, "checklist": reward.checklist.fingerprint}
        questions_asked = {"dimensions": names, "questions": reward.checklist.question_ids}
        typer.echo(json.dumps({**judged, **questions_asked, "scores": rows, "failures": failures}, indent=1))
    elif as_csv:
        writer = csv.DictWriter(sys.stdout, ["file", "total", *names], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        _table(
            ["file", "total", *names], [[row["file"], *(f"{row[n]:.3f}" for n in ("total", *names))] for row in rows]
        )
    _fail_for(scores.failures, media)


@app.command()
def compare(
    a: Path,
    b: Path,
    prompt: Prompt = "",
    judge: JudgeName = "measured",
    option: Options = None,
    checklist: ChecklistName = "image",
    questions: Questions = "answerable",
    cache: Cache = None,
    as_json: Json = False,
) -> None:
    """Say which of two items is better under a prompt, by how much, and through which answers."""
    found = load_reward(judge, option or [], checklist, questions, cache).compare(a, b, prompt)
    if as_json:
        typer.echo(
            json.dumps({"preferred": found.preferred, "margin": found.margin, "dimensions": found.dimension_margins})
        )
        return
    verdict = "a tie" if found.preferred == "tie" else f"{ {'a': a, 'b': b}[found.preferred] } is better"
    typer.echo(f"{verdict}; {a.name} leads by {found.margin:+.3f}")
    _table(["dimension", "lead"], [[name, f"{lead:+.3f}"] for name, lead in found.dimension_margins.items()])
    _contributions(found.contributions, prompt)


@app.command()
def explain(
    item: Path,
    prompt: Prompt = "",
    judge: JudgeName = "measured",
    option: Options = None,
    checklist: ChecklistName = "image",
    questions: Questions = "answerable",
    cache: Cache = None,
) -> None:
    """Say what each answer adds to an item's score, the largest part first."""
    _contributions(load_reward(judge, option or [], checklist, questions, cache).explain(item, prompt), prompt)


@app.command()
def fit(
    preferences: Annotated[Path, typer.Argument(help="A file of preferences.")],
    output: Annotated[Path, typer.Option(help="The checklist with the learnt weights (YAML).")],
    format: Format = "jsonl",
    root: Root = None,
    method: Annotated[str, typer.Option(help="exact, or projected passes as in the paper.")] = "exact",
    judge: JudgeName = "measured",
    option: Options = None,
    checklist: ChecklistName = "image",
    questions: Questions = "answerable",
    cache: Cache = None,
) -> None:
    """Learn a checklist's weights from people's preferences, with an interval for each."""
    from reward.checklist import save_checklist
    from reward.pairs import fit_on_pairs

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
    checklist: ChecklistName = "image",
    questions: Questions = "answerable",
    cache: Cache = None,
    as_json: Json = False,
) -> None:
    """Measure how well a reward agrees with people: accuracy (ties dropped) and tau (ties counted), by dimension.

    With --format annotations: how often its judge answers each question as people do.
    """
    from dataclasses import asdict

    from reward.pairs import agreements

    if format == "annotations":
        reward = load_reward(judge, option or [], checklist, questions, cache)
        _judgements(preferences, root, checklist, reward, as_json)
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
        _table(["score", "pairs", "ties", "accuracy (diff)", "tau", "tie below"], rows)
    _fail_if(pairs.failures)


@app.command()
def tune(
    annotations: Annotated[Path, typer.Argument(help="Checklist answers: VisionRewardDB's layout, or JSON lines.")],
    model: Annotated[str, typer.Option(help="A vision-language model: a folder or hub id.")],
    output: Annotated[Path, typer.Option(help="Folder for the LoRA; `-o model=FOLDER` then judges with it.")],
    heldout: Annotated[Path | None, typer.Option(help="Answers to examine the judge on, before and after.")] = None,
    checklist: ChecklistName = "image",
    root: Root = None,
    num_steps: int = 1500,
    batch_size: int = 64,
    micro_batch_size: int = 4,
    learning_rate: float = 1e-4,
    rank: int = 16,
    bf16: bool = False,
    gradient_checkpointing: bool = False,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or auto: of the weights as loaded.")] = "auto",
    seed: int = 0,
) -> None:
    """Tune a judge: a LoRA on a vision-language model, taught people's checklist answers."""
    from reward import load_checklist
    from reward.preferences import read_annotations

    loaded = load_checklist(checklist)
    taught = read_annotations(annotations, loaded.kind, root=root, checklist=loaded)
    examined = read_annotations(heldout, loaded.kind, root=root, checklist=loaded) if heldout else []
    try:
        from reward.tune import TuneSettings
        from reward.tune import tune as tune_judge
    except ImportError as error:
        raise RewardError(f"{error.name} is not installed; tuning needs: pip install 'mpo[tune]'") from error
    from reward import VisionReward
    from reward.judges.vlm import VLMJudge
    from reward.pairs import judgements

    judge = VLMJudge(model, dtype=dtype)
    reward = VisionReward(judge, loaded)
    before, failures = judgements(reward, examined)
    settings = TuneSettings(
        num_steps=num_steps, batch_size=batch_size, micro_batch_size=micro_batch_size, learning_rate=learning_rate, rank=rank,
        bf16=bf16, gradient_checkpointing=gradient_checkpointing, seed=seed,
    )  # fmt: skip
    log = tune_judge(judge, taught, loaded, output, settings)
    if log:
        typer.echo(f"loss {log[0]['loss']:.3f} at first, {log[-1]['loss']:.3f} at last")
    after, _ = judgements(reward, examined)
    rows = [
        [
            then.question_id,
            str(then.num_yes),
            str(then.num_no),
            f"{then.balanced_accuracy:.3f}",
            f"{now.balanced_accuracy:.3f}",
        ]
        for then, now in zip(before, after, strict=True)
    ]
    _table(["question", "yes", "no", "balanced accuracy before", "after"], rows)
    typer.echo(str(output))
    _fail_if(failures)


@app.command("serve-check")
def serve_check(
    url: Annotated[str, typer.Argument(help="Such as http://localhost:8000/v1.")],
    model: Annotated[str | None, typer.Option(help="As the server names it. Default: the only one it serves.")] = None,
    api_key: Annotated[str | None, typer.Option(help="Default: $OPENAI_API_KEY.")] = None,
) -> None:
    """Find out whether a server can judge: ask it about a picture and look at what comes back."""
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


def _items(files: Sequence[Path], prompt: str, prompts: Path | None) -> tuple[list[Path], list[str]]:
    if prompts is None:
        if not files:
            raise RewardError("nothing to score; give files, or --prompts FILE.jsonl")
        return list(files), [prompt] * len(files)
    if files or prompt:
        raise RewardError("--prompts names files and prompts itself; leave out the others")
    media, texts = [], []
    try:
        lines = prompts.read_text("utf-8").splitlines()
    except OSError as error:
        raise RewardError(f"--prompts {prompts}: {error.strerror}") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                row = json.loads(line)
                media.append(prompts.parent / row["file"])
                texts.append(row["prompt"])
                if not isinstance(row["prompt"], str):
                    raise ValueError(f"prompt is {row['prompt']!r}")
            except (ValueError, KeyError, TypeError) as error:
                raise RewardError(
                    f'{prompts}, line {number}: {error}; each line is {{"file": …, "prompt": …}}'
                ) from error
    return media, texts


def _judgements(path: Path, root: Path | None, checklist: str, reward: Any, as_json: bool) -> None:
    from dataclasses import asdict

    from reward import load_checklist
    from reward.pairs import judgements
    from reward.preferences import read_annotations

    whole = load_checklist(checklist)
    annotations = read_annotations(path, whole.kind, root=root, checklist=whole)
    found, failures = judgements(reward, annotations, progress=sys.stderr.isatty())
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in found], indent=1))
        _fail_if(failures)
        return
    rows = [[each.question_id, str(each.num_yes), str(each.num_no), f"{each.balanced_accuracy:.3f}"] for each in found]
    _table(["question", "yes", "no", "balanced accuracy"], rows)
    _fail_if(failures)


def _judged(
    path: Path, format: str, root: Path | None, judge: str, option: Any, checklist: str, questions: str, cache: Any
):
    from reward.pairs import judge_pairs
    from reward.preferences import read_preferences

    preferences = read_preferences(path, format, root=root)
    reward = load_reward(judge, option or [], checklist, questions, cache)
    return judge_pairs(reward, preferences, progress=sys.stderr.isatty())


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


def _contributions(contributions, prompt: str) -> None:
    def words(value: float | None, continuous: bool) -> str:
        if value is None:
            return ""
        return f"{value:.3f}" if continuous else {1.0: "yes", -1.0: "no", 0.0: "does not apply"}[value]

    compared = any(each.against is not None for each in contributions)
    rows = []
    for each in contributions:
        answers = [words(each.answer, each.question.continuous)]
        answers += [words(each.against, each.question.continuous)] if compared else []
        rows.append([each.question.ask(prompt), each.dimension, *answers, f"{each.difference:+.3f}"])
    _table(["question", "dimension", *(("first", "second", "lead") if compared else ("answer", "adds"))], rows)


def _say(message: str) -> None:
    print(f"reward: {message}", file=sys.stderr)


def _fail_for(failures: Any, media: Sequence[Any]) -> None:
    for row, reason in failures.items():
        _say(reason if str(media[row]) in reason else f"{media[row]}: {reason}")
    _fail_if(failures)


def _fail_if(failures: Any) -> None:
    if failures:
        _say(f"{len(failures)} could not be scored")
        raise typer.Exit(1)


def main() -> None:
    """Entry point: a user's error is one line on standard error and exit code 2."""
    try:
        app()
    except RewardError as error:
        _say(str(error))
        sys.exit(2)


if __name__ == "__main__":
    main()
