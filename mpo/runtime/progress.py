"""Progress on long work: a bar with rate and time left, or now and then a plain line in quiet mode."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from mpo.runtime.processes import is_main

QUIET_INTERVAL_S = 30.0


_quiet = False


console = Console(stderr=True)


def set_quiet(quiet: bool) -> None:
    """Quiet: no bars; a line at a stage's start and end, and every half minute in between."""
    global _quiet
    _quiet = quiet


def say(message: str) -> None:
    """A line for the user on standard error, from the main process."""
    if not is_main():
        return
    if _quiet:
        print(message, file=sys.stderr, flush=True)
    else:
        console.print(message, highlight=False)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.2f}/s" if speed else "", style="dim")


@contextmanager
def track(description: str, total: int | None, done: int = 0) -> Iterator[Callable[..., None]]:
    """Yields `advance(count=1, note="")`; `done` of the total were finished by an earlier run. total: None = unknown.

    Of several processes the main one alone speaks, of its own share.
    """
    if not is_main():
        yield lambda count=1, note="": None
        return
    if _quiet:
        yield _quiet_advance(description, total, done)
        return
    columns = (
        TextColumn("{task.description:<22}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(description, total=total, completed=done, note="")

        def advance(count: int = 1, note: str = "") -> None:
            progress.update(task, advance=count, note=note)

        yield advance


def _quiet_advance(description: str, total: int | None, done: int) -> Callable[..., None]:
    started_s = said_s = time.monotonic()
    finished = done

    def advance(count: int = 1, note: str = "") -> None:
        nonlocal finished, said_s
        finished += count
        now_s = time.monotonic()
        if now_s - said_s >= QUIET_INTERVAL_S or finished == total:
            said_s = now_s
            rate = (finished - done) / max(now_s - started_s, 1e-9)
            left = (
                f"/{total}, {rate:.2f}/s, {(total - finished) / max(rate, 1e-9):.0f} s left"
                if total
                else f", {rate:.2f}/s"
            )
            say(f"{description}: {finished}{left} {note}".rstrip())

    return advance
