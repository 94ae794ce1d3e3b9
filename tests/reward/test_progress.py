import io
import sys

from reward.progress import show_progress


def test_without_a_terminal_lines_come_at_the_interval_and_at_the_end(capsys):
    with show_progress(3, every_s=0) as advance:
        for _ in range(3):
            advance()
    first, second, last = capsys.readouterr().err.splitlines()
    assert first.startswith("score: 1 of 3 items, ")
    assert second.endswith(" s left")
    assert last.startswith("score: 3 of 3 items, ")
    assert last.endswith(" a second")
    with show_progress(3, every_s=1000) as advance:
        for _ in range(3):
            advance()
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_on_a_terminal_there_is_a_bar(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    with show_progress(2, every_s=0) as advance:
        advance()
        advance()
    shown = sys.stderr.getvalue()
    assert "100%" in shown
    assert " of 2 items" not in shown
