"""The command `reward`: thin; each command calls functions that a user can import.

Exit codes: 0 = done; 1 = some items could not be scored, the others were; 2 = a user's mistake, explained in one line.
"""

import logging
import sys
from typing import Annotated

import typer

from reward.cli import people, scoring, serving
from reward.cli.output import error as say_error
from reward.errors import RewardError

app = typer.Typer(
    name="reward",
    help="Readable scores for pictures and clips: a judge answers a checklist, weights add up the answers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


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


for _command in (
    scoring.score,
    scoring.compare,
    scoring.explain,
    people.fit,
    people.agree,
    people.leaderboard,
    people.tune,
):
    app.command()(_command)
app.command()(serving.serve)
app.command("serve-check")(serving.serve_check)


def main() -> None:
    """Entry point: a user's error is one line on standard error and exit code 2."""
    # It warns of a kernel that it would be faster with.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    try:
        app()
    except RewardError as error:
        say_error(str(error))
        sys.exit(2)
