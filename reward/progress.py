"""Progress of long scoring on standard error: a bar on a terminal, elsewhere a plain line now and then."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LINE_EVERY_S = 30.0


@contextmanager
def show_progress(total: int, *, every_s: float = LINE_EVERY_S) -> Iterator[Callable[[], None]]:
    """Yields a function to call after each item. Without a terminal, it prints a line every `every_s` seconds and at the end."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if not (console.is_terminal or console.is_jupyter):
        yield _plain_lines(total, every_s)
        return
    with Progress(console=console) as bar:
        task = bar.add_task("score", total=total)
        yield lambda: bar.advance(task)


def _plain_lines(total: int, every_s: float) -> Callable[[], None]:
    started = last_line = time.monotonic()
    finished = 0

    def advance() -> None:
        nonlocal finished, last_line
        finished += 1
        now = time.monotonic()
        if finished == total or now - last_line >= every_s:
            last_line = now
            per_s = finished / max(now - started, 1e-9)
            left = f", {(total - finished) / per_s:.0f} s left" if finished < total else ""
            print(f"score: {finished} of {total} items, {per_s:.2f} a second{left}", file=sys.stderr, flush=True)

    return advance
