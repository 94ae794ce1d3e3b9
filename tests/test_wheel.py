"""What is published: the wheel carries everything, `pip install DIST.whl && mpo run quickstart` from an empty folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_wheel_runs_from_an_empty_folder(tmp_path):
    """Takes seconds: it is built as a release builds it, from the source distribution, and passes PyPI's check of both."""
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    built = sorted(map(str, (tmp_path / "dist").iterdir()))
    check = [sys.executable, "-m", "twine", "--no-color", "check", "--strict", *built]
    checked = subprocess.run(check, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout.count("PASSED")) == (0, 2), checked.stdout + checked.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for name in (
        "mpo/recipes/quickstart.yaml",
        "mpo/recipes/prompts/shapes-train.txt",
        "mpo/recipes/prompts/moving-shapes-train.txt",
        "mpo/recipes/prompts/partiprompts.txt",
        "mpo/recipes/prompts/partiprompts.LICENSE",
        "mpo/pages/web/page.html",
        "mpo/pages/web/main.js",
        "mpo/embedded/model/unet/diffusion_pytorch_model.safetensors",
        "mpo/embedded/oracle/oracle.safetensors",
        "mpo/embedded/clip_model/unet/diffusion_pytorch_model.safetensors",
        "reward/checklists/image.yaml",
    ):
        assert name in names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "recipes/"))]

    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    small = ["generate.num_candidates=2", "generate.num_inference_steps=1", "generate.batch_size=128"]
    command = [sys.executable, "-m", "mpo.cli", "run", "quickstart", "--until", "generate", "--quiet"]
    for setting in small:
        command += ["--set", setting]
    result = subprocess.run(
        command, cwd=empty, env={**os.environ, "PYTHONPATH": str(site)}, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert len(list((empty / "runs" / "quickstart" / "candidates").rglob("*.png"))) == 512
