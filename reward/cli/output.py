"""What commands print: tables and JSON on standard output, remarks and errors on standard error."""

import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

import typer

_quiet = False


def is_quiet() -> bool:
    return _quiet


def set_quiet(quiet: bool) -> None:
    """Quiet: only errors on standard error; no progress, no remarks, no bars from the libraries that load models."""
    global _quiet
    _quiet = quiet
    logging.getLogger("reward").setLevel(logging.ERROR if quiet else logging.WARNING)
    if quiet:
        for library in ("HUB", "DATASETS"):
            os.environ[f"HF_{library}_DISABLE_PROGRESS_BARS"] = "1"  # they read it when imported, which comes later


def say(remark: str) -> None:
    """Print a remark; errors go to `error`."""
    if not _quiet:
        error(remark)


def error(message: str) -> None:
    print(f"reward: {message}", file=sys.stderr)


def fail_for(failures: Any, media: Sequence[Any]) -> None:
    for row, reason in failures.items():
        error(reason if str(media[row]) in reason else f"{media[row]}: {reason}")
    fail_if(failures)


def fail_if(failures: Any) -> None:
    if failures:
        error(f"{len(failures)} could not be scored")
        raise typer.Exit(1)


def table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    if not rows:
        return
    console = Console() if sys.stdout.isatty() else Console(width=200)
    shown = Table(box=box.SIMPLE)
    for i, name in enumerate(names):
        shown.add_column(name, justify="left" if i == 0 or name == "text" else "right", overflow="fold")
    for row in rows:
        shown.add_row(*row)
    console.print(shown)
