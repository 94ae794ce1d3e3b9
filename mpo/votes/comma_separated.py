"""Votes as CSV, a row each."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mpo import MpoError
from mpo.run_folder.files import replacing
from mpo.votes.answers import Answer, Showings, checked_seconds, checked_time
from mpo.votes.store import CHOICES

COLUMNS: tuple[str, ...] = ("comparison", "question", "rater", "prompt_id", "seed", "prompt", "left", "right", "choice", "repeat", "time", "seconds", "id")  # fmt: skip
NEEDED = ("comparison", "left", "choice")  # to be read


def write_rows(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Rows with some of COLUMNS; what is None or missing is left empty."""
    with replacing(file) as temporary, temporary.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.DictWriter(opened, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def read_rows(file: Path, showings: Showings) -> tuple[list[Answer], int]:
    """The answers in a file, and how many rows have none. Raises MpoError naming file, line and column."""
    answers, unanswered = [], 0
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:  # spreadsheets begin a file with a byte order mark
            reader = csv.DictReader(opened)
            for column in NEEDED:
                if column not in (reader.fieldnames or ()):
                    raise MpoError(f"{file}: there is no column {column!r}; it needs {', '.join(NEEDED)}, as --export writes them (from Label Studio, export JSON)")  # fmt: skip
            for row in reader:
                where = f"{file}, line {reader.line_num}"
                showing = showings.find(row["comparison"], row["left"], where)
                question = showings.checked_question(row.get("question"), where)
                choice = row["choice"]
                if not choice:
                    unanswered += 1
                    continue
                if choice not in CHOICES:
                    raise MpoError(
                        f"{where}: choice={choice!r} is unknown; use {', '.join(CHOICES)}, or leave it empty"
                    )
                answers.append(
                    Answer(
                        showing=showing,
                        question=question,
                        rater=row.get("rater") or None,
                        choice=choice,
                        time=checked_time(row.get("time"), "time", where),
                        seconds=checked_seconds(row.get("seconds"), "seconds", where),
                        id=row.get("id") or None,
                    )
                )
    except (UnicodeDecodeError, csv.Error) as error:
        raise MpoError(f"{file} is not CSV in UTF-8 ({error}); save it as such") from None
    return answers, unanswered
