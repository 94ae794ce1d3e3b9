"""A run folder that is damaged or changed: what is wrong is named in one line with a command, and that command makes it right.

Each case starts from a copy of a finished run (validated, with a running mean and kept reference errors).
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from safetensors.torch import load_file

from mpo import MpoError
from mpo.cli import main
from mpo.dependencies import status
from mpo.pages.report import render
from mpo.recipe import parse_recipe, read_recipe
from mpo.run import preview, run_recipe, run_stage
from mpo.run_folder.lock import OWN
from mpo.run_folder.paths import RunFolder
from mpo.runtime.progress import set_quiet
from reward.errors import RewardError
from tests.faults.kill import Moment, at, full_disk, interrupted
from tests.helpers.recipes import small_fields, with_validation
from tests.helpers.runs import files_of


@pytest.fixture(scope="module")
def whole(model_folder, tmp_path_factory) -> Path:
    set_quiet(True)
    folder = tmp_path_factory.mktemp("whole")
    fields = with_validation(small_fields(model_folder, folder), folder)
    fields["train"] |= {"num_steps": 4, "ema_decay": 0.5, "reference_cache": "errors", "num_draws": 1}
    run_recipe(parse_recipe(fields, source="small"), folder / "run")
    return folder / "run"


@pytest.fixture
def run(whole, tmp_path) -> RunFolder:
    shutil.copytree(whole, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def states(run: RunFolder) -> dict[str, str]:
    return {stage: verdict.state for stage, verdict, _ in status(run, read_recipe(run.recipe))}


def set_fields(run: RunFolder, **changes: dict) -> None:
    fields = yaml.safe_load(run.recipe.read_text())
    for section, values in changes.items():
        fields[section] |= values
    run.recipe.write_text(yaml.safe_dump(fields, sort_keys=False))


def flip(path: Path, place: float = 0.6) -> None:
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def swap(first: Path, second: Path) -> None:
    a, b = first.read_bytes(), second.read_bytes()
    first.write_bytes(b)
    second.write_bytes(a)


def lose_rows(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.slice(0, len(table) - 2), path)


def candidates(run: RunFolder) -> list[Path]:
    return sorted(run.candidates.rglob("*.png"))


def tuned_by_base(run: RunFolder) -> None:
    for file in (run.samples / "base").iterdir():
        shutil.copyfile(file, run.samples / "tuned" / file.name)


def checkpoint(run: RunFolder, name: str) -> Path:
    return run.checkpoints / "step-000004" / name


# what is done to the run; the stage whose work it is; what the line names; the option that makes it right
DAMAGE: dict[str, tuple[Callable[[RunFolder], object], str, str, str]] = {
    "two pictures swapped after scoring": (lambda r: swap(*candidates(r)[:2]), "generate", r"candidates/.*png is not what", "repair"),
    "a picture cut": (lambda r: cut(candidates(r)[3]), "generate", r"candidates/.*png is not what", "repair"),
    "a picture lost": (lambda r: candidates(r)[3].unlink(), "generate", r"candidates/.*png is missing", ""),
    "scores with rows lost": (lambda r: lose_rows(r.scores), "score", r"scores.parquet is not what", "repair"),
    "scores lost": (lambda r: r.scores.unlink(), "score", r"scores.parquet is missing", ""),
    "pairs flipped": (lambda r: flip(r.pairs), "select", r"pairs.parquet is not what", "repair"),
    "a shard cut": (lambda r: cut(r.encoded / "latents-00000.safetensors"), "encode", r"latents-00000", "repair"),
    "the running mean lost": (lambda r: checkpoint(r, "ema.safetensors").unlink(), "train", r"ema.safetensors is missing", "repair"),
    "an optimizer's digit flipped": (lambda r: flip(checkpoint(r, "optimizer.safetensors"), 0.9), "train", r"optimizer.safetensors is not what", "repair"),
    "a checkpoint's counters changed": (lambda r: checkpoint(r, "state.json").write_text("{}"), "train", r"state.json is not what", "repair"),
    "the training log lost": (lambda r: r.training_log.unlink(), "train", r"training.jsonl is missing", "repair"),
    "a line of the training log changed": (lambda r: flip(r.training_log), "train", r"training.jsonl is not what", "repair"),
    "trained.json damaged": (lambda r: cut(r.trained), "train", r"trained.json is not what", "repair"),
    "trained.json lost": (lambda r: r.trained.unlink(), "train", r"trained.json is missing", ""),
    "tuned samples replaced by base's": (tuned_by_base, "evaluate", r"samples/tuned/.*png is not what", "repair"),
    "summary lost": (lambda r: r.summary.unlink(), "evaluate", r"summary.json is missing", ""),
    "the exported file cut": (lambda r: cut(r.lora_weights), "export", r"pytorch_lora_weights.safetensors is not what", "repair"),
    "the exported file lost": (lambda r: r.lora_weights.unlink(), "export", r"pytorch_lora_weights.safetensors is missing", ""),
    "the page changed": (lambda r: flip(r.report), "report", r"report.html is not what", "repair"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_named_and_made_right_to_the_byte(case, run, whole):
    """Every stage's work once, half a second to five a case: what must never be a wrong result or a false "done"."""
    damage, stage, words, option = DAMAGE[case]
    before = files_of(whole)
    damage(run)
    (row,) = [row for row in status(run, read_recipe(run.recipe)) if row[0] == stage]
    assert row[1].state == ("damaged" if option else "missing")
    with pytest.raises(MpoError, match=words):
        raise MpoError(row[1].why)
    assert row[2] == f"mpo {stage} {run.folder}" + (f" --{option}" if option else "")
    if option:
        with pytest.raises(MpoError, match=rf"{words}.*--repair"):
            run_stage(run.folder, stage)
        later = {"generate": "encode", "report": "report"}.get(stage, "report")
        with pytest.raises(MpoError, match=r"--repair"):
            run_stage(run.folder, later)
    run_stage(run.folder, stage, repair=option == "repair")
    assert set(states(run).values()) == {"done"}
    after = files_of(run.folder)
    assert [name for name in before if after.get(name) != before[name] and "errors" not in name] == []


