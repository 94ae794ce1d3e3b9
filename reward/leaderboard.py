"""A judge on the benchmarks that others report, beside the figures that they have published.

Measured figures come from `reward.agreement`, published ones from `published.yaml`, which names their source. All are
shares in [0, 1] here and in JSON, and per cent in tables.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np

from reward.agreement import Agreement, Interval
from reward.checklist import Kind
from reward.errors import RewardError, did_you_mean
from reward.pairs import agreements, judge_pairs
from reward.preferences import Preference, read_preferences
from reward.reward import Reward
from reward.settings import read_yaml

Measure = Literal["tau", "accuracy"]
MEASURES: tuple[Measure, ...] = ("tau", "accuracy")  # in the papers "tau" and "diff"
# The layout of each benchmark's files (see `reward.preferences`). MonetBench's pairs of clips are the split "test" of
# VisionRewardDB-Video.
LAYOUTS: Mapping[str, str] = {
    "genai-bench": "genai-bench",
    "monetbench": "visionrewarddb",
    "hpdv2": "hpdv2",
    "imagerewarddb": "imagerewarddb",
    "pickapic": "pickapic",
}
NOT_MEASURED = "published: not measured here, but as their sources say"


@dataclass(frozen=True)
class Benchmark:
    """A benchmark's files on this machine."""

    name: str  # of LAYOUTS
    path: Path  # a file, a folder of parquet files, or one with test.json or test.jsonl
    root: Path | None = None  # where relative paths start; None = the file's folder


@dataclass(frozen=True)
class Published:
    """One figure that others have published."""

    judge: str
    benchmark: str
    kind: Kind
    measure: Measure
    value: float  # in [0, 1]
    source: str


@dataclass(frozen=True)
class Measured:
    """A judge's agreement with people on one benchmark."""

    benchmark: str
    total: Agreement
    dimensions: tuple[Agreement, ...]
    failures: tuple[str, ...]  # why items of left-out pairs could not be scored


@dataclass(frozen=True)
class Board:
    """One judge on some benchmarks, and what others have published about theirs."""

    judge: str  # as it is called in tables
    fingerprint: str
    checklist: str
    kind: Kind
    measured: tuple[Measured, ...]
    published: tuple[Published, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(each.source for each in self.published))


def parse_benchmarks(given: Sequence[str], roots: Sequence[str] = ()) -> tuple[Benchmark, ...]:
    """NAME=PATH, and NAME=FOLDER for where a benchmark's relative paths start.

    Raises RewardError for an unknown benchmark, one that is named twice, and a path that is not there.
    """
    paths, folders = _by_name(given, ""), _by_name(roots, "--root ")
    for name, folder in folders.items():
        if name not in paths:
            raise RewardError(f"--root {name}={folder}: benchmark {name!r} is not asked for; add {name}=PATH")
        if not folder.is_dir():
            raise RewardError(f"--root {name}={folder} is no folder; give one")
    if not paths:
        raise RewardError(f"no benchmark is named; give some as NAME=PATH, of: {', '.join(LAYOUTS)}")
    return tuple(Benchmark(name, _file_of(name, path), folders.get(name)) for name, path in paths.items())


