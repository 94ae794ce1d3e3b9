"""Stage report: the run's page."""

from pathlib import Path

from mpo.pages.report import render
from mpo.run_folder.files import write_text
from mpo.run_folder.paths import RunFolder


def report(folder: str | Path) -> None:
    """Everything in the run folder -> evaluation/report.html."""
    run = RunFolder(folder)
    write_text(run.report, render(run))
