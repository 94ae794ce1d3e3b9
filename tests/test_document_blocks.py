"""Every block of the documents: Python is run, commands and YAML are read by the real programs, or a comment says why not.

A comment right before a block may say `not run: WHY`, `run by tests/….py`, or `output of the command above`.
"""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
import yaml
from PIL import Image
from typer.testing import CliRunner

from mpo import MpoError
from mpo.cli import app as mpo_app
from mpo.recipe import Recipe, load_recipe, parse_recipe
from mpo.run import run_recipe
from mpo.stages.select import select
from reward import load_checklist
from reward.cli import app as reward_app
from reward.judging import read_judges
from tests.helpers.command_lines import MisunderstoodError, check_command, commands_in
from tests.helpers.documents import Block, blocks, pages, read

BLOCKS = [block for page in pages() for block in blocks(page)]
REMARKS = re.compile(r"not run: \S.*|run by (tests/[\w/]+\.py)|output of the command above")
LANGUAGES = ("", "python", "yaml", "json", "text")


def is_run(block: Block) -> bool:
    return not REMARKS.fullmatch(block.remark)


def of(language: str) -> list[Any]:
    """The blocks of a language that are run here."""
    return [pytest.param(block, id=str(block)) for block in BLOCKS if block.language == language and is_run(block)]


def recipes_of(page: str) -> dict[str, str]:
    """Files that a page's YAML blocks name in their first line, such as `# my-sdxl.yaml`."""
    named = [(re.match(r"# ([\w.-]+\.yaml)\n", block.text), block.text) for block in blocks(page)]
    return {match[1]: text for match, text in named if match}


def test_every_block_is_of_a_known_language_and_every_reason_is_one():
    assert len(BLOCKS) > 40
    for block in BLOCKS:
        assert block.language in LANGUAGES, f"{block} is of language {block.language!r}; this test knows {LANGUAGES}"
        if block.language == "text":
            assert not is_run(block), f"{block} is text; a comment before it says whose output it is, or who checks it"
        match = REMARKS.fullmatch(block.remark)
        if match and match[1]:
            assert block.page in read(match[1]) or Path(block.page).name in read(match[1]), (
                f"{match[1]} names no {block.page}"
            )


