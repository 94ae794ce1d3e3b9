"""The command `mpo`: thin; each command calls a function that a user can import."""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from mpo import MpoError, __version__
from mpo.first_steps import commands
from mpo.first_steps.completion import complete_recipe, complete_run, complete_stage
from mpo.runtime.processes import shut_down
from mpo.runtime.progress import say, set_quiet
from mpo.votes.command import votes

app = typer.Typer(
    name="mpo",
    help="Align text-to-image and text-to-video diffusion models with multi-dimensional human preference.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

# What `mpo status` calls the state of a stage's work.
WORDS = {
    "done": "done", "absent": "not begun", "begun": "begun", "missing": "incomplete", "damaged": "damaged", "stale": "out of date"
}  # fmt: skip

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars; a line now and then instead, for logs.")]
Folder = Annotated[
    Path, typer.Argument(help="A run directory, made by `mpo run`.", metavar="RUN", autocompletion=complete_run)
]
RecipeName = Annotated[
    str, typer.Argument(help="A shipped recipe's name, or a YAML file.", autocompletion=complete_recipe)
]
Repair = Annotated[bool, typer.Option("--repair", help="Make damaged files again, with the same bytes.")]
Redo = Annotated[
    bool, typer.Option("--redo", help="Delete what this stage and later ones have made, and make it again.")
]
PushToHub = Annotated[
    str | None,
    typer.Option(help="Upload it with its card to this repository of the Hugging Face hub.", metavar="OWNER/NAME"),
]
Private = Annotated[bool, typer.Option("--private", help="Make a new repository private.")]
Port = Annotated[int, typer.Option(help="0 = any that is free.", min=0, max=65535)]
Browser = Annotated[bool, typer.Option(help="Open the page in the browser.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Override a recipe value, such as train.learning_rate=1e-5. Repeatable.", metavar="KEY=VALUE"
    ),
]


app.command()(commands.init)
app.command()(commands.doctor)


@app.command()
def run(
    recipe: RecipeName,
    output: Annotated[Path | None, typer.Option(help="The run directory. Default: runs/RECIPE.")] = None,
    settings: Settings = None,
    until: Annotated[
        str, typer.Option(help="The last stage to run.", metavar="STAGE", autocompletion=complete_stage)
    ] = "report",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print the plan, write nothing.")
    ] = False,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Reuse the work of this run as far as the recipes agree.",
            metavar="RUN",
            autocompletion=complete_run,
        ),
    ] = None,
    repair: Repair = False,
    processes: Annotated[
        int,
        typer.Option(
            help="How many processes of this machine share the work: one for each GPU, or for every few cores.", min=1
        ),
    ] = 1,
    on: Annotated[
        str | None, typer.Option(help="A cluster that does the work: ray or slurm.", metavar="CLUSTER")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="With --on: at most so many at a time.", min=1)] = None,
    trainers: Annotated[
        int | None, typer.Option(help="With --on: so many train together. Default: as many as --workers.", min=1)
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="With --on ray: of the cluster. Default: auto, this machine's.")
    ] = None,
    cluster: Annotated[
        list[str] | None,
        typer.Option(help="With --on: an option of it, such as partition=gpu. Repeatable.", metavar="KEY=VALUE"),
    ] = None,
    fit: Annotated[
        str | None,
        typer.Option(
            "--fit",
            help="Change what the memory of one GPU demands: a size such as 24GB, or auto. Says what.",
            metavar="SIZE|auto",
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Run a recipe from prompts to a tuned LoRA and its report. Run it again to continue where it stopped."""
    set_quiet(quiet)
    from mpo.recipe import load_recipe
    from mpo.run import prepare, preview, run_recipe, stages_of
    from mpo.run_folder.paths import RunFolder

    loaded = load_recipe(recipe, settings or [])
    if fit is not None:
        from mpo.first_steps.pricing import fitted_here

        loaded, words = fitted_here(loaded, fit)
        say(words)
    stages = stages_of(loaded)
    if until not in stages:
        raise MpoError(f"--until={until!r} is not a stage of this recipe; stages: {', '.join(stages)}")
    folder = output or Path("runs") / loaded.name
    stages = stages[: stages.index(until) + 1]
    num_trainers = trainers or workers or (processes if processes > 1 else None)
    start_engine = _cluster(on, workers, trainers, address, cluster or [], processes)
    if processes > 1 and not dry_run:
        from mpo.runtime.launch import is_launched, launch

        if "WORLD_SIZE" not in os.environ:
            if loaded.rounds == 1:  # here, so that a mistake is told once, and not by each process
                prepare(loaded, folder, source=source, stages=stages, repair=repair)
            raise typer.Exit(launch(sys.argv[1:], processes))
        if is_launched() and loaded.rounds == 1:
            source = None  # taken over before the launch
    if dry_run:
        if source:
            raise MpoError("--from cannot be combined with --dry-run, which plans the whole run; leave out one of them")
        from mpo.planning.plan import plan
        from mpo.planning.words import in_words, lack_of_disk
        from reward.judges.loading import count_parameters

        done = preview(loaded, folder, repair=repair)
        found = plan(loaded, count_judge=count_parameters, num_trainers=num_trainers)
        typer.echo(in_words(found, loaded, folder))
        typer.echo(f"done      {', '.join(done) or 'nothing yet'} in {folder}")
        if too_little := lack_of_disk(found, loaded, folder):
            raise MpoError(too_little)
        return
    if loaded.rounds > 1 and until != "report":
        raise MpoError("--until is for one round; leave it out, or set rounds=1")
    if start_engine and loaded.rounds == 1:  # first, so that a mistake is told before the cluster is asked
        prepare(loaded, folder, source=source, stages=stages, repair=repair, num_trainers=num_trainers)
        source = None  # taken over
    again = "run the same command again to continue from here"
    with _stopped_by_hand(lambda: again), start_engine() if start_engine else nullcontext() as engine:
        if loaded.rounds > 1:
            from mpo.rounds import run_rounds

            _conclude(run_rounds(loaded, folder, repair=repair, source=source, engine=engine))
        else:
            run_recipe(loaded, folder, stages=stages, repair=repair, source=source, engine=engine)
            _conclude(RunFolder(folder))


def _cluster(
    on: str | None,
    workers: int | None,
    trainers: int | None,
    address: str | None,
    options: list[str],
    processes: int,
) -> Callable[[], AbstractContextManager[Any]] | None:
    """What connects to the cluster; None = these processes do the work. Raises MpoError for options that do not go together."""
    if on is None:
        given = {"--workers": workers, "--trainers": trainers, "--address": address, "--cluster": options}
        for name, value in given.items():
            if value:
                raise MpoError(f"{name} is for a cluster; add --on ray or --on slurm, or leave it out")
        return None
    if on not in ("ray", "slurm"):
        raise MpoError(f"--on={on!r} is unknown; use ray or slurm")
    if processes > 1 or "WORLD_SIZE" in os.environ:
        raise MpoError(f"--on {on} deals out the work itself; leave out --processes, and accelerate launch")
    if workers is None:
        raise MpoError(f"--on {on} needs --workers, such as --workers 8: so many at a time, each with a GPU")
    if address is not None and on != "ray":
        raise MpoError(f"--address is of a Ray cluster; leave it out with --on {on}")
    unset = [each for each in options if "=" not in each]
    if unset:
        raise MpoError(f"--cluster {unset[0]}: write KEY=VALUE, such as partition=gpu")
    given = dict(each.split("=", 1) for each in options)
    from mpo.clusters.engine import typed

    if on == "ray":
        from mpo.clusters import on_ray

        typed(given, on_ray.OPTIONS, on=on)  # here, so that a dry run finds a mistake, and nothing is written before
        return lambda: closing(
            on_ray.RayEngine(workers, num_trainers=trainers, address=address or "auto", options=given)
        )
    from mpo.clusters import on_slurm

    typed(given, on_slurm.OPTIONS, on=on)
    return lambda: closing(on_slurm.SlurmEngine(workers, num_trainers=trainers, options=given))


@contextmanager
def _stopped_by_hand(words: Callable[[], str]) -> Iterator[None]:
    """Ctrl-C is not a failure: say how to continue. Exit code 130, as in shells."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"\nmpo: stopped; {words()}", file=sys.stderr)
        raise typer.Exit(130) from None


def _conclude(run: Any) -> None:
    """Print the run's result, from the main process."""
    from mpo.comparison.win_rates import opinions, read_summary
    from mpo.runtime.processes import is_main

    if not is_main():
        return
    if run.summary.exists():
        summary = read_summary(run)
        for name, entry in [("total", summary["total"]), *summary["dimensions"].items()]:
            low, high = entry["ci95"]
            typer.echo(
                f"{name:<20} win rate {entry['win_rate']:.3f}  95% {low:.3f} to {high:.3f}  ties {entry['tie_rate']:.3f}  ({entry['num_prompts']} prompts)"
            )
        for row in opinions(summary):
            low, high = row.rates["ci95"]
            if row.name == "total":
                typer.echo(f"by {row.judge}, which did not choose:")
            typer.echo(
                f"{row.name:<20} win rate {row.rates['win_rate']:.3f}  95% {low:.3f} to {high:.3f}  {row.verdict}".rstrip()
            )
        for name, guard in summary["guards"].items():
            low, high = guard["ci95"]
            typer.echo(f"{name:<20} tuned / base {guard['ratio']:.3f}  95% {low:.3f} to {high:.3f}")
    if run.lora_weights.exists():
        typer.echo(f"LoRA  {run.lora_weights}")
    if run.report.exists():
        typer.echo(f"page  {run.report}  (open it in a browser, or: mpo view {run.folder})")


@app.command()
def recipes() -> None:
    """List the shipped recipes."""
    from mpo.recipe import load_recipe, shipped_recipes

    for name in shipped_recipes():
        typer.echo(f"{name:<16} {load_recipe(name).description}")


@app.command()
def show(recipe: RecipeName, settings: Settings = None) -> None:
    """Print a recipe with every value filled in."""
    from mpo.recipe import dump_recipe, load_recipe

    typer.echo(dump_recipe(load_recipe(recipe, settings or [])), nl=False)


def _run_stage(folder: Path, stage: str, *, repair: bool, redo: bool) -> None:
    from mpo.dependencies import examine
    from mpo.recipe import read_recipe
    from mpo.run import run_stage
    from mpo.run_folder.paths import RunFolder

    if repair and redo:
        raise MpoError("--repair with --redo: the first keeps undamaged files, the second none; leave out either")

    def where() -> str:
        state = examine(RunFolder(folder), read_recipe(RunFolder(folder).recipe), stage).why
        without = " without --redo" if redo else ""
        return f"stage {stage} is {state or 'as it was'}; run `mpo {stage} {folder}`{without} to continue from here"

    with _stopped_by_hand(where):
        run_stage(folder, stage, repair=repair, redo=redo)


def _stage_command(stage: str, words: str) -> None:
    def command(folder: Folder, repair: Repair = False, redo: Redo = False, quiet: Quiet = False) -> None:
        set_quiet(quiet)
        _run_stage(folder, stage, repair=repair, redo=redo)

    app.command(stage, help=words)(command)


@app.command()
def export(
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="A run; with --format also LoRA files, or several, which are added up.",
            metavar="RUN|LORA…",
            autocompletion=complete_run,
        ),
    ],
    form: Annotated[
        str | None, typer.Option("--format", help="diffusers, comfyui, kohya, merged or peft.", metavar="FORMAT")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="A new file (.safetensors) or folder. Default: RUN/exports/NAME-FORMAT; of a LoRA file, NAME-FORMAT beside it."
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="What LoRA files are for: a folder, hub id or one file.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, float16 or bfloat16.")] = None,
    rank: Annotated[int | None, typer.Option(help="The largest rank; more is cut by singular values.", min=1)] = None,
    strength: Annotated[float, typer.Option(help="A factor for the LoRA's effect.")] = 1.0,
    push_to_hub: PushToHub = None,
    private: Private = False,
    repair: Repair = False,
    redo: Redo = False,
    quiet: Quiet = False,
) -> None:
    """Write a run's LoRA for diffusers and ComfyUI, with a model card; with --format, any LoRA in another form."""
    set_quiet(quiet)
    if form is None:
        given = {"--output": output, "--model": model, "--dtype": dtype, "--rank": rank, "several sources": sources[1:]}
        unused = [name for name, value in given.items() if value] + (["--strength"] if strength != 1 else [])
        if unused:
            raise MpoError(f"{unused[0]} is for --format, which is not given; add --format=comfyui or another")
        _run_stage(sources[0], "export", repair=repair, redo=redo)
        if push_to_hub:
            from mpo.export.hub_push import push
            from mpo.run_folder.paths import RunFolder

            typer.echo(push(RunFolder(sources[0]).lora, push_to_hub, kind="model", private=private))
        return
    if push_to_hub:
        raise MpoError("--push-to-hub uploads a run's lora/ with its card; leave out --format")
    if repair or redo:
        raise MpoError("--repair and --redo are for a run's own stage; leave them out, or --format")
    from mpo.export.convert import export_as

    typer.echo(str(export_as(sources, form, output, model=model, dtype=dtype, rank=rank, strength=strength)))