def _by_name(given: Sequence[str], option: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for each in given:
        name, equals, path = each.partition("=")
        if not equals or not path:
            raise RewardError(f"{option}{each!r} is not NAME=PATH; for example {option}hpdv2=data/test.json")
        if name not in LAYOUTS:
            guess = did_you_mean(name, LAYOUTS)
            raise RewardError(f"{option}{each}: benchmark {name!r} is unknown; benchmarks: {', '.join(LAYOUTS)}{guess}")
        if name in found:
            raise RewardError(f"{option}{each}: {name} is given twice; leave one out")
        found[name] = Path(path).expanduser()
    return found


def _file_of(name: str, path: Path) -> Path:
    if path.is_dir() and not any(path.glob("*.parquet")):
        files = [path / file for file in ("test.json", "test.jsonl") if (path / file).is_file()]
        if not files:
            raise RewardError(f"{name}={path} holds neither parquet files nor test.json; name the file")
        return files[0]
    if not path.exists():
        raise RewardError(f"{name}={path} does not exist; check the path")
    return path


@cache
def published_figures() -> tuple[Published, ...]:
    """Every figure of `published.yaml`, in its order."""
    entries = read_yaml(resources.files("reward").joinpath("published.yaml").read_text("utf-8"))
    return tuple(
        Published(judge, column["benchmark"], column["kind"], column["measure"], round(value / 100, 6), entry["source"])
        for entry in entries
        for judge, values in entry["judges"].items()
        for column, value in zip(entry["columns"], values, strict=True)
    )


def read_benchmarks(benchmarks: Sequence[Benchmark], *, limit: int | None = None) -> dict[str, list[Preference]]:
    """People's preferences by benchmark. limit: the first so many pairs of each; None = all.

    Raises PreferenceError, naming file and row, for what cannot be read.
    """
    return {
        each.name: read_preferences(each.path, LAYOUTS[each.name], root=each.root, limit=limit) for each in benchmarks
    }


def measure_board(
    reward: Reward, benchmarks: Mapping[str, Sequence[Preference]], *, judge: str, **scoring: Any
) -> Board:
    """The reward's agreement with people on each benchmark. With a cache a killed run continues where it was.

    judge: its name in tables. scoring: `progress` of `Reward.score`. Raises RewardError if no pair of a benchmark
    could be scored.
    """
    measured = []
    for name, preferences in benchmarks.items():
        judged = judge_pairs(reward, preferences, **scoring)
        total, *dimensions = agreements(judged)
        measured.append(Measured(name, total, tuple(dimensions), judged.failures))
    kind = reward.checklist.kind
    published = tuple(each for each in published_figures() if each.benchmark in benchmarks and each.kind == kind)
    return Board(judge, reward.fingerprint, reward.checklist.fingerprint, kind, tuple(measured), published)


def table_of(board: Board) -> tuple[list[str], list[list[str]]]:
    """Names of columns, and rows of words: first what was measured, then what is published, in per cent."""
    names = ["judge", *(f"{each.benchmark} {said}" for each in board.measured for said in ("tau", "diff")), "source"]
    row = [board.judge]
    for each in board.measured:
        row += [_percent(each.total.tau), _percent(each.total.accuracy)]
    rows = [[*row, "measured here"]]
    known = {(p.judge, p.source, p.benchmark, p.measure): p.value for p in board.published}
    for judge, source in dict.fromkeys((p.judge, p.source) for p in board.published):
        values = [known.get((judge, source, each.benchmark, m)) for each in board.measured for m in MEASURES]
        rows.append([judge, *("" if value is None else f"{100 * value:.1f}" for value in values), source])
    return names, rows


def remarks_on(board: Board) -> list[str]:
    """Lines that belong to the table."""
    pairs = [f"{m.benchmark} {m.total.num_pairs} pairs, {m.total.num_ties} of them ties" for m in board.measured]
    lines = [f"In %, with 95 % intervals over prompts; {'; '.join(pairs)}."]
    if board.published:
        lines.append(f"The figures of {', '.join(board.sources)} are published ones: they were not measured here.")
    without = [m.benchmark for m in board.measured if all(p.benchmark != m.benchmark for p in board.published)]
    if without:
        lines.append(f"No published figure is known for {', '.join(without)} ({board.kind}s).")
    return lines


def _percent(share: Interval) -> str:
    if np.isnan(share.value):
        return "none decided"
    return f"{100 * share.value:.1f} ({100 * share.low:.1f} to {100 * share.high:.1f})"


def board_as_json(board: Board) -> str:
    """All of a board; what cannot be computed is null."""
    fields = asdict(board) | {"published_are": NOT_MEASURED}
    return json.dumps(_without_nan(fields), indent=1) + "\n"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and np.isnan(value) else value


def board_as_markdown(board: Board) -> str:
    names, rows = table_of(board)
    lines = [names, ["---"] * len(names), *rows]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"{table}\n\n" + "\n".join(remarks_on(board)) + "\n"