@pytest.mark.parametrize(
    ("changes", "stage", "field"),
    [
        ({"train": {"beta": 5.0}}, "train", "train.beta=5.0"),
        ({"train": {"rank": 2}}, "train", "train.rank=2"),
        ({"select": {"margin": 0.3}}, "select", "select.margin=0.3"),
        ({"generate": {"num_inference_steps": 3}}, "generate", "generate.num_inference_steps=3"),
        ({"judge": {"questions": ["clarity_1", "clarity_2"]}}, "score", "judge.questions="),
        ({"evaluate": {"seed": 7}}, "evaluate", "evaluate.seed=7"),
    ],
    ids=str,
)
def test_an_edited_recipe_is_refused_by_the_fields_name_until_it_is_redone(changes, stage, field, run):
    set_fields(run, **changes)
    with pytest.raises(MpoError, match=rf"{field}.*set it back, or run `mpo {stage} .* --redo`") as error:
        run_stage(run.folder, stage)
    assert "\n" not in str(error.value)
    for later in ("encode", "evaluate", "report"):  # and no later stage reads old work
        if list(states(run)).index(later) > list(states(run)).index(stage):
            with pytest.raises(MpoError, match=field):
                run_stage(run.folder, later)


def words_of(run: RunFolder, stage: str) -> list[str]:
    """What `mpo status` says of a stage: its state, why, and the command."""
    rows = {name: [verdict.state, verdict.why, todo] for name, verdict, todo in status(run, read_recipe(run.recipe))}
    return rows[stage]


