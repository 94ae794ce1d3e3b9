import subprocess
import sys

import pytest
import yaml

from mpo.cli import main


def call(*arguments: str, capsys, monkeypatch) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `mpo ARGUMENTS`."""
    monkeypatch.setattr(sys, "argv", ["mpo", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    out, err = capsys.readouterr()
    return int(exit_.value.code or 0), out, err


@pytest.fixture
def mpo(capsys, monkeypatch):
    return lambda *arguments: call(*map(str, arguments), capsys=capsys, monkeypatch=monkeypatch)


def test_help_loads_no_heavy_library_and_lists_the_commands():
    code = "import mpo.cli, sys; heavy = {'torch', 'diffusers', 'transformers', 'reward', 'numpy'} & set(sys.modules); sys.exit(f'{heavy}' if heavy else 0)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    result = subprocess.run([sys.executable, "-m", "mpo.cli", "--help"], capture_output=True, text=True, check=True)
    for command in (
        "run",
        "recipes",
        "show",
        "generate",
        "score",
        "select",
        "encode",
        "train",
        "evaluate",
        "export",
        "report",
    ):
        assert command in result.stdout


def test_recipes_and_show(mpo):
    code, out, _ = mpo("recipes")
    assert (code, "quickstart" in out) == (0, True)
    code, out, _ = mpo("show", "quickstart", "--set", "train.beta=123")
    assert yaml.safe_load(out)["train"]["beta"] == 123


@pytest.mark.parametrize("how", [["--processes", 5], ["--on", "slurm", "--workers", 5]], ids=["here", "slurm"])
def test_a_dry_run_checks_how_steps_are_dealt_out(how, mpo, recipe_file, tmp_path):
    code, _, err = mpo("run", recipe_file, "--output", tmp_path / "run", *how, "--dry-run")
    assert code == 2
    assert "train.batch_size=" in err
    assert "5 processes" in err


def test_dry_run_prints_the_plan_and_writes_nothing(mpo, recipe_file, tmp_path):
    code, out, _ = mpo("run", recipe_file, "--output", tmp_path / "run", "--dry-run")
    assert code == 0
    assert "12 candidates" in out
    assert "8 pictures" in out
    assert not (tmp_path / "run").exists()


def bad_input(fields: dict, tmp_path) -> dict[str, tuple[list[str], list[str]]]:
    """Arguments, and the words that the one line must hold: field, value, remedy."""
    recipe = str(tmp_path / "small.yaml")
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    (tmp_path / "strange.txt").write_text("a tapir in a meadow\n")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("")
    prompts, clips = "prompts.train=", "quickstart-video"
    return {
        "unknown recipe": (["nosuch"], ["nosuch", "quickstart"]),
        "unknown key": ([recipe, "--set", "train.nosuch=1"], ["train.nosuch", "unknown", "beta"]),
        "wrong type": ([recipe, "--set", "train.rank=big"], ["train.rank", "big", "integer"]),
        "missing model": ([recipe, "--set", f"model.path={tmp_path}/nomodel"], ["model.path", "nomodel", "embedded"]),
        "missing prompts": ([recipe, "--set", f"{prompts}{tmp_path}/no.txt"], ["prompts.train", "no.txt", "one prompt a line"]),
        "empty prompts": ([recipe, "--set", f"{prompts}{tmp_path}/empty.txt"], ["prompts.train", "empty.txt", "no prompt"]),
        "latin prompts": ([recipe, "--set", f"{prompts}{tmp_path}/latin.txt"], ["prompts.train", "latin.txt", "UTF-8"]),
        "unreadable prompt": ([recipe, "--set", f"{prompts}{tmp_path}/strange.txt"], ["tapir", "another judge"]),
        "leaking prompts": ([recipe, "--set", f"{prompts}{fields['prompts']['heldout']}"], ["prompts.heldout", "shares 2"]),
        "unknown judge": ([recipe, "--set", "judge.name=oracle"], ["judge", "oracle", "measured"]),
        "an option of another judge": (
            [recipe, "--set", "judge.options.kind=image"], ["judge 'measured'", "no option 'kind' (an option of cogvlm2)", "none"]
        ),
        "unanswerable": ([recipe, "--set", "judge.questions=all"], ["face_1", "answerable"]),
        "unknown dimension": ([recipe, "--set", "select.strategy=dimension:wit"], ["dimension:wit", "alignment"]),
        "unknown stage": ([recipe, "--until", "dream"], ["--until", "dream", "generate"]),
        "clips of a picture model": (
            [clips, "--set", "model.path=embedded"], ["model.sizes", "[64, 64, 8, 8", "StableDiffusionPipeline", "pictures"]
        ),
        "pictures of a clip model": ([recipe, "--set", "model.path=embedded-video"], ["model.sizes is missing", "frames a second"]),
        "frames that the model cannot make": (
            [clips, "--set", "model.sizes=[[64, 64, 40, 8]]"], ["model.sizes", "at most 8 frames", "use [64, 64, 8, 8"]
        ),
        "a checklist about pictures": (
            [recipe, "--set", "model.path=embedded-video", "--set", "model.sizes=[[64, 64, 8, 8]]"],
            ["judge.checklist='image'", "makes videos", "such as 'video-measured'"]
        ),
        "a checklist about pictures, beside prompts that only clips can have": (
            [clips, "--set", "judge.checklist=image", "--set", "judge.questions=answerable"],
            ["judge.checklist='image' is about images", "makes videos", "such as 'video-measured'"]
        ),
        "a checklist about pictures, of which the judge cannot answer all": (
            [clips, "--set", "judge.checklist=image"],
            ["judge.checklist='image' is about images", "makes videos", "such as 'video-measured'"]
        ),
        "a checklist about pictures for a judge with another": (
            [clips, "--set", "judge={name: vlm, checklist: image, options: {model: a/b}}"],
            ["judge.checklist='image' is about images", "makes videos", "such as 'video'"]
        ),
        "a checklist about clips": (
            [recipe, "--set", "judge.checklist=video"],
            ["judge.checklist='video'", "makes images", "such as 'image'"]
        ),
    }  # fmt: skip


CASES = [
    "unknown recipe", "unknown key", "wrong type", "missing model", "missing prompts", "empty prompts", "latin prompts",
    "unreadable prompt", "leaking prompts", "unknown judge", "an option of another judge", "unanswerable", "unknown dimension", "unknown stage",
    "clips of a picture model", "pictures of a clip model", "frames that the model cannot make",
    "a checklist about pictures", "a checklist about pictures, beside prompts that only clips can have",
    "a checklist about pictures, of which the judge cannot answer all", "a checklist about pictures for a judge with another",
    "a checklist about clips",
]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_clear_line_exit_2_and_nothing_written(case, mpo, fields, recipe_file, tmp_path):
    arguments, words = bad_input(fields, tmp_path)[case]
    code, _, err = mpo("run", *arguments, "--output", tmp_path / "run", "--quiet")
    assert code == 2
    assert err.startswith("mpo: ")
    assert err.count("\n") == 1
    for word in words:
        assert word in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["view", "vote", "votes", "status"])
def test_what_shows_a_run_names_a_folder_that_is_none_and_one_without_an_evaluation(command, mpo, finished, tmp_path):
    code, _, err = mpo(command, tmp_path)
    assert (code, err) == (2, f"mpo: '{tmp_path}' is not a run: it has no recipe.yaml; name a run folder\n")
    if command != "status":
        (tmp_path / "recipe.yaml").write_bytes((finished / "recipe.yaml").read_bytes())
        code, _, err = mpo(command, tmp_path)
        assert (code, err.count("\n")) == (2, 1)
        assert f"run `mpo evaluate {tmp_path}` first" in err


def test_another_recipes_folder_is_refused(mpo, finished, recipe_file, fields, tmp_path):
    before = sorted(p.name for p in finished.iterdir())
    code, _, err = mpo("run", recipe_file, "--set", "train.beta=77", "--output", finished)
    assert code == 2
    assert "train.beta" in err
    assert "another folder" in err
    assert sorted(p.name for p in finished.iterdir()) == before
    bad_input(fields, tmp_path)
    code, _, err = mpo("run", recipe_file, "--output", tmp_path / "other")
    assert (code, "not empty" in err) == (2, True)


def test_a_stage_command_needs_a_run_and_its_inputs(mpo, tmp_path, recipe_file):
    code, _, err = mpo("train", tmp_path / "absent")
    assert (code, "is not a run" in err) == (2, True)
    code, _, err = mpo("run", recipe_file, "--output", tmp_path / "run", "--until", "generate", "--quiet")
    assert code == 0
    code, _, err = mpo("select", tmp_path / "run", "--quiet")
    assert (code, "mpo score" in err) == (2, True)
