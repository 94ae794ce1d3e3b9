"""The options that commands share, and the judges that they describe."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from reward import judging
from reward.checklist import Kind
from reward.cli.output import say
from reward.errors import RewardError
from reward.judges import own_checklist, suggested_checklist
from reward.judging import Judging, checklist_of_all, read_judges
from reward.media import is_named_as
from reward.reward import Reward
from reward.settings import parse_setting

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
    str,
    typer.Option(
        "--format",
        help="jsonl, visionrewarddb, genai-bench, hpdv2, imagerewarddb or pickapic; of `reward agree` also annotations.",
    ),
]
Root = Annotated[
    Path | None, typer.Option("--root", help="Folder that relative paths start from. Default: the file's own.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace --output if it exists.")]
Json = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]


def judges_of(
    judge: str, option: Sequence[str] | None, checklist: str | None, questions: str | None
) -> tuple[Judging, ...]:
    """The judges that a command's options describe. Loads no weights."""
    if judge.endswith((".yaml", ".yml")):
        given = {"--option": option, "--checklist": checklist, "--questions": questions}
        for flag in (flag for flag, value in given.items() if value):
            raise RewardError(f"{flag} goes with one judge; write it into {judge}")
        return read_judges(Path(judge))
    values = dict(parse_setting(each, flag="--option", example="batch_size=4") for each in option or [])
    if checklist is None and own_checklist(judge, values) is None:
        checklist = "image"
    questions = questions or "answerable"
    asked = questions if questions in ("all", "answerable") else tuple(each.strip() for each in questions.split(","))
    return (Judging(name=judge, checklist=checklist, questions=asked, options=values),)


def load_reward(judges: Sequence[Judging], cache: Path | None) -> Reward:
    """The judges, loaded, as one reward."""
    judging.check_judges(judges)  # before weights are loaded
    reward = judging.load_reward(judges, cache=cache)
    if len(judges) == 1 and judges[0].questions == "answerable":
        whole = judging.checklist_of(judges[0])
        left_out = len(whole.questions) - len(reward.checklist.questions)
        if left_out:
            say(
                f"{left_out} questions of checklist {whole.name!r} are left out: the {judges[0].name} judge cannot answer them"
            )
    return reward


def require_medium(given: Sequence[Path], judges: Sequence[Judging], judge: str) -> Kind:
    """What the judges are asked about. Raises RewardError if all files and folders are, by their names, of the other medium."""
    kind = checklist_of_all(judges).kind
    other = "video" if kind == "image" else "image"
    held = [sorted(each.iterdir()) if each.is_dir() else [each] for each in given]
    found = [[file for file in files if is_named_as(file, other)] for files in held]
    if found and all(found) and not any(is_named_as(file, kind) for files in held for file in files):
        raise RewardError(
            f"judge {judge} is asked about {kind}s, and only {other}s are given, such as {found[0][0]}; use --checklist {suggested_checklist(other, judge)}"
        )
    return kind


def make_room(output: Path, suffixes: Sequence[str], *, overwrite: bool) -> None:
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
