"""The files around the code: workflows, citation, changelog, and the file tree of CONTRIBUTING.md."""

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from mpo import __version__

ROOT = Path(__file__).parents[1]
WORKFLOWS = ROOT / ".github" / "workflows"
SHOWN = (".py", ".yaml", ".json", ".j2", ".html", ".css", ".js")  # files that the tree of CONTRIBUTING.md names


def read(path: str) -> str:
    return (ROOT / path).read_text("utf-8")


def steps(workflow: str) -> list[dict[str, Any]]:
    jobs = yaml.safe_load(read(f".github/workflows/{workflow}"))["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


def test_every_yaml_file_parses():
    files = [*WORKFLOWS.glob("*.yml"), *(ROOT / "recipes").rglob("*.yaml"), ROOT / ".pre-commit-config.yaml"]
    assert len(files) > 10
    for file in files:
        assert isinstance(yaml.safe_load(file.read_text("utf-8")), dict), file


def test_every_push_runs_what_a_contributor_runs_on_the_oldest_and_the_newest_python():
    workflow = yaml.safe_load(read(".github/workflows/test.yml"))
    assert {"push", "pull_request"} <= set(workflow[True])  # YAML reads the key "on" as true
    assert {"make test PYTHON=python", "make test-slow PYTHON=python"} <= {
        step.get("run") for step in steps("test.yml")
    }
    assert "exec make test\n" in read(".ci/run")
    for target in ("test", "test-slow", "hooks"):
        assert re.search(rf"^{target}: .*installed-test", read("Makefile"), re.MULTILINE)
    named = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', read("pyproject.toml"))
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == [named[0], named[-1]]
    assert f'requires-python = ">={named[0]}"' in read("pyproject.toml")


@pytest.mark.parametrize(("tag", "right"), [(f"v{__version__}", True), ("v99.0.0", False), (__version__, False)])
def test_a_release_needs_the_tag_of_its_version(tag, right):
    assert run("The tag is the version", tag, ROOT).returncode == (0 if right else 1)


def test_a_release_has_the_changelogs_section(tmp_path):
    (tmp_path / "CHANGELOG.md").write_text(
        "# C\n## [Unreleased]\n- u\n## [1.2.3] - 2030-01-01\n### Added\n- x\n## [1.2.2]\n- y\n"
    )
    assert run("The changelog's section", "v1.2.3", tmp_path).returncode == 0
    assert (tmp_path / "notes.md").read_text() == "### Added\n- x\n"
    assert run("The changelog's section", "v1.2.4", tmp_path).returncode == 1


def test_a_release_leads_from_pypis_page_to_the_files_of_its_tag(tmp_path):
    """The README's links are relative, which PyPI's page has no place for; its words stay as they are."""
    (tmp_path / "README.md").write_text(read("README.md"), "utf-8")
    environment = {"GITHUB_REPOSITORY": "owner/name"}
    assert run("The README's links, for PyPI's page", "v1.2.3", tmp_path, environment).returncode == 0
    text = (tmp_path / "README.md").read_text("utf-8")
    before, after = (re.findall(r"\]\(([^)\s]+)\)", each) for each in (read("README.md"), text))
    assert len(before) > 10
    for old, new in zip(before, after, strict=True):
        page, picture = (
            "https://github.com/owner/name/blob/v1.2.3/",
            "https://raw.githubusercontent.com/owner/name/v1.2.3/",
        )
        assert new == (old if ":" in old else (picture if old.endswith(".png") else page) + old)
        assert ":" in old or (ROOT / old.partition("#")[0]).exists()
    assert re.sub(r"\]\([^)\s]+\)", "]()", text) == re.sub(r"\]\([^)\s]+\)", "]()", read("README.md"))


def test_a_release_is_checked_as_pypi_would_before_it_is_sent():
    commands = [step.get("run", "") for step in steps("release.yml")]
    build, check = (
        commands.index("python -m build --outdir dist"),
        commands.index("python -m twine check --strict dist/*"),
    )
    assert build < check
    assert any("sed" in command for command in commands[:build])


def run(name: str, tag: str, folder: Path, more: Mapping[str, str] | None = None) -> subprocess.CompletedProcess:
    """A step of the release workflow, as its runner would run it."""
    (script,) = [step["run"] for step in steps("release.yml") if step.get("name") == name]
    return subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=folder,
        env={**os.environ, "GITHUB_REF_NAME": tag, **(more or {})},
        capture_output=True,
        check=False,
    )


def test_the_changelog_tells_of_this_version_and_of_the_next():
    titles = re.findall(r"^## (.*)$", read("CHANGELOG.md"), re.MULTILINE)
    assert titles[0] == "[Unreleased]"
    assert re.fullmatch(rf"\[{re.escape(__version__)}\] - \d{{4}}-\d\d-\d\d", titles[1])


def test_the_citation_is_complete_and_of_this_version():
    """What the schema of the Citation File Format 1.2.0 requires of a work and of a reference."""
    citation = yaml.safe_load(read("CITATION.cff"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert str(citation["version"]) == __version__
    assert f"[{__version__}] - {citation['date-released']}" in read("CHANGELOG.md")
    for reference in citation["references"]:
        assert {"type", "title", "authors"} <= set(reference)
    assert "2412.21059" in citation["references"][0]["url"]


def test_the_tree_of_contributing_is_that_of_the_files():
    """Each file once, at its place, with some words about it."""
    (tree,) = re.findall(r"```text\n(.*?)```", read("CONTRIBUTING.md"), re.DOTALL)
    folders: list[str] = []
    named = []
    for line in tree.splitlines():
        indent, name, words = re.fullmatch(r"( *)(\S+)(?: +(\S.*))?", line).groups()  # type: ignore[union-attr]
        folders = folders[: len(indent) // 2]
        if name.endswith("/"):
            folders.append(name)
        else:
            named.append("".join(folders) + name)
            assert words, f"CONTRIBUTING.md says nothing about {named[-1]}"
            assert 2 <= len(words.split()) <= 9, f"{named[-1]}: {words}"
    files = {
        file.relative_to(ROOT).as_posix()
        for package in ("mpo", "reward")
        for file in (ROOT / package).rglob("*")
        if file.suffix in SHOWN and file.name != "__init__.py" and not re.search(r"embedded/\w*model/", file.as_posix())
    }
    assert sorted(named) == sorted(set(named))
    assert not files - set(named), f"CONTRIBUTING.md does not name {', '.join(sorted(files - set(named)))}"
    assert not set(named) - files, f"CONTRIBUTING.md names what is not there: {', '.join(sorted(set(named) - files))}"
