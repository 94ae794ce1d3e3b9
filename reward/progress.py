"""Progress of long scoring on standard error: a bar on a terminal, elsewhere a plain line now and then."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LINE_EVERY_S = 30.0


def duration(seconds: float) -> str:
    """Such as 42 s, 3 min 20 s, 2 h 5 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


@contextmanager
def show_progress(total: int, *, done: int = 0, every_s: float = LINE_EVERY_S) -> Iterator[Callable[..., None]]:
    """Yields `advance(count=1)`; `done` of the total were finished by an earlier run and are left out of the rate.

    On a terminal a bar with items a second and the time left. Elsewhere a line of the same every `every_s` seconds and at
    the end.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    console = Console(stderr=True)
    if not (console.is_terminal or console.is_jupyter):
        yield _plain_lines(total, done, every_s)
        return
    columns = (TextColumn("score"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[words]}"))
    started = time.monotonic()
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("score", total=total, completed=done, words="")
        finished = done

        def advance(count: int = 1) -> None:
            nonlocal finished
            finished += count
            words = _words(finished, total, done, time.monotonic() - started)
            bar.update(task, advance=count, words=words)

        yield advance


def _plain_lines(total: int, done: int, every_s: float) -> Callable[..., None]:
    started = last_line = time.monotonic()
    finished = done

    def advance(count: int = 1) -> None:
        nonlocal finished, last_line
        finished += count
        now = time.monotonic()
        if (count and finished == total) or now - last_line >= every_s:
            last_line = now
            print(f"score: {_words(finished, total, done, now - started)}", file=sys.stderr, flush=True)

    return advance


def _words(finished: int, total: int, done: int, seconds: float) -> str:
    """Such as "30 of 100 items, 2.50 a second, 28 s left"."""
    per_s = (finished - done) / max(seconds, 1e-9)
    left = f", {duration((total - finished) / per_s)} left" if finished < total and per_s else ""
    return f"{finished} of {total} items, {per_s:.2f} a second{left}"