@app.command()
def status(
    folder: Folder, as_json: Annotated[bool, typer.Option("--json", help="JSON on standard output.")] = False
) -> None:
    """Show which stages of a run are done, which are out of date and why, and what to do about it."""
    import json

    from mpo.dependencies import status as verdicts
    from mpo.recipe import read_recipe
    from mpo.rounds import rounds_in
    from mpo.run_folder.paths import RunFolder

    RunFolder(folder).require()
    runs = [RunFolder(each) for each in rounds_in(folder) or [folder]]
    rows = [(run, *row) for run in runs for row in verdicts(run, read_recipe(run.recipe))]
    if as_json:
        records = [
            {"run": str(run.folder), "stage": stage, "state": v.state, "why": v.why, "files": v.names, "command": todo}
            for run, stage, v, todo in rows
        ]
        typer.echo(json.dumps(records, indent=1))
        return
    for run, stage, verdict, todo in rows:
        colon = ": " if verdict.why and todo else ""
        within = f"{run.folder.name:<9} " if len(runs) > 1 else ""
        typer.echo(f"{within}{stage:<13} {WORDS[verdict.state]:<12} {verdict.why}{colon}{todo}".rstrip())


@app.command()
def compare(
    folders: Annotated[
        list[Path], typer.Argument(help="Finished run directories.", metavar="RUN...", autocompletion=complete_run)
    ],
    output: Annotated[Path | None, typer.Option(help="Also write the page: an .html file.", metavar="PAGE")] = None,
) -> None:
    """Show finished runs side by side: repetitions of an arm together, arms with the difference and how sure it is."""
    from mpo.pages.study import write_study
    from mpo.study import compare, describe

    if output is not None and output.suffix != ".html":
        raise MpoError(f"--output {output} does not end in .html; give a name that does")
    study = compare(folders)
    typer.echo(describe(study))
    if output is not None:
        write_study(study, output)
        typer.echo(str(output))


