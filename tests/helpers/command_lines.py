"""Commands as the documents write them: whether the real programs would understand them. Nothing is run."""

import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import typer
import yaml

from mpo.recipe import load_recipe, shipped_recipes
from reward.errors import JudgeError
from reward.judges.depiction import parse
from reward.judges.options import OPTIONS
from tests.helpers.documents import ROOT

REDIRECTS = (">", ">>", "|", "&", "&&")
# What is no program of ours, and cannot be checked here.
OTHERS = ("curl", "printf", "hf", "export", "ssh", "cd", "ray")


class MisunderstoodError(Exception):
    """A command of a document that would fail."""


def commands_in(text: str) -> list[list[str]]:
    """A block's lines as words, without prompts, comments, and where the output goes."""
    found = []
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if words:
            found.append(words[: next((k for k, word in enumerate(words) if word in REDIRECTS), len(words))])
    return found


def check_command(words: list[str], recipes: Mapping[str, str]) -> None:
    """recipes: files that the page defines, name -> text. Raises MisunderstoodError."""
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    program, *arguments = words
    program = program.removeprefix(".venv/bin/")
    checks: dict[str, Callable[[list[str]], None]] = {
        "mpo": lambda a: check_mpo(a, recipes),
        "reward": check_reward,
        "make": check_make,
        "pip": check_pip,
        "python": lambda a: check_python(a, recipes),
        "accelerate": lambda a: check_launcher(a[1:], recipes),
        "torchrun": lambda a: check_launcher(a, recipes),
        "pytest": lambda a: require_paths(word for word in a if "/" in word),
        "pre-commit": lambda a: None,
        "docker": lambda a: check_docker(a, recipes),
    }
    if program in OTHERS:
        return
    if program not in checks:
        raise MisunderstoodError(f"{program!r} is no program that tests/helpers/command_lines.py knows")
    checks[program](arguments)


def parsed(app: typer.Typer, arguments: list[str]) -> tuple[list[str], dict[str, Any]]:
    """The command's names and its options, by the real parser."""
    if "--install-completion" in arguments:  # which the parser itself obeys
        raise MisunderstoodError("--install-completion writes into the shell's start-up files; say that it is not run")
    command: Any = typer.main.get_command(app)
    context, names, rest = None, [], arguments
    try:
        while True:
            context = command.make_context(command.name, list(rest), parent=context, help_option_names=["--help"])
            if not hasattr(command, "commands"):
                return names, context.params
            name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
            names.append(name)
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("click", "typer"):
            raise
        raise MisunderstoodError(getattr(error, "message", None) or str(error)) from error


def check_mpo(arguments: list[str], recipes: Mapping[str, str]) -> None:
    from mpo.cli import app

    names, given = parsed(app, arguments)
    if names and names[0] in ("run", "show") and given["recipe"] != "NAME":
        load_named_recipe(given["recipe"], given["settings"] or [], recipes)


def load_named_recipe(name: str, settings: list[str], recipes: Mapping[str, str]) -> None:
    """A shipped recipe, or a file that the page defines; another file stands for quickstart's own."""
    if name in shipped_recipes():
        load_recipe(name, settings)
    elif name in recipes:
        file = Path(name)  # in the test's own folder
        file.write_text(recipes[name], "utf-8")
        load_recipe(name, settings)
    elif not name.endswith(".yaml"):
        raise MisunderstoodError(f"{name!r} is no shipped recipe")


def check_reward(arguments: list[str]) -> None:
    from reward.cli import app

    _, given = parsed(app, arguments)
    judge = given.get("judge")
    if judge in OPTIONS:
        for option in given.get("options") or given.get("option") or []:
            key = option.partition("=")[0]
            if key not in OPTIONS[judge].model_fields:
                raise MisunderstoodError(f"judge {judge!r} has no option {key!r}")
    if judge == "measured" and given.get("prompt") and not given.get("no_alignment"):
        try:
            parse(given["prompt"])  # which a reader who copies the line would be told
        except JudgeError as error:
            raise MisunderstoodError(str(error)) from None


def check_make(arguments: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in (word for word in arguments if "=" not in word):
        if not re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE):
            raise MisunderstoodError(f"the Makefile has no target {target!r}")


def check_pip(arguments: list[str]) -> None:
    section = (ROOT / "pyproject.toml").read_text("utf-8").split("[project.optional-dependencies]\n")[1].split("\n[")[0]
    known = set(re.findall(r"^(\w+) = \[", section, re.MULTILINE))  # Python 3.10 has no reader of TOML
    for extras in re.findall(r"\[([\w,]+)\]", " ".join(arguments)):
        unknown = set(extras.split(",")) - known
        if unknown:
            raise MisunderstoodError(f"pyproject.toml has no extra {', '.join(unknown)}")


def check_python(arguments: list[str], recipes: Mapping[str, str]) -> None:
    if arguments[0] != "-m":
        require_paths(arguments[:1])
        return
    module, *rest = arguments[1:]
    if module in ("mpo.cli", "reward.cli"):
        check_command([module.partition(".")[0], *rest], recipes)
        return
    file = ROOT / f"{module.replace('.', '/')}.py"
    if not file.is_file():
        raise MisunderstoodError(f"there is no module {module}")
    text = file.read_text("utf-8")
    for flag in (word.partition("=")[0] for word in rest if word.startswith("--")):
        if f'"{flag}"' not in text:
            raise MisunderstoodError(f"{module} has no option {flag}")


def check_launcher(arguments: list[str], recipes: Mapping[str, str]) -> None:
    """`accelerate launch` or `torchrun`: the configuration's file, and what is launched."""
    place = arguments.index("-m")
    files = [arguments[k + 1] for k, word in enumerate(arguments[:place]) if word == "--config_file"]
    require_paths(files)
    for file in files:
        assert isinstance(yaml.safe_load((ROOT / file).read_text("utf-8")), dict)
    check_python(arguments[place:], recipes)


def check_docker(arguments: list[str], recipes: Mapping[str, str]) -> None:
    """`docker build`: its file. `docker run`: what the image `mpo` or `mpo:cpu` is told to do."""
    command, *rest = arguments
    if command == "build":
        place = rest.index("-f") + 1 if "-f" in rest else None
        require_paths([rest[place] if place else "Dockerfile"])
        return
    image = next((k for k, word in enumerate(rest) if word in ("mpo", "mpo:cpu")), None)
    if command != "run" or image is None:
        raise MisunderstoodError(
            f"docker {command}: tests/helpers/command_lines.py knows build, and run of mpo or mpo:cpu"
        )
    check_mpo(rest[image + 1 :], recipes)


def require_paths(paths: Any) -> None:
    for path in paths:
        if not (ROOT / path).exists():
            raise MisunderstoodError(f"there is no {path}")
