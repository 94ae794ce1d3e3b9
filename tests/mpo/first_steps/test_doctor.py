"""What `mpo doctor` finds where something is missing. Packages are what their metadata on the path of modules says."""

import shutil
import sys
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from huggingface_hub import constants

from mpo.first_steps.doctor import EXTRAS, QUICKSTARTS, Finding, can_run_quickstart, findings
from mpo.recipe import shipped_recipes

ROOT = Path(__file__).parents[3]


def found(name: str) -> list[Finding]:
    """The findings of a name, which stand together; those after them are not made."""
    return list(next(group for each, group in groupby(findings(), lambda finding: finding.name) if each == name))


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Writes the metadata of an installed package, ahead of all others."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name: str, version: str, *lines: str) -> None:
        folder = tmp_path / f"{name}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            "\n".join(["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *lines])
        )

    return write


def mpo(*needs: str, python: str = ">=3.10") -> tuple[str, ...]:
    tested = [f"Classifier: Programming Language :: Python :: 3.{k}" for k in (10, 13)]
    return (f"Requires-Python: {python}", *tested, *(f"Requires-Dist: {each}" for each in needs))


def test_every_extra_is_explained():
    named = (ROOT / "pyproject.toml").read_text("utf-8").split("[project.optional-dependencies]\n")[1].split("\n[")[0]
    assert list(EXTRAS) == [line.split(" = ")[0] for line in named.splitlines() if " = [" in line]


def test_a_package_that_is_missing_or_old_stops_the_quickstart(package):
    package("mpo", "1.0", *mpo("nosuchpackage>=2", "numpy>=99", "pyyaml>=5"))
    (finding,) = found("packages")
    assert finding.state == "missing"
    assert "nosuchpackage, numpy " in finding.words
    assert "(>=99 is needed)" in finding.words
    assert "pyyaml" not in finding.words
    assert finding.remedy == "install it again from its checkout or wheel, such as pip install -e ."
    assert not can_run_quickstart([finding])


def test_an_extra_that_is_missing_stops_nothing(package):
    package("mpo", "1.0", *mpo("pyyaml>=5", 'nosuchpackage>=2; extra == "wan"', 'mpo[wan]; extra == "test"'))
    for extra in ("wan", "test"):
        (finding,) = found(f"mpo[{extra}]")
        assert (finding.state, finding.stops_quickstart) == ("missing", False)
        assert finding.words == f"nosuchpackage ({EXTRAS[extra]})"
    (finding,) = found("mpo[gpu]")
    assert finding.state == "OK"


def test_a_python_outside_the_range(package):
    package("mpo", "1.0", *mpo(python=">=3.99"))
    (finding,) = found("Python")
    assert (finding.state, finding.stops_quickstart) == ("missing", True)
    assert finding.remedy == "install Python 3.10 to 3.13"


def test_a_torchvision_that_was_made_for_another_torch(package):
    package("torchvision", "0.1", "Requires-Dist: torch (==1.0.0)")
    (finding,) = found("torch")
    assert (finding.state, finding.stops_quickstart) == ("missing", True)
    assert "which is made for torch==1.0.0" in finding.words
    assert "pip install 'torch==1.0.0'" in finding.remedy


def test_a_library_that_cannot_be_imported_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)  # its import then fails
    (finding,) = found("video")
    assert (finding.state, finding.words) == ("missing", "cannot be looked at without av")


def test_a_codec_that_pyav_lacks(monkeypatch):
    import av

    def refuse(name: str, mode: str) -> None:
        raise ValueError(name)

    monkeypatch.setattr(av.codec, "Codec", refuse)
    (finding,) = found("clips")
    assert (finding.state, finding.stops_quickstart) == ("missing", False)
    assert "lacks libx264rgb and libx264" in finding.words


def test_a_machine_that_is_too_small(monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=2**30))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1e7))
    everything = list(findings())
    stopped = {finding.name for finding in everything if finding.stops_quickstart}
    assert stopped == {"memory", "disk here"}
    assert not can_run_quickstart(everything)
    assert "quickstart" not in next(each.words for each in everything if each.name == "recipes")


def test_gpus_and_the_recipes_that_fit_them(monkeypatch):
    """SDXL beside its judge takes 25 GB, and fits 24 if one waits for the other; FLUX.1 does in 8 bits; Wan 2.2 5B wants 48."""
    gpus = [SimpleNamespace(name="RTX 4090", total_memory=24e9), SimpleNamespace(name="small", total_memory=8e9)]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", gpus.__getitem__)
    assert [finding.words for finding in found("GPU")] == ["CUDA 0: RTX 4090, 24 GB", "CUDA 1: small, 8 GB"]
    as_they_are, changed, larger = [finding.words.split(": ")[1].split(", ") for finding in found("recipes")]
    assert {*as_they_are, *changed, *larger} == set(shipped_recipes())
    assert {"quickstart", "sd15"} <= set(as_they_are)
    assert {"sdxl", "flux-dev"} <= set(changed)
    assert larger == ["wan22-5b"]


def test_the_hub_and_its_token_which_is_not_shown(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_not_a_real_one")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    everything = list(findings())
    words = {finding.name: finding.words for finding in everything}
    assert words["hub token"] == "there is one"
    assert words["hub"].startswith("offline mode")
    assert "hf_not" not in "".join(finding.line() + str(finding.record()) for finding in everything)


def test_what_the_quickstarts_hold_is_what_the_documents_say():
    results, install = (
        " ".join((ROOT / "docs" / page).read_text("utf-8").split()) for page in ("results.md", "install.md")
    )
    assert f"each process holds {QUICKSTARTS['quickstart']} GiB" in results
    assert f"15 minutes and {QUICKSTARTS['quickstart-video']} GiB on two cores" in install
