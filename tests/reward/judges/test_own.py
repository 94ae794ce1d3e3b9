"""A judge of a user's own, by the code of docs/judges.md: on the command line, in a recipe and as an entry point."""

import json
import re
import sys

import pytest
from PIL import Image
from typer.testing import CliRunner

from mpo.planning.plan import plan
from mpo.recipe import parse_recipe
from mpo.run import run_recipe
from reward import JudgeError, load_checklist, load_judge, save_checklist
from reward.cli import app
from reward.judges import check_kind
from reward.judges.loading import count_parameters
from reward.judging import check_judges, checklist_of_all, read_judges
from reward.settings import read_yaml
from tests.helpers.documents import section
from tests.helpers.recipes import small_fields


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with the document's two files and two pictures."""
    text = section("docs/judges.md", "A judge of your own")
    for language, names in (("python", ["warmth.py", "lightness.py"]), ("yaml", ["warmth.yaml"])):
        for name, code in zip(names, re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL), strict=True):
            (tmp_path / name).write_text(code, "utf-8")
    Image.new("RGB", (8, 8), (200, 80, 40)).save(tmp_path / "warm.png")
    Image.new("RGB", (8, 8), (40, 80, 200)).save(tmp_path / "cold.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("warmth", "lightness", "broken", "needy", "judges_of_others"):
        sys.modules.pop(name, None)


def test_it_takes_thirty_lines(here):
    assert len((here / "warmth.py").read_text("utf-8").splitlines()) <= 30


def test_the_command_line_scores_with_it(here):
    command = [
        "score",
        "warm.png",
        "cold.png",
        "--judge",
        "warmth:Warmth",
        "--checklist",
        "warmth.yaml",
        "--json",
    ]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert [row["total"] for row in found["scores"]] == [1.0, 0.0]
    assert found["judge"] == "warmth-1-20"
    done = CliRunner().invoke(app, [*command, "-o", "threshold=170"])
    assert [row["total"] for row in json.loads(done.stdout)["scores"]] == [0.0, 0.0]


def test_a_scorer_needs_no_checklist(here):
    command = ["score", "warm.png", "cold.png", "--judge", "lightness:Lightness", "-p", "a colour", "--json"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["dimensions"] == ["lightness"]
    assert [row["total"] for row in found["scores"]] == [pytest.approx(320 / 3), pytest.approx(320 / 3)]


def test_the_documents_lists_of_judges_are_read(here):
    """As far as their checklists are here: the published one is not."""
    text = section("docs/judges.md", "Several judges")
    in_recipe, fitted, published = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    recipe = parse_recipe({**small_fields(here, here), **read_yaml(in_recipe)}, source="small")
    assert checklist_of_all(recipe.judge).dimensions == (*load_checklist("image").dimensions, "pickscore", "hpsv3")
    check_judges(recipe.judge[1:])
    save_checklist(checklist_of_all(recipe.judge), here / "fitted.yaml")
    (here / "judges.yaml").write_text(fitted, "utf-8")
    assert (
        checklist_of_all(read_judges(here / "judges.yaml")).question_ids == checklist_of_all(recipe.judge).question_ids
    )
    (here / "judges.yaml").write_text(published, "utf-8")
    assert [judging.name for judging in read_judges(here / "judges.yaml")] == ["vqascore", "cogvlm2"]


def test_a_recipe_runs_with_it(here, model_folder):
    fields = small_fields(model_folder, here)
    fields["judge"] = {"name": "warmth:Warmth", "checklist": "warmth.yaml", "options": {"threshold": 5}}
    fields["select"] = {"strategy": "total", "margin": 0.0}
    recipe = parse_recipe(fields, source="small")
    notes = plan(recipe, count_judge=count_parameters).notes
    assert any("judge 'warmth:Warmth'" in note and "does not say how many" in note for note in notes)
    run_recipe(recipe, here / "run")
    report = (here / "run" / "evaluation" / "report.html").read_text("utf-8")
    assert "colour" in report


def test_a_package_offers_one_by_an_entry_point(here):
    (here / "warmth-1.0.dist-info").mkdir()
    (here / "warmth-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: warmth\nVersion: 1.0\n")
    (here / "warmth-1.0.dist-info" / "entry_points.txt").write_text("[reward.judges]\nwarm = warmth:Warmth\n")
    sys.path.insert(0, str(here))
    assert load_judge("warm", threshold=3).fingerprint == "warmth-1-3"


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("nowhere:Judge", {}, "no module 'nowhere' here or installed; write module:Class"),
        ("vlm:Qwen/Qwen2.5-VL-3B-Instruct", {}, "given apart: judge 'vlm' with model=Qwen/Qwen2.5-VL-3B-Instruct"),
        ("server:http://localhost:8000/v1", {}, "given apart: judge 'server' with base_urls=http://localhost:8000/v1"),
        ("warmth:Cold", {}, "module 'warmth' has no 'Cold'"),
        ("warmth:np", {}, "has no 'can_answer'; a judge has the members of reward.Judge"),
        ("warmth:Warmth", {"limit": 3}, r"unexpected keyword argument 'limit'; its options are \(threshold"),
        ("broken:Judge", {}, r"broken cannot be imported \(ZeroDivisionError: division by zero\)"),
        ("needy:Judge", {}, "needy needs the module 'a_library_of_theirs'; install it"),
        ("warmht", {}, "is unknown; judges: .*or your own as module:Class"),
    ],
)
def test_mistakes_are_one_line(here, name, options, words):
    (here / "broken.py").write_text("1 / 0\n")
    (here / "needy.py").write_text("import a_library_of_theirs\n")
    with pytest.raises(JudgeError, match=words) as error:
        load_judge(name, **options)
    assert "\n" not in str(error.value)


def test_a_checklist_of_the_other_medium_is_refused_before_the_judge_is_built(here):
    with pytest.raises(JudgeError, match="about videos; judge 'warmth:Warmth' takes images only"):
        check_kind("warmth:Warmth", {}, load_checklist("video"))
