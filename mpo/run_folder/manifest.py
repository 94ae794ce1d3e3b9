"""A stage's manifest: what went in and what came out, so that a file does not count as right just because it exists.

Written when the stage begins (without outputs) and again when it is done. It holds no times and no paths of the machine: equal work,
equal bytes.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mpo import MpoError
from mpo.run_folder.files import read_json, sha256, write_json
from mpo.run_folder.paths import RunFolder

LIBRARIES = ("torch", "diffusers", "transformers", "peft", "accelerate", "numpy", "av")  # whose versions decide bytes


@dataclass(frozen=True)
class Manifest:
    """One stage's manifest. Files are named relative to the run folder, each with the sha256 of its content."""

    stage: str
    recipe: dict[str, Any]  # the fields that the stage depends on, such as "train.beta"
    inputs: dict[str, str]
    outputs: dict[str, str] | None  # None = begun, not done
    versions: dict[str, str]


def manifest_file(run: RunFolder, stage: str) -> Path:
    return run.manifests / f"{stage}.json"


def read_manifest(run: RunFolder, stage: str) -> Manifest | None:
    """None = the stage has not begun. Raises MpoError if the file is damaged."""
    file = manifest_file(run, stage)
    if not file.exists():
        return None
    fields = read_json(file)
    try:
        return Manifest(**fields)
    except TypeError:
        raise MpoError(f"{file} is damaged: it is not a manifest; run `mpo {stage} {run.folder} --redo`") from None


def write_manifest(run: RunFolder, manifest: Manifest) -> None:
    write_json(manifest_file(run, manifest.stage), asdict(manifest))


def digests(run: RunFolder, paths: Iterable[Path]) -> dict[str, str]:
    """Digests of files, and of all files within folders, sorted by name. Missing files are left out, and files that are being written."""
    files: set[Path] = set()
    for path in paths:
        files |= set(path.rglob("*")) if path.is_dir() else {path}
    return {
        file.relative_to(run.folder).as_posix(): sha256(file)
        for file in sorted(files)
        if file.is_file() and not any(map(is_foreign, file.relative_to(run.folder).parts))
    }


def is_foreign(name: str) -> bool:
    """Whether a file or folder is no work of a stage: still being written, or left behind by a file browser."""
    return name.startswith(".") or name.endswith(".part") or name in ("Thumbs.db", "desktop.ini")


@lru_cache(maxsize=1)
def library_versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found