@pytest.mark.parametrize(
    ("moment", "words"),
    [
        (Moment("shutil.rmtree", "evaluation/samples", 1), "half deleted: --redo was stopped"),
        (Moment("open", "training.jsonl", 3), "half done, after --redo deleted what was there before"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.pattern,
)
def test_a_redo_that_is_stopped_says_where_and_goes_on(moment, words, run):
    """Half a training each: with another beta, old and new work must not mix."""
    set_fields(run, train={"beta": 5.0})
    with interrupted(run.folder, moment):
        run_stage(run.folder, "train", redo=True)
    assert words_of(run, "train") == ["begun", words, f"mpo train {run.folder}"]
    with pytest.raises(MpoError, match=rf"stage train is ({words}|not done); run `mpo train {run.folder}` first"):
        run_stage(run.folder, "evaluate")
    run_stage(run.folder, "train")
    assert list(states(run).values()) == ["done"] * 6 + ["absent"] * 3
    assert not run.redo.exists()
    fresh = run.folder.parent / "fresh"
    shutil.copytree(run.folder, fresh)
    run_stage(fresh, "train", redo=True)
    before, after = files_of(fresh), files_of(run.folder)
    assert [name for name in before if after[name] != before[name] and "errors" not in name] == []


def test_ctrl_c_in_a_redo_says_what_state_it_left(run, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["mpo", "train", str(run.folder), "--redo", "--quiet"])
    second_step = Moment("open", "training.jsonl", 2)
    with pytest.raises(SystemExit) as stop, interrupted(run.folder, second_step, KeyboardInterrupt):
        main()
    assert stop.value.code == 130
    assert capsys.readouterr().err.splitlines()[-1] == (
        "mpo: stopped; stage train is half done, after --redo deleted what was there before; "
        f"run `mpo train {run.folder}` without --redo to continue from here"
    )


TABLES = ("prompts", "heldout_prompts", "validation_prompts", "candidates", "scores", "pairs", "evaluation/evaluation")


@pytest.mark.parametrize("name", TABLES)
def test_a_cut_table_of_any_stage_is_made_again_by_run_with_repair(name, run, whole):
    file = run.folder / f"{name}.parquet"
    cut(file)
    recipe = read_recipe(run.recipe)
    with pytest.raises(MpoError, match=name):
        run_recipe(recipe, run.folder)
    run_recipe(recipe, run.folder, repair=True)
    assert file.read_bytes() == (whole / f"{name}.parquet").read_bytes()
    assert set(states(run).values()) == {"done"}


def test_redoing_a_stage_undoes_what_follows(run):
    set_fields(run, select={"margin": 0.05})
    run_stage(run.folder, "select", redo=True)
    assert list(states(run).values()) == ["done"] * 4 + ["absent"] * 5
    assert json.loads(run.selection.read_text())["margin"] == 0.05


def test_training_begun_with_another_beta_does_not_go_on(run):
    """Half done: the manifest of what it began with is there, the result is not."""
    shutil.rmtree(run.checkpoints / "step-000004")
    run.trained.unlink()
    manifest = run.manifests / "train.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"outputs": None}))
    set_fields(run, train={"beta": 5.0})
    with pytest.raises(MpoError, match=r"train.beta=5.0, but it was made with 1000.0"):
        run_stage(run.folder, "train")


def test_fewer_steps_than_were_taken_end_at_their_own_checkpoint(run, whole):
    """Steps 2 and 4 have one. What follows uses step 2 alone, and going back to 4 takes no step again.

    Ten seconds: no stage may mix two ends of a training.
    """
    before = files_of(whole)
    set_fields(run, train={"num_steps": 2})
    with pytest.raises(MpoError, match="mpo train"):
        run_stage(run.folder, "evaluate")
    run_stage(run.folder, "train")
    assert json.loads(run.trained.read_text()) == {"result_step": 2, "last_step": 2, "stopped_early": False}
    assert states(run)["train"] == "done"
    for stage in ("evaluate", "export", "report"):
        with pytest.raises(MpoError, match=r"what it was made from has changed.*--redo"):
            run_stage(run.folder, stage)
    run_stage(run.folder, "evaluate", redo=True)
    run_stage(run.folder, "export")
    run_stage(run.folder, "report")
    assert set(states(run).values()) == {"done"}
    second, exported = load_file(run.checkpoints / "step-000002" / "ema.safetensors"), load_file(run.lora_weights)
    assert {name.partition(".")[2] for name in exported} == set(second)
    assert all(bool((exported[name] == second[name.partition(".")[2]]).all()) for name in exported)
    page = run.report.read_text()
    shutil.copytree(run.folder, run.folder.parent / "short")
    short = RunFolder(run.folder.parent / "short")
    for log in (short.training_log, short.validation_log):
        log.write_text("".join(line + "\n" for line in log.read_text().splitlines() if json.loads(line)["step"] <= 2))
    assert render(short) == page  # no later step is shown
    set_fields(run, train={"num_steps": 4})
    run_stage(run.folder, "train")
    after = files_of(run.folder)
    made = [name for name in before if name.startswith(("checkpoints", "training", "validation", "trained"))]
    assert [name for name in made if after[name] != before[name]] == []


def test_fewer_steps_without_a_checkpoint_are_refused_before_anything_is_written(run):
    set_fields(run, train={"num_steps": 3})
    before = files_of(run.folder)
    words = r"train.num_steps=3, but 4 steps were taken and step 3 has no checkpoint; set it to 2, which has one, or run `mpo train .* --redo`"
    for stage in ("train", "evaluate"):
        with pytest.raises(MpoError, match=words) as error:
            run_stage(run.folder, stage)
        assert "\n" not in str(error.value)
    assert states(run)["train"] == "stale"
    assert files_of(run.folder) == before
    set_fields(run, train={"num_steps": 2})
    run_stage(run.folder, "train")
    set_fields(run, train={"num_steps": 3})
    run_stage(run.folder, "train", redo=True)
    assert json.loads(run.trained.read_text())["last_step"] == 3


def test_more_steps_go_on(run):
    set_fields(run, train={"num_steps": 6})
    run_stage(run.folder, "train")
    assert json.loads(run.trained.read_text())["last_step"] == 6
    with pytest.raises(MpoError, match=r"what it was made from has changed.*--redo"):
        run_stage(run.folder, "evaluate")


def test_deleted_prompts_are_made_again(run, whole):
    run.prompts.unlink()
    run_stage(run.folder, "generate")
    assert run.prompts.read_bytes() == (whole / "prompts.parquet").read_bytes()
    run.prompts.unlink()
    source = Path(read_recipe(run.recipe).prompts.train.path)  # type: ignore[union-attr]
    text = source.read_text()
    source.write_text("a blue star on the sea\n")
    try:
        with pytest.raises(MpoError, match="no longer those that it was made from"):
            run_stage(run.folder, "score")
    finally:
        source.write_text(text)


def test_a_flipped_digit_of_the_kept_errors_is_named(run):
    """Half of the training is taken again, and reads them."""
    file = run.folder / "errors" / "errors.jsonl"
    text = file.read_text()
    digits = text.index('"errors": [[') + 14
    file.write_text(text[:digits] + ("1" if text[digits] != "1" else "2") + text[digits + 1 :])
    shutil.rmtree(run.checkpoints)
    with pytest.raises(MpoError, match=r"errors.jsonl, line 1, is damaged.*delete the line"):
        run_stage(run.folder, "train", repair=True)


def begun(run: RunFolder, stage: str) -> None:
    """As a killed process leaves it: begun, not done."""
    manifest = run.manifests / f"{stage}.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"outputs": None}))


# In the midst of a stage no manifest says what its files should be.
HALF_WAY: dict[str, tuple[str, Callable[[RunFolder], object], str]] = {
    "a checkpoint cut": ("train", lambda r: cut(checkpoint(r, "lora.safetensors")), r"lora.safetensors is damaged.*--repair"),
    "counters no JSON": ("train", lambda r: cut(checkpoint(r, "state.json")), r"state.json is damaged.*--repair"),
    "a log line no JSON": ("train", lambda r: flip(r.training_log, 0.0), r"training.jsonl, line 1, is damaged"),
    "the log lost": ("train", lambda r: r.training_log.unlink(), r"training.jsonl is not what it was at step 4.*--redo"),
    "validations no records": ("train", lambda r: r.validation_log.write_text('{"a": 1}\n'), r"validation.jsonl has lost the validation of step 0.*--repair"),
}  # fmt: skip


@pytest.mark.parametrize("case", HALF_WAY)
def test_damage_in_the_midst_of_a_stage_is_one_line(case, run):
    stage, damage, words = HALF_WAY[case]
    begun(run, stage)
    run.trained.unlink()
    damage(run)
    with pytest.raises(MpoError, match=words) as error:
        run_stage(run.folder, stage)
    assert "\n" not in str(error.value)


def test_a_half_made_shard_and_strange_pictures_are_made_again(run, whole):
    begun(run, "encode")
    cut(run.encoded / "prompts-00000.safetensors")
    run_stage(run.folder, "encode")
    begun(run, "evaluate")
    run.evaluation_table.unlink()
    tuned_by_base(run)
    run_stage(run.folder, "evaluate")
    assert set(states(run).values()) == {"done"}
    assert files_of(run.folder).keys() == files_of(whole).keys()
    for name in ("encoded/prompts-00000.safetensors", "evaluation/evaluation.parquet"):
        assert (run.folder / name).read_bytes() == (whole / name).read_bytes()


def test_a_copy_of_a_checkpoint_by_hand_is_passed_over(run):
    shutil.copytree(run.checkpoints / "step-000004", run.checkpoints / "step-000004-copy")
    begun(run, "train")
    run_stage(run.folder, "train")
    assert json.loads(run.trained.read_text())["last_step"] == 4


def command(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "mpo.cli", *map(str, arguments)], capture_output=True, text=True, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip


def test_a_score_that_does_not_follow_from_its_answers_is_one_line_exit_2(run):
    """A flipped answer within a table that is otherwise well, and whose manifest was lost with it."""
    table = pq.read_table(run.evaluation_table)
    p_yes = table["p_yes"].to_pylist()
    p_yes[0][0] = 7.0
    column = table.schema.get_field_index("p_yes")
    pq.write_table(table.set_column(column, table.schema.field(column), [p_yes]), run.evaluation_table)
    (run.manifests / "evaluate.json").unlink()
    (run.manifests / "report.json").unlink()
    done = command("report", run.folder)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "mpo evaluate" in done.stderr


def test_two_processes_on_one_folder_and_a_dead_owner(run, whole):
    """The second is refused with the first's process id and host; one that was killed holds nothing."""
    import socket

    holder = (
        "import sys, time; from pathlib import Path; from mpo.run_folder.lock import locked\n"
        f"with locked(Path({str(run.folder)!r})): print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", holder], stdout=subprocess.PIPE, text=True)
    run.report.unlink()
    recipe = read_recipe(run.recipe)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(MpoError, match=rf"in use by process {process.pid} on {socket.gethostname()}"):
            preview(recipe, run.folder)
        with pytest.raises(MpoError, match=rf"in use by process {process.pid} on {socket.gethostname()}"):
            run_stage(run.folder, "report")
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()
    assert "report" not in preview(recipe, run.folder)
    run_stage(run.folder, "report")


def test_a_dry_run_looks_at_the_folder_and_writes_nothing(run, monkeypatch, capsys):
    def dry(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mpo", "run", *arguments, "--output", str(run.folder), "--dry-run"])
        before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*") if path.name != ".lock"}
        with pytest.raises(SystemExit) as stop:
            main()
        assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*") if path.name != ".lock"} == before
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    recipe = str(run.recipe)
    run.report.unlink()
    code, out, _ = dry(recipe)
    assert (code, out.splitlines()[-1]) == (
        0, f"done      generate, score, select, encode, train, evaluate, export in {run.folder}",
    )  # fmt: skip
    code, _, err = dry(recipe, "--set", "train.beta=5.0")
    assert (code, "train.beta" in err, err.count("\n")) == (2, True, 1)
    cut(run.scores)
    code, _, err = dry(recipe)
    assert (code, f"run `mpo score {run.folder} --repair`" in err, err.count("\n")) == (2, True, 1)
    assert dry(recipe, "--repair")[0] == 0
    shutil.copyfile(run.recipe, run.folder.parent / "other.yaml")
    run.recipe.unlink()
    code, _, err = dry(str(run.folder.parent / "other.yaml"))
    assert (code, "holds no run" in err) == (2, True)


def test_what_is_done_needs_no_right_to_write(run):
    """As of another account's run: neither the lock nor anything else is written, and all may read all."""
    files = [path for path in run.folder.rglob("*") if path.is_file() and path.name not in OWN]
    usual = run.recipe.stat().st_mode
    assert [path for path in files if path.stat().st_mode != usual] == []
    for name in OWN:
        (run.folder / name).unlink(missing_ok=True)
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    assert set(states(run).values()) == {"done"}
    run_stage(run.folder, "report")
    run_recipe(read_recipe(run.recipe), run.folder)
    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")} == before


def test_a_picture_cut_before_it_is_judged_is_named_with_the_command_that_makes_it_again(run):
    begun(run, "evaluate")
    for path in (run.evaluation_table, *(run.samples / "tuned").iterdir()):
        path.unlink()
    victim = run.samples / "tuned" / "000000-00.png"
    last_picture = Moment("os.rename", "evaluation/samples/tuned/*.png", 4)
    words = rf"^evaluate: .*{victim}' cannot be decoded .*run `mpo evaluate {run.folder}`, which makes it again$"
    with at(run.folder, last_picture, lambda: cut(victim)), pytest.raises(MpoError, match=words):
        run_stage(run.folder, "evaluate")
    run_stage(run.folder, "evaluate")
    assert states(run)["evaluate"] == "done"


def test_an_output_that_is_a_file_is_one_line(whole, tmp_path):
    (tmp_path / "file").write_text("")
    recipe = read_recipe(whole / "recipe.yaml")
    with pytest.raises((MpoError, RewardError), match="is a file; name a folder"):
        run_recipe(recipe, tmp_path / "file")
    with pytest.raises(MpoError, match=r"would lie in '.*/file', which is a file; name another folder"):
        preview(recipe, tmp_path / "file" / "run")  # a dry run asks this


def test_a_full_disk_is_one_line_and_after_room_is_made_the_same_bytes(whole, tmp_path):
    """One run, of some seconds, that finds the disk full five times and goes on five times."""
    recipe, folder = read_recipe(whole / "recipe.yaml"), tmp_path / "run"
    for moment in (
        Moment("os.rename", "candidates/*.png", 3),
        Moment("os.rename", "scores.parquet", 1),
        Moment("open", "training.jsonl", 3),
        Moment("open", "checkpoints/.step-000004.*.part/state.json", 1),
        Moment("os.rename", "lora", 1),
    ):
        with full_disk(folder, moment), pytest.raises(MpoError, match=r"the disk is full: .*make room") as error:
            run_recipe(recipe, folder)
        assert "\n" not in str(error.value), moment
    run_recipe(recipe, folder)
    before, after = files_of(whole), files_of(folder)
    assert [name for name in before if after.get(name) != before[name]] == []


def test_status_says_why_and_what_to_do(run):
    done = command("status", run.folder)
    assert done.returncode == 0
    assert [line.split() for line in done.stdout.splitlines()] == [[stage, "done"] for stage in states(run)]
    set_fields(run, train={"beta": 5.0})
    cut(run.lora_weights)
    lines = command("status", run.folder).stdout.splitlines()
    (train,) = [line for line in lines if line.startswith("train ")]
    assert "out of date" in train
    assert "train.beta=5.0" in train
    assert train.endswith(f"mpo train {run.folder} --redo")
    records = json.loads(command("status", run.folder, "--json").stdout)
    assert {record["stage"]: record["state"] for record in records}["train"] == "stale"
