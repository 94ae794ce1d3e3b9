"""How a run came about: hardware, time by stage, versions. Rows of a name and a text."""

from collections.abc import Iterator
from datetime import datetime

from mpo.run_folder.files import read_json, read_lines
from mpo.run_folder.paths import RunFolder


def facts_of(run: RunFolder) -> list[tuple[str, str]]:
    """What is known of it; a run of an earlier version tells less."""
    return [*_hardware(run), *_times(run), *_memory(run), *_versions(run)]


def _hardware(run: RunFolder) -> Iterator[tuple[str, str]]:
    machines = dict.fromkeys(event["machine"] for event in _events(run) if "machine" in event)
    if machines:
        yield "hardware", "; ".join(machines)


def _times(run: RunFolder) -> Iterator[tuple[str, str]]:
    """From a stage's last start to its end; what was taken over from another run has no time."""
    begun: dict[str, datetime] = {}
    taken: dict[str, float] = {}
    for event in _events(run):
        at = datetime.strptime(event["time"], "%Y-%m-%dT%H:%M:%SZ")
        if event["event"] == "start":
            begun[event["stage"]] = at
        elif event["event"] == "done" and event["stage"] in begun:
            taken[event["stage"]] = (at - begun[event["stage"]]).total_seconds()
    if taken:
        yield "time", f"{words(sum(taken.values()))} in all"
        for stage, seconds in taken.items():
            yield stage, words(seconds)


def words(seconds: float) -> str:
    """A span of time as a person says it."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds // 3600:.0f} h {seconds % 3600 / 60:.0f} min"


def _memory(run: RunFolder) -> Iterator[tuple[str, str]]:
    peaks = [line["peak_memory_gib"] for line in read_lines(run.timing_log)]
    if peaks:
        yield "memory while training", f"{max(peaks):.1f} GiB at most, of a process"


def _versions(run: RunFolder) -> Iterator[tuple[str, str]]:
    versions: dict[str, str] = {}
    for file in sorted(run.manifests.glob("*.json")):
        versions |= read_json(file).get("versions", {})
    if versions:
        yield "versions", ", ".join(f"{name} {number}" for name, number in sorted(versions.items()))


def _events(run: RunFolder) -> list[dict]:
    return read_lines(run.log)