@app.command()
def view(
    folders: Annotated[list[Path], typer.Argument(help="Finished run directories.", metavar="RUN...")],
    port: Port = 0,
    browser: Browser = True,
) -> None:
    """Show runs in the browser: results, pairs, training, candidates. Served on this machine alone; Ctrl-C ends it."""
    from mpo.comparison.win_rates import read_evaluation
    from mpo.pages.server import LocalServer, view_routes
    from mpo.rounds import rounds_in
    from mpo.run_folder.paths import RunFolder

    runs = [RunFolder(each) for folder in folders for each in rounds_in(folder) or [folder]]
    for run in runs:  # here, so that a folder that cannot be shown is told before the page opens
        run.require()
        read_evaluation(run)
    _serve(LocalServer(view_routes(runs), port=port), browser=browser)


@app.command()
def vote(
    folder: Folder,
    rater: Annotated[str | None, typer.Option(help="Who votes. Default: the account's name.")] = None,
    port: Port = 0,
    browser: Browser = True,
) -> None:
    """Vote blind on base and tuned samples in the browser; `mpo votes RUN` shows what people have said."""
    from mpo.pages.server import LocalServer
    from mpo.pages.vote import vote_routes
    from mpo.run_folder.paths import RunFolder
    from mpo.votes.store import account_rater

    _serve(LocalServer(*vote_routes(RunFolder(folder), rater or account_rater()), port=port), browser=browser)


