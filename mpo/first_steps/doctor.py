"""What this machine can run, a finding for each thing that matters, with the remedy. Imports what it looks for only then."""

import importlib
import importlib.metadata
import importlib.util
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from mpo.runtime.machine import gpu_sizes, memory_gib, num_cores

# What each extra of pyproject.toml is for.
EXTRAS = {
    "gpu": "xformers: its attention; bitsandbytes: 8-bit AdamW, models and judges in 4 or 8 bits",
    "deepspeed": "weights spread over GPUs by ZeRO-3",
    "pixart": "PixArt-Sigma, whose pipeline cleans captions",
    "ray": "runs over a Ray cluster",
    "server": "judges behind a server, such as vLLM",
    "serve": "the reward as a service over HTTP",
    "smolvlm": "SmolVLM as a judge",
    "slurm": "runs over a Slurm cluster",
    "tensorboard": "training's curves in TensorBoard",
    "browser": "the project's tests in Chromium",
    "wan": "Wan, whose pipeline cleans prompts",
    "docs": "the project's pages as a site",
    "test": "the project's other tests",
}
# What a quickstart holds in each process, measured on two CPU cores (docs/results.md, docs/install.md), in GiB.
INSTALL = "install it again from its checkout or wheel, such as pip install -e ."  # PyPI's mpo is another project
QUICKSTARTS = {"quickstart": 1.5, "quickstart-video": 2.9}
QUICKSTART_DISK_GB = 0.2  # its files, and what is written before it replaces others

State = Literal["OK", "missing", "note"]
Check = Callable[[], Iterable["Finding"]]


@dataclass(frozen=True)
class Finding:
    """One line."""

    name: str
    state: State
    words: str
    remedy: str = ""
    stops_quickstart: bool = False

    def line(self) -> str:
        return f"{self.name:<16} {self.state:<7} {self.words}{f'; {self.remedy}' if self.remedy else ''}"

    def record(self) -> dict[str, Any]:
        return asdict(self)


def can_run_quickstart(findings: Iterable[Finding]) -> bool:
    return not any(finding.stops_quickstart for finding in findings)


def findings() -> Iterator[Finding]:
    """All of them in their order, each as soon as it is known."""
    checks: tuple[Check, ...] = (
        _python, _packages, _torch, _gpus, _cpu_and_memory, _disks, _hub, _video, _extras, _recipes,
    )  # fmt: skip
    for check in checks:
        try:
            yield from check()
        except importlib.metadata.PackageNotFoundError:  # of the first, and of those that ask the same
            if check is _python:
                words = "not installed: it runs from its folder, and what it needs is not known"
                yield Finding("mpo", "missing", words, "pip install .")
        except ImportError as error:
            name = check.__name__.strip("_").replace("_", " ")
            yield Finding(name, "missing", f"cannot be looked at without {error.name}", INSTALL, True)


def _python() -> Iterator[Finding]:
    metadata = importlib.metadata.metadata("mpo")
    needed, version = SpecifierSet(metadata["Requires-Python"]), platform.python_version()
    named = [text.rpartition(" :: ")[2] for text in metadata.get_all("Classifier") or []]
    tested = sorted(tuple(map(int, each.split("."))) for each in named if re.fullmatch(r"3\.\d+", each))
    span = f"{'.'.join(map(str, tested[0]))} to {'.'.join(map(str, tested[-1]))}"
    if version not in needed:
        yield Finding("Python", "missing", f"{version}, and mpo needs {needed}", f"install Python {span}", True)
    elif sys.version_info[:2] > tested[-1]:
        yield Finding("Python", "note", f"{version}, newer than what is tested ({span})")
    else:
        yield Finding("Python", "OK", f"{version}; tested: {span}")


def _packages() -> Iterator[Finding]:
    """What mpo always needs. torch has a line of its own."""
    wrong = [each for each in map(_lack, _requirements(None)) if each]
    if wrong:
        yield Finding("packages", "missing", ", ".join(wrong), INSTALL, True)
    else:
        yield Finding("packages", "OK", f"all {len(_requirements(None))} that mpo needs")


