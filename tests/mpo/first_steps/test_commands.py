"""`mpo init` and `mpo doctor`, called as a user calls them."""

import json
import os
import re
import sys
from collections.abc import Callable

import pytest
import torch

from mpo.cli import main
from mpo.recipe import load_recipe
from tests.helpers.command_lines import commands_in
from tests.helpers.documents import blocks

PAGE = "docs/first-steps.md"
SDXL = "stabilityai/stable-diffusion-xl-base-1.0"
GIVEN = {"--model": SDXL, "--prompts": "partiprompts", "--judge": "pickscore", "--gpu-memory": "24GB"}


@pytest.fixture
def mpo(capsys, monkeypatch, tmp_path) -> Callable[..., tuple[int, str, str]]:
    """(exit code, standard output, standard error) of `mpo ARGUMENTS` in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mpo", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        return int(stop.value.code or 0), *capsys.readouterr()

    return call


@pytest.fixture
def terminal(monkeypatch):
    """A real terminal as standard input, on which these lines were typed."""
    opened = []

    def typed(*lines: str) -> None:
        ours, theirs = os.openpty()
        opened.extend([os.fdopen(theirs, encoding="utf-8"), os.fdopen(ours, "wb", buffering=0)])
        opened[-1].write("".join(f"{line}\n" for line in lines).encode())
        monkeypatch.setattr(sys, "stdin", opened[-2])

    yield typed
    for file in opened:
        file.close()


@pytest.fixture
def no_terminal(monkeypatch):
    with open(os.devnull, encoding="utf-8") as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        yield


def flags(*without: str, **others: str) -> list[str]:
    return [word for flag, value in {**GIVEN, **others}.items() if flag not in without for word in (flag, value)]


def test_flags_make_a_recipe_that_loads_and_is_priced(mpo, no_terminal, tmp_path):
    code, out, err = mpo("init", "cats", *flags())
    assert (code, err) == (0, "")
    recipe = load_recipe("cats.yaml")
    assert (recipe.name, recipe.model.path, recipe.judge[0].name) == ("cats", SDXL, "pickscore")
    lines = out.splitlines()
    assert lines[-2:] == ["written   cats.yaml, from sdxl", "next      mpo run cats.yaml"]
    assert any(line.startswith("GPU of    24 GB: fits") for line in lines)
    assert any(line.startswith("sum       about ") for line in lines)
    code, plan, _ = mpo("run", "cats.yaml", "--dry-run")
    assert code == 0
    common = [line for line in plan.splitlines() if not line.startswith(("GPU of", "done"))]
    assert common
    assert set(common) <= set(lines)  # what the dry run says, but for the sizes of GPUs


def test_the_page_shows_what_the_command_prints(mpo, no_terminal):
    """docs/first-steps.md, as most see it who have not the model yet; but for what is free on the disk."""
    of_page = list(blocks(PAGE))
    (place,) = [k for k, block in enumerate(of_page) if block.text.startswith("generate ")]
    [words] = commands_in(of_page[place - 1].text)
    code, out, _ = mpo(*words[1:])
    free = re.compile(r"\d+ GB free")
    assert code == 0
    assert free.sub("", out) == free.sub("", of_page[place].text)


def test_the_page_shows_what_the_terminal_asks(mpo, terminal, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    (block,) = [block for block in blocks(PAGE) if block.text.startswith("What shall")]
    lines = block.text.splitlines()
    terminal(*(line.partition("]:")[2].strip() for line in lines[1::2]))
    code, out, _ = mpo("init")
    assert code == 0
    expected = "".join(
        f"{question}\n{answer.partition(']:')[0]}]: " for question, answer in zip(lines[::2], lines[1::2], strict=True)
    )
    assert out.startswith(expected)


def test_what_does_not_fit_says_what_to_change(mpo, no_terminal, tmp_path):
    code, out, _ = mpo("init", "own.yaml", *flags(**{"--model": "black-forest-labs/FLUX.1-dev", "--judge": "vlm", "--gpu-memory": "8GB"}))  # fmt: skip
    assert code == 0
    assert re.search(r"8 GB: too small, \w+ takes ", out)
    assert "give smaller model.sizes, or spread the weights over GPUs" in out
    assert load_recipe("own.yaml").train.optimizer == "AdamW8bit"
    code, out, _ = mpo("init", "other", *flags(**{"--judge": "vlm"}))
    assert "24 GB: fits with model.offload=networks" in out
    assert load_recipe("other.yaml").model.offload == "networks"
    code, out, _ = mpo("init", "small", *flags(**{"--judge": "vlm", "--gpu-memory": "16GB"}))
    assert load_recipe("small.yaml").judge[0].options["quantization"] == "4bit"


def test_without_a_gpu_the_machines_memory_and_time_count(mpo, no_terminal, model_folder, tmp_path):
    (tmp_path / "own.txt").write_text("a red circle\ntwo blue stars\na green heart\n", "utf-8")
    code, out, _ = mpo("init", "own", *flags(**{"--model": str(model_folder), "--prompts": "own.txt", "--judge": "measured", "--gpu-memory": "none"}))  # fmt: skip
    assert code == 0
    assert "memory of " in out
    assert "on this machine's CPU, whose matrix products reach " in out
    assert load_recipe("own.yaml").model.sizes is not None


def test_an_existing_file_is_not_replaced_unless_told(mpo, no_terminal, tmp_path):
    (tmp_path / "cats.yaml").write_text("mine")
    code, _, err = mpo("init", "cats", *flags())
    assert (code, err.count("\n")) == (2, 1)
    assert "--output='cats.yaml' exists; give another name, or replace it with --overwrite" in err
    assert (tmp_path / "cats.yaml").read_text() == "mine"
    assert mpo("init", "cats", "--overwrite", *flags())[0] == 0
    assert load_recipe("cats.yaml").name == "cats"


@pytest.mark.parametrize("flag", ["NAME", *GIVEN])
def test_without_a_terminal_a_missing_flag_is_named(flag, mpo, no_terminal, tmp_path):
    arguments = [] if flag == "NAME" else ["cats"]
    code, out, err = mpo("init", *arguments, *flags(flag))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"mpo: {flag} is missing, and there is no terminal to ask on; give it, as in ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ({"--gpu-memory": "much"}, "--gpu-memory='much' is no size"),
        ({"--judge": "oracle"}, "judge='oracle' is unknown"),
        ({"--model": "no/such-model"}, "--like sdxl"),
        ({"--model": "model.ckpt"}, "a pickle can run any code"),
        ({"--prompts": "absent.txt"}, "--prompts='absent.txt' does not exist"),
        ({"--heldout": "absent.txt"}, "--heldout='absent.txt' does not exist"),
        ({"--output": "own.txt"}, "--output='own.txt' does not end in .yaml"),
        ({"--judge": "videoreward"}, "scores videos, and this model makes images"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(others, words, mpo, no_terminal, tmp_path):
    code, _, err = mpo("init", "cats", *flags(**others))
    assert (code, err.count("\n")) == (2, 1)
    assert words in err
    assert not list(tmp_path.iterdir())


def test_a_terminal_is_asked_with_defaults_and_again_after_a_mistake(mpo, terminal, tmp_path):
    """Name, model, prompts, held-out prompts, judge, memory. An empty line takes the default."""
    terminal("my cats", "no/such-model", SDXL, "partiprompts", "", "wit", "pickscore", "lots", "24GB")
    code, out, _ = mpo("init")
    assert code == 0, out
    recipe = load_recipe("my-cats.yaml")
    assert (recipe.model.path, recipe.judge[0].name) == (SDXL, "pickscore")
    assert recipe.prompts.heldout.share == (0.0, 0.1)
    for words in ("Which model? embedded", "or shipped: sdxl's", "[split]", "[vlm:Qwen/Qwen2.5-VL-7B-Instruct]", "'wit' is unknown", "'lots' is no size"):  # fmt: skip
        assert words in out


def test_doctor_in_words_and_as_json(mpo):
    """Takes seconds: every check once in each form."""
    code, out, _ = mpo("doctor")
    lines = {line.split()[0] for line in out.splitlines()}
    assert {"Python", "packages", "torch", "GPU", "CPU", "memory", "disk", "hub", "clips", "recipes", "next"} <= lines
    assert code == 0
    code, out, _ = mpo("doctor", "--json")
    found = json.loads(out)
    assert (code, found["quickstart"]) == (0, True)
    assert {finding["state"] for finding in found["findings"]} <= {"OK", "missing", "note"}