def _serve(server: Any, *, browser: bool) -> None:
    """Until Ctrl-C."""
    import webbrowser

    typer.echo(f"{server.url}  (Ctrl-C ends it)")
    if browser:
        webbrowser.open(server.url)
    with suppress(KeyboardInterrupt), server:
        server.serve_forever()


@app.command()
def dataset(
    folder: Folder,
    output: Annotated[Path, typer.Option(help="A new folder for the data set.")],
    push_to_hub: PushToHub = None,
    private: Private = False,
    quiet: Quiet = False,
) -> None:
    """Write candidates, scores and pairs as a Hugging Face data set with a card."""
    set_quiet(quiet)
    from mpo.export.hub_dataset import publish

    publish(folder, output)
    typer.echo(str(output))
    if push_to_hub:
        from mpo.export.hub_push import push

        typer.echo(push(output, push_to_hub, kind="dataset", private=private))


for _stage, _words in {
    "generate": "Sample the candidates.",
    "import-pairs": "Read the pictures or clips and pairs of the recipe's preferences.",
    "score": "Let the judge answer the checklist for every candidate.",
    "select": "Choose the pairs to train on.",
    "encode": "Encode latents and prompts of the pairs, once.",
    "train": "Train the LoRA on the pairs.",
    "evaluate": "Compare tuned with base on held-out prompts.",
    "report": "Write the run's page.",
}.items():
    _stage_command(_stage, _words)


app.command()(votes)


def _version(show_version: bool) -> None:
    if show_version:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool | None, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point: a user's error is one line on standard error and exit code 2."""
    # It warns of a kernel that it would be faster with.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    try:
        app()
    except ValueError as error:
        from reward.errors import RewardError

        if not isinstance(error, (MpoError, RewardError)):
            raise
        print(f"mpo: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:  # of a file or folder that the system refuses
        if error.filename is None:
            raise
        print(f"mpo: {error.filename}: {error.strerror}; check that it can be read and written", file=sys.stderr)
        sys.exit(2)
    except SystemExit as stop:
        if not stop.code:  # a process that fails leaves at once: the others may be waiting for it
            shut_down()
        raise


if __name__ == "__main__":
    main()