def _requirements(extra: str | None) -> list[Requirement]:
    """What the installed mpo asks for, always or with an extra; other extras of mpo are resolved."""
    found = []
    for requirement in map(Requirement, importlib.metadata.requires("mpo") or []):
        marker = requirement.marker
        by_extra = marker is not None and "extra" in str(marker)
        if by_extra != (extra is not None) or (marker and not marker.evaluate({"extra": extra or ""})):
            continue
        if requirement.name == "mpo":
            found += [each for inner in sorted(requirement.extras) for each in _requirements(inner)]
        else:
            found.append(requirement)
    return found


def _lack(requirement: Requirement) -> str:
    """What is wrong with an installed package; "" = nothing."""
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return requirement.name
    fits = requirement.specifier.contains(version.partition("+")[0], prereleases=True)
    return "" if fits else f"{requirement.name} {version} ({requirement.specifier} is needed)"


def _torch() -> Iterator[Finding]:
    try:
        import torch
    except (ImportError, OSError) as error:  # a shared library that is missing, too
        yield Finding(
            "torch", "missing", f"cannot be imported ({_first_line(error)})", "pip install torch torchvision", True
        )
        return
    build = (
        f"CUDA {torch.version.cuda}"
        if torch.version.cuda
        else f"ROCm {torch.version.hip}"
        if torch.version.hip
        else "CPU"
    )
    words = f"torch {torch.__version__} for {build}"
    try:
        import torchvision
    except (ImportError, OSError, RuntimeError) as error:  # RuntimeError: an operator that another torch lacks
        remedy = "install both from the same index: pip install --force-reinstall torch torchvision"
        yield Finding(
            "torch", "missing", f"{words}; torchvision cannot be imported ({_first_line(error)})", remedy, True
        )
        return
    wanted = [
        each for each in map(Requirement, importlib.metadata.requires("torchvision") or []) if each.name == "torch"
    ]
    lacks = [
        each for each in wanted if not each.specifier.contains(torch.__version__.partition("+")[0], prereleases=True)
    ]
    words += f", torchvision {torchvision.__version__}"
    if lacks:
        remedy = f"pip install 'torch{lacks[0].specifier}', or the torchvision of this torch"
        yield Finding("torch", "missing", f"{words}, which is made for torch{lacks[0].specifier}", remedy, True)
    else:
        yield Finding("torch", "OK", words)


def _gpus() -> Iterator[Finding]:
    sizes = gpu_sizes()
    if sizes:
        import torch

        kind = "ROCm" if torch.version.hip else "CUDA"
        for k, (name, size_gb) in enumerate(sizes):
            yield Finding("GPU", "OK", f"{kind} {k}: {name}, {size_gb:.0f} GB")
        return
    try:
        import torch
    except (ImportError, OSError):  # as torch's own line says
        return
    if torch.backends.mps.is_available():
        yield Finding("GPU", "note", "Apple's (MPS), on which mpo has not been tested; its memory is the machine's")
    elif torch.version.cuda or torch.version.hip:
        yield Finding(
            "GPU",
            "note",
            "torch finds none, so the CPU computes",
            "if there is one, check its driver: nvidia-smi or rocm-smi",
        )
    else:
        yield Finding(
            "GPU",
            "note",
            "this torch uses none, so the CPU computes",
            "if there is one, install a torch for it: pytorch.org",
        )


def _cpu_and_memory() -> Iterator[Finding]:
    cores = num_cores()
    words = "" if cores == 1 else f"; mpo run quickstart --processes {min(cores, 4)} shares its work"
    yield Finding("CPU", "OK", f"{cores} core{'' if cores == 1 else 's'}, {platform.machine()}{words}")
    size, needed = memory_gib(), QUICKSTARTS["quickstart"]
    if size < needed:
        yield Finding(
            "memory", "missing", f"{size:.1f} GiB, and the quickstart holds {needed}", "use a larger machine", True
        )
    else:
        yield Finding("memory", "OK", f"{size:.1f} GiB")


def _disks() -> Iterator[Finding]:
    free = _free_gb(Path.cwd())
    if free < QUICKSTART_DISK_GB:
        yield Finding(
            "disk here",
            "missing",
            f"{free:.1f} GB free",
            f"the quickstart writes {QUICKSTART_DISK_GB} GB: use --output on another disk",
            True,
        )
    else:
        yield Finding("disk here", "OK", f"{free:.0f} GB free in this folder")
    from huggingface_hub.constants import HF_HUB_CACHE

    free = _free_gb(Path(HF_HUB_CACHE))
    small = free < 30
    remedy = "models take 5 to 60 GB each: set HF_HOME to a folder on a larger disk" if small else ""
    place = HF_HUB_CACHE.replace(str(Path.home()), "~")
    yield Finding("disk of hub", "note" if small else "OK", f"{free:.0f} GB free for {place}", remedy)


