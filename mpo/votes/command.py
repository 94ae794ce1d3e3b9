"""The command `mpo votes`: thin, as mpo/cli.py, which lists it."""

from pathlib import Path
from typing import Annotated

import typer

from mpo import MpoError


def votes(
    folder: Annotated[Path, typer.Argument(help="A finished run directory.", metavar="RUN")],
    export: Annotated[
        Path | None,
        typer.Option("--export", help="Write the votes: .json for Label Studio, or .csv.", metavar="FILE"),
    ] = None,
    tasks: Annotated[
        bool, typer.Option("--tasks", help="With --export: all pairs without votes, to be judged elsewhere.")
    ] = False,
    import_: Annotated[
        Path | None,
        typer.Option("--import", help="Store what was judged elsewhere: Label Studio's JSON, or .csv.", metavar="FILE"),
    ] = None,
    rater: Annotated[
        str | None,
        typer.Option(
            help="With --import: who judged. With --export: only this rater's votes, or tasks for them.", metavar="NAME"
        ),
    ] = None,
    question: Annotated[
        str | None, typer.Option(help="With --export: overall, or a dimension of the checklist.", metavar="NAME")
    ] = None,
    media_url: Annotated[
        str | None,
        typer.Option(
            help="With --export: what the samples' paths begin with. Default: Label Studio's local files.",
            metavar="URL",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on standard output.")] = False,
) -> None:
    """Show what people voted: win rates, how far raters agree, and how far the judges agree with them."""
    _check_options(export, import_, tasks=tasks, rater=rater, question=question, media_url=media_url, as_json=as_json)
    from mpo.run_folder.paths import RunFolder

    run = RunFolder(folder)
    if export is not None:
        from mpo.votes.interchange import LOCAL_FILES, export_tasks, export_votes
        from mpo.votes.pairs import OVERALL

        url = LOCAL_FILES if media_url is None else media_url
        if tasks:
            written = export_tasks(run, export, question=question or OVERALL, rater=rater, media_url=url)
        else:
            written = export_votes(run, export, question=question, rater=rater, media_url=url)
        for path in written:
            typer.echo(str(path))
        return
    if import_ is not None:
        from mpo.votes.interchange import import_votes

        done = import_votes(run, import_, rater=rater)
        typer.echo(
            f"{done.num_new} new votes, {done.num_corrected} corrected, {done.num_known} known already, {done.num_unanswered} without an answer"
        )
        return
    from mpo.votes.describe import as_json as json_of
    from mpo.votes.describe import describe
    from mpo.votes.results import results_of

    results = results_of(run)
    typer.echo(json_of(results) if as_json else describe(results))


def _check_options(
    export: Path | None, import_: Path | None, *, tasks: bool, rater: str | None, question: str | None,
    media_url: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Raises MpoError for options that have no effect together."""
    if export is not None and import_ is not None:
        raise MpoError("--export with --import: they go opposite ways; leave out either")
    for_export = {"--tasks": tasks, "--question": question, "--media-url": media_url}
    unused = [name for name, value in for_export.items() if value and export is None]
    if unused:
        raise MpoError(f"{unused[0]} is for --export FILE, which is not given; add it, or leave out {unused[0]}")
    if rater is not None and export is None and import_ is None:
        raise MpoError(f"--rater={rater} is for --export and --import; leave it out: results are shown for each rater")
    if as_json and (export is not None or import_ is not None):
        raise MpoError("--json is for the results; leave it out, or --export and --import")
