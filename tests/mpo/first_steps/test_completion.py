"""What the shells get, by the protocol that typer's scripts for them speak. None of the shells but bash need be installed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mpo.dependencies import STAGES as RUN_STAGES
from mpo.first_steps.completion import STAGES, complete_recipe, complete_run, complete_shipped, complete_stage
from mpo.recipe import shipped_recipes

MAIN = "import sys; sys.argv = ['{0}']; from {0}.cli import main; main()"


def complete(shell: str, line: str, folder: Path, **more: str) -> str:
    """What a command prints when the key is pressed at the end of a line; in a process of its own, as the shell asks."""
    program, *_ = words = line.split(" ")
    asked = {
        "bash": {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": line},
        "fish": {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }[shell]
    root = str(Path(__file__).parents[3])
    environment = {
        **os.environ,
        "PYTHONPATH": root,
        f"_{program.upper()}_COMPLETE": f"complete_{shell}",
        **asked,
        **more,
    }
    command = [sys.executable, "-c", MAIN.format(program)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    assert not done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two runs, one in rounds, and what is no run."""
    for run in ("runs/quickstart", "runs/rounds", "runs/rounds/round-1", ".hidden"):
        (tmp_path / run).mkdir(parents=True)
        (tmp_path / run / "recipe.yaml").write_text("")
    (tmp_path / "runs" / "notes").mkdir()
    (tmp_path / "own.yaml").write_text("")
    return tmp_path


def test_bash_completes_recipes_and_files(folder):
    assert complete("bash", "mpo run sd", folder).split() == [
        "sd15",
        "sd35-medium",
        "sdxl",
        "sdxl-pickapic",
        "sdxl-total",
    ]


def test_zsh_completes_stages(folder):
    assert complete("zsh", "mpo run quickstart --until s", folder) == '_arguments \'*: :(("score"\n"select"))\'\n'


def test_fish_completes_runs(folder):
    assert complete("fish", "mpo status runs/", folder).split() == [
        "runs/quickstart",
        "runs/rounds",
        "runs/rounds/round-1",
    ]


def test_commands_of_reward_complete_too(folder):
    assert complete("bash", "reward s", folder).split() == ["score", "serve", "serve-check"]


def test_the_script_for_bash_is_one_that_bash_reads(folder):
    """Takes seconds: it is evaluated by bash, and its function is asked."""
    script = complete("bash", "mpo", folder, _MPO_COMPLETE="source_bash")
    bash = shutil.which("bash")
    assert bash
    asked = f"{script}\ncomplete -p mpo"
    done = subprocess.run([bash, "--norc", "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "complete -o default -F _mpo_completion mpo"


def test_every_shipped_recipe_and_the_yaml_files_here_complete(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert complete_recipe("") == [*sorted(shipped_recipes()), "own.yaml"]
    assert complete_recipe("ow") == ["own.yaml"]
    assert complete_recipe(str(folder / "o")) == [str(folder / "own.yaml")]
    assert complete_shipped("quick") == ["quickstart", "quickstart-video"]


def test_runs_complete_by_path_and_hidden_folders_by_their_point(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert complete_run("") == ["runs/quickstart", "runs/rounds", "runs/rounds/round-1"]
    assert complete_run("runs/ro") == ["runs/rounds", "runs/rounds/round-1"]
    assert complete_run(".") == [".hidden"]
    assert complete_run("absent/") == []


def test_stages_are_those_of_runs():
    assert complete_stage("") == list(STAGES)
    assert [stage for stage in STAGES if stage != "import-pairs"] == list(RUN_STAGES)