def _free_gb(path: Path) -> float:
    existing = next(each for each in (path, *path.absolute().parents) if each.exists())
    return shutil.disk_usage(existing).free / 1e9


def _hub() -> Iterator[Finding]:
    import huggingface_hub
    from huggingface_hub.constants import ENDPOINT, is_offline_mode

    from mpo.runtime.hub import is_offline

    if is_offline_mode():
        yield Finding(
            "hub",
            "note",
            "offline mode: only what is in the cache or in local folders",
            "unset HF_HUB_OFFLINE to download",
        )
    elif is_offline():
        yield Finding(
            "hub",
            "note",
            f"{ENDPOINT} does not answer: only what is in the cache or in local folders",
            "check the network, or HF_ENDPOINT for a mirror",
        )
    else:
        yield Finding("hub", "OK", f"{ENDPOINT} answers")
    if huggingface_hub.get_token():
        yield Finding("hub token", "OK", "there is one")
    else:
        yield Finding("hub token", "note", "none: enough for all but gated models, such as FLUX.1-dev", "hf auth login")


def _video() -> Iterator[Finding]:
    import av

    lacks = [name for name in ("libx264rgb", "libx264") if not _has_encoder(av, name)]
    words = f"PyAV {av.__version__} with FFmpeg's libavcodec {'.'.join(map(str, av.library_versions['libavcodec']))}"
    if lacks:
        remedy = "pip install --force-reinstall av brings a build that has them"
        yield Finding("clips", "missing", f"{words} lacks {' and '.join(lacks)}, by which clips are kept", remedy)
    else:
        yield Finding("clips", "OK", f"{words}, libx264rgb and libx264")


def _has_encoder(av: Any, name: str) -> bool:
    try:
        av.codec.Codec(name, "w")
    except Exception:  # its class has moved between versions
        return False
    return True


def _extras() -> Iterator[Finding]:
    for extra, purpose in EXTRAS.items():
        lacks = [each for each in map(_lack, _requirements(extra)) if each]
        if lacks:
            yield Finding(
                f"mpo[{extra}]",
                "missing",
                f"{', '.join(lacks)} ({purpose})",
                f"pip install 'mpo[{extra}]' if you need that",
            )
        else:
            yield Finding(f"mpo[{extra}]", "OK", purpose)


def _recipes() -> Iterator[Finding]:
    """Which shipped recipes fit: the quickstarts into the machine's memory, the others into the largest GPU's."""
    try:
        from mpo.planning.plan import GPUS_GB, plan_from_table
        from mpo.recipe import load_recipe, shipped_recipes
    except (OSError, RuntimeError) as error:  # of torch and torchvision that do not fit
        yield Finding(
            "recipes", "missing", f"mpo cannot be imported ({_first_line(error)})", "see the lines above", True
        )
        return
    able, changed, others = [name for name, gib in QUICKSTARTS.items() if gib <= memory_gib()], [], {}
    largest = max((size for _, size in gpu_sizes()), default=0.0)
    for name in shipped_recipes():
        if name in QUICKSTARTS:
            continue
        fittings = plan_from_table(load_recipe(name), [largest, *GPUS_GB]).fittings
        if fittings[0].is_enough:
            (changed if fittings[0].changes else able).append(name)
        else:
            size = next((each.size_gb for each in fittings[1:] if each.is_enough), None)
            others.setdefault("more than 80 GB" if size is None else f"{size:g} GB", []).append(name)
    yield Finding("recipes", "OK", f"fit as they are: {', '.join(able) or 'none'}")
    if changed:
        yield Finding("recipes", "OK", f"fit with changes: {', '.join(changed)}", "mpo run NAME --dry-run names them")
    for size, names in sorted(others.items(), key=lambda each: (len(each[0]), each[0])):
        yield Finding(
            "recipes", "note", f"fit a GPU of {size}, as they are or by `mpo run NAME --fit`: {', '.join(names)}"
        )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
