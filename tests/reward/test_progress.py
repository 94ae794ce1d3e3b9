import io
import re
import sys
import time

from reward.progress import duration, show_progress


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
    assert "2 of 2 items, " in shown
    assert " a second" in shown
    assert "score: 2 of 2 items" not in shown  # which would be the line of those without a terminal


def test_what_an_earlier_run_has_finished_counts_but_not_in_the_rate(capsys):
    with show_progress(1_000_002, done=1_000_000, every_s=0) as advance:
        time.sleep(0.2)
        advance(2)
    (line,) = capsys.readouterr().err.splitlines()
    shown = re.fullmatch(r"score: 1000002 of 1000002 items, (\d+\.\d+) a second", line)
    assert shown
    assert float(shown[1]) <= 10  # 2 items in at least 0.2 s; with the kept ones it would be millions


def test_time_left_is_in_the_largest_units():
    assert [duration(s) for s in (42, 200, 7500)] == ["42 s", "3 min 20 s", "2 h 5 min"]
