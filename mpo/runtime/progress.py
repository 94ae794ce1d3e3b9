"""Progress of long work: on a terminal a bar with rate and time left, elsewhere a plain line now and then."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from mpo.runtime.processes import is_main

LINE_INTERVAL_S = 30.0

_quiet = False
console = Console(stderr=True)


def set_quiet(quiet: bool) -> None:
    """Quiet: lines instead of bars on a terminal too."""
    global _quiet
    _quiet = quiet


def _plain() -> bool:
    return _quiet or not console.is_terminal


def say(message: str) -> None:
    """Print a line for the user on standard error, from the main process."""
    if not is_main():
        return
    if _plain():
        print(message, file=sys.stderr, flush=True)
    else:
        console.print(message, highlight=False, markup=False)


class _Left(ProgressColumn):
    """Count of total, the rate, the time left: kept short, so that the note also fits in 80 columns."""

    def render(self, task: Task) -> Text:
        count = f"{task.completed:.0f}" + (f"/{task.total:.0f}" if task.total is not None else "")
        speed = task.finished_speed or task.speed
        left_s = task.time_remaining
        words = [count, f"{speed:.1f}/s" if speed else "", _duration(left_s) if left_s else ""]
        return Text("  ".join(word for word in words if word))


@contextmanager
def track(description: str, total: int | None, done: int = 0) -> Iterator[Callable[..., None]]:
    """Yields `advance(count=1, note="")`; `done` of the total were finished by an earlier run. total: None = unknown.

    Of several processes only the main one reports, on its own share.
    """
    if not is_main() or total == done:
        yield lambda count=1, note="": None
        return
    if _plain():
        yield _line_now_and_then(description, total, done)
        return
    note_column = TextColumn("{task.fields[note]}", style="dim")
    with Progress(
        TextColumn("{task.description}"), BarColumn(bar_width=12), _Left(), note_column, console=console
    ) as progress:
        task = progress.add_task(description, total=total, completed=done, note="")

        def advance(count: int = 1, note: str = "") -> None:
            progress.update(task, advance=count, note=note)

        yield advance


def _line_now_and_then(description: str, total: int | None, done: int) -> Callable[..., None]:
    started_s = said_s = time.monotonic()
    finished = done

    def advance(count: int = 1, note: str = "") -> None:
        nonlocal finished, said_s
        finished += count
        now_s = time.monotonic()
        if now_s - said_s >= LINE_INTERVAL_S or finished == total:
            said_s = now_s
            rate = (finished - done) / max(now_s - started_s, 1e-9)
            left = (
                f"/{total}, {rate:.2f}/s, {_duration((total - finished) / max(rate, 1e-9))} left"
                if total
                else f", {rate:.2f}/s"
            )
            say(f"{description}: {finished}{left} {note}".rstrip())

    return advance


def _duration(seconds: float) -> str:
    from reward.progress import duration  # late: `mpo --help` need not load what reward loads

    return duration(seconds)