@pytest.mark.parametrize("block", of(""))
def test_commands_are_understood(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in commands_in(block.text):
        try:
            check_command(words, recipes_of(block.page))
        except (MisunderstoodError, ValueError) as error:
            pytest.fail(f"{block}: `{' '.join(words)}`: {error}")


def inline_commands() -> Iterator[tuple[str, str]]:
    for page in pages():
        for code in re.findall(r"`((?:mpo|reward) [a-z-]+[^`\n]*)`", read(page)):
            yield page, code


def test_commands_within_the_text_have_these_options():
    """`mpo run NAME --dry-run`: the command is there, and each option is one of its own."""
    commands = {name: typer.main.get_command(app) for name, app in (("mpo", mpo_app), ("reward", reward_app))}
    found = list(inline_commands())
    assert len(found) > 30
    for page, code in found:
        program, name, *rest = code.split()
        known: Any = commands[program]
        assert name in known.commands, f"{page}: `{code}`: {program} has no command {name!r}"
        options = {
            flag for parameter in known.commands[name].params for flag in (*parameter.opts, *parameter.secondary_opts)
        }
        for flag in re.findall(r"--[a-z-]+", " ".join(rest)):
            assert flag in options, f"{page}: `{code}`: {program} {name} has no option {flag}"


@pytest.mark.parametrize("block", of("yaml"))
def test_yaml_is_a_recipe_a_part_of_one_a_checklist_or_judges(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fields = yaml.safe_load(block.text)
    file = tmp_path / "block.yaml"
    file.write_text(block.text, "utf-8")
    if isinstance(fields, list):
        assert read_judges(file)
    elif "subdimensions" in fields:
        assert load_checklist(file).questions
    elif "name" in fields:
        assert parse_recipe(fields, source=str(block)).name == fields["name"]
    else:
        base = load_recipe("sdxl").model_dump(mode="json")
        for key, value in fields.items():
            base[key] = {**base[key], **value} if isinstance(value, dict) and key != "judge" else value
        assert isinstance(parse_recipe(base, source=str(block)), Recipe)


@pytest.mark.parametrize("block", of("json"))
def test_json_is_json(block):
    for line in block.text.splitlines():
        assert json.loads(line)


# What stands in for what cannot be had here.
SUBSTITUTES = {"Qwen/Qwen2.5-VL-3B-Instruct": "small-vlm", "cuda:1": "cpu", "~/.cache/mpo/answers": "answers"}


@pytest.fixture(scope="session")
def place(tmp_path_factory) -> Path:
    """A folder with what the Python blocks find: pictures, and a run of the quickstart, made small. Read only.

    Takes seconds: so that the README's LoRA is one of the model that the README loads.
    """
    folder = tmp_path_factory.mktemp("documents")
    settings = [
        "prompts.train={path: prompts/shapes-train.txt, limit: 4}",
        "prompts.heldout={path: prompts/shapes-heldout.txt, limit: 2}",
        *["generate.num_candidates=3", "generate.num_inference_steps=2", "select.strategy=total", "select.margin=0.0"],
        *["select.num_pairs=null", "train.num_steps=2", "train.warmup_steps=1", "train.batch_size=2", "train.rank=4"],
        *["evaluate.num_seeds=1", "evaluate.num_inference_steps=2", "evaluate.num_bootstrap=100", "evaluate.judges=[]"],
    ]
    run_recipe(load_recipe("quickstart", settings), folder / "runs" / "quickstart")
    for name, colour in (("a.png", "white"), ("b.png", "navy")):
        Image.new("RGB", (64, 64), colour).save(folder / name)
    return folder


@pytest.mark.parametrize("block", of("python"))
def test_python_runs(block, place, tmp_path, monkeypatch):
    shutil.copytree(place, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    code = block.text
    for name, substitute in SUBSTITUTES.items():
        code = code.replace(name, substitute)
    if "small-vlm" in code:
        from tests.reward.judges.small_vlms import BUILDERS

        for part in BUILDERS["qwen2_5_vl"]("sdpa"):
            part.save_pretrained(tmp_path / "small-vlm")
    names = {"pil_image": Image.new("RGB", (64, 64), "teal"), "tensor": torch.zeros(3, 64, 64)}
    exec(compile(code, str(block), "exec"), names)


def test_the_guides_plan_is_what_the_command_prints(tmp_path, monkeypatch):
    """docs/guides/sdxl-24gb.md, from the hub's side as most see it: the model's size is in the table."""
    page = "docs/guides/sdxl-24gb.md"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.txt").write_text(
        "\n".join(f"a picture of thing {n}, in a place {n % 7}" for n in range(200)), "utf-8"
    )
    (tmp_path / "my-sdxl.yaml").write_text(recipes_of(page)["my-sdxl.yaml"], "utf-8")
    all_blocks = list(blocks(page))
    [place] = [k for k, block in enumerate(all_blocks) if block.remark == "output of the command above"]
    [words] = commands_in(all_blocks[place - 1].text)
    printed = CliRunner().invoke(mpo_app, words[1:]).output
    free = re.compile(r"\d+ GB free")
    for line in free.sub("", all_blocks[place].text).splitlines():
        assert line in free.sub("", printed).splitlines(), printed


def test_the_guides_error_is_the_stages_own(finished, tmp_path):
    [block] = [block for block in blocks("docs/guides/when-it-goes-wrong.md") if block.language == "text"]
    shutil.copytree(finished, tmp_path / "run")
    recipe = tmp_path / "run" / "recipe.yaml"
    fields = yaml.safe_load(recipe.read_text("utf-8"))
    fields["select"] |= {"strategy": "dominance", "margin": 9.0}
    recipe.write_text(yaml.safe_dump(fields), "utf-8")
    counts = re.compile(r"\d+(?= candidates| pairs)")
    with pytest.raises(MpoError) as error:
        select(tmp_path / "run")
    assert counts.sub("N", str(error.value)) == counts.sub("N", block.text.strip())


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("mpo exprt runs/a", "exprt"),
        ("mpo run quickstart --outptu DIR", "outptu"),
        ("mpo run quickstart --set train.bta=1", "train.bta is unknown"),
        ("mpo run nowhere", "no shipped recipe"),
        ("mpo dataset runs/a", "output"),
        ("reward score a.png -p x --judge vlm -o modle=y", "no option 'modle'"),
        ("make everything", "no target"),
        ("pip install -e '.[everything]'", "no extra everything"),
        ("python -m benchmarks.nothing", "no module"),
        ("python -m benchmarks.study --nothing", "no option --nothing"),
        (
            "accelerate launch --config_file recipes/nothing.yaml -m mpo.cli run sdxl",
            "there is no recipes/nothing.yaml",
        ),
        ("torchrun --nproc-per-node 8 -m reward.cli scrore", "scrore"),
        ("mpo --install-completion", "not run"),
        ("docker build -f Dockerfile.gpu .", "there is no Dockerfile.gpu"),
        ("docker run --rm mpo:cpu doctr", "doctr"),
        ("docker push mpo", "knows build, and run"),
        ("rm -rf /", "no program"),
    ],
)
def test_a_command_that_would_fail_is_found(command, reason):
    [words] = commands_in(command)
    with pytest.raises((MisunderstoodError, MpoError), match=reason):
        check_command(words, {})
