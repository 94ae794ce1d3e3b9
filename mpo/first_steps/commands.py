"""The commands `mpo init` and `mpo doctor`: thin; what they call is imported late."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from mpo import MpoError
from mpo.first_steps.completion import complete_shipped


def init(
    name: Annotated[
        str | None, typer.Argument(help="The recipe's name, or its file.", metavar="NAME|FILE.yaml")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="embedded, embedded-video, a folder, a hub id, or one .safetensors file.")
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(help="A file with a prompt a line, a table, a shipped set, or shipped: the shipped recipe's."),
    ] = None,
    heldout: Annotated[
        str | None, typer.Option(help="Prompts to compare on. Default: a part of --prompts is split off.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option(help="measured, vlm:MODEL, server:URL, a scorer such as pickscore, or module:Class.")
    ] = None,
    gpu_memory: Annotated[str | None, typer.Option(help="Of one GPU, such as 24GB; or none.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="The file to write. Default: NAME.yaml here.", metavar="FILE.yaml")
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(
            help="The shipped recipe to start from. Default: by the model's family.",
            metavar="RECIPE",
            autocompletion=complete_shipped,
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
) -> None:
    """Write a recipe of your own from a few answers, fitted into your GPU's memory, and say what it will cost."""
    from mpo.first_steps.answers import Answers, parse_judge, parse_memory, parse_model, recipe_name

    if output is None and name and name.endswith((".yaml", ".yml")):
        output = Path(name)
    elif output is not None and output.suffix not in (".yaml", ".yml"):
        raise MpoError(f"--output={str(output)!r} does not end in .yaml; give a name that does")
    given = name or (output.name if output else None)
    called = recipe_name(_answer("NAME", given, "What shall the recipe be called?", "my-recipe", recipe_name))
    output = output or Path(f"{called}.yaml")
    if output.exists() and not overwrite:
        raise MpoError(f"--output={str(output)!r} exists; give another name, or replace it with --overwrite")

    from mpo.first_steps.starting_points import starting_point
    from mpo.recipe import load_recipe

    def check_model(text: str) -> None:
        starting_point(parse_model(text), like)

    words = (
        "Which model? embedded (small, comes with mpo), embedded-video, a folder, a hub id, or one .safetensors file."
    )
    model = _answer("--model", model, words, "embedded", check_model)
    start = starting_point(parse_model(model), like)
    words = f"Which prompts? A file with one a line, a table, a shipped set such as partiprompts, or shipped: {start.recipe}'s."
    prompts = _answer("--prompts", prompts, words, "shipped")
    if heldout is None and prompts != "shipped" and sys.stdin.isatty():
        words = "On which prompts are tuned and base compared? A file, or split: a part of the others is held out."
        answered = _answer("--heldout", None, words, "split")
        heldout = None if answered == "split" else answered
    first = load_recipe(start.recipe).judge[0]
    usual = f"{first.name}:{first.options['model']}" if "model" in first.options else first.name
    words = "Who judges? measured (coloured shapes; no weights), vlm:MODEL, server:URL, or a scorer such as pickscore."
    judge = _answer("--judge", judge, words, usual, lambda text: parse_judge(text, start.kind))
    words = "How much memory has one GPU of the machine that will run it? Such as 24GB, or none."
    gpu_memory = _answer("--gpu-memory", gpu_memory, words, _gpu_here(), parse_memory)
    typer.echo(_written(Answers(called, model, prompts, heldout, judge, parse_memory(gpu_memory), like), output))


def _answer(
    flag: str, given: str | None, words: str, default: str, check: Callable[[str], Any] = lambda text: text
) -> str:
    """What a flag gives, or the terminal is asked, until it can be used: `check` raises ValueError if not.

    Raises MpoError that names the flag if neither is there.
    """
    if given is not None:
        check(given)
        return given
    if not sys.stdin.isatty():
        example = f"mpo init {default}" if flag == "NAME" else f"{flag} {default}"
        raise MpoError(f"{flag} is missing, and there is no terminal to ask on; give it, as in {example}")

    def checked(text: str) -> str:
        try:
            check(text)
        except ValueError as error:  # MpoError, RewardError, or pydantic's
            raise typer.BadParameter(str(error).splitlines()[0]) from None
        return text

    typer.echo(words)
    return typer.prompt(f"  {flag.lstrip('-')}", default=default, value_proc=checked)


def _written(answers: Any, output: Path) -> str:
    """Make, price and write the recipe; the words about it."""
    from mpo.first_steps.new_recipe import new_recipe
    from mpo.first_steps.pricing import price
    from mpo.run_folder.files import write_text

    new, words = price(new_recipe(answers), answers.memory_gb, Path("runs") / answers.name)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_text(output, new.text())
    return f"{words}\nwritten   {output}, from {new.start.recipe}\nnext      mpo run {output}"


def _gpu_here() -> str:
    """The memory of this machine's first GPU, as an answer."""
    from mpo.runtime.machine import gpu_sizes

    return f"{sizes[0][1]:.0f}GB" if (sizes := gpu_sizes()) else "none"


def doctor(as_json: Annotated[bool, typer.Option("--json", help="JSON on standard output.")] = False) -> None:
    """Show what this machine can run, what is missing, and what to do about it. Exit code 1 if the quickstart cannot run."""
    from mpo.first_steps.doctor import can_run_quickstart, findings

    found = []
    for finding in findings():
        found.append(finding)
        if not as_json:
            typer.echo(finding.line())
    able = can_run_quickstart(found)
    if as_json:
        typer.echo(json.dumps({"quickstart": able, "findings": [finding.record() for finding in found]}, indent=1))
    else:
        typer.echo("next      mpo run quickstart" if able else "the quickstart cannot run here: see what is missing")
    raise typer.Exit(0 if able else 1)
