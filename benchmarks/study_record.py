"""What the study has measured: a line a finished run in docs/study.jsonl, and the tables of docs/study.md that are made of it.

    python -m benchmarks.study_record --add STUDY    # the finished runs of a study folder that are not there yet
    python -m benchmarks.study_record                # the tables alone

A run's folder is large and is thrown away; its line stays, so that a study may go on elsewhere and what the page says can be
checked. A repetition that has a line is not measured again: the first result is the one that counts.
"""

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from benchmarks.study import Job
from benchmarks.study_arms import ARMS, GROUPS, SETUPS
from mpo import MpoError
from mpo.comparison.repetitions import MOST, Difference, mean_of, paired_difference
from mpo.recipe import load_recipe, read_recipe
from mpo.run_folder.files import write_text
from mpo.run_folder.paths import RunFolder
from mpo.study import interval, read_run

RECORD = Path(__file__).parents[1] / "docs" / "study.jsonl"
PAGE = RECORD.with_suffix(".md")

# What the page calls the judges.
NAMES = (
    ("mpo.embedded.oracle:Oracle: ", "oracle: "),
    ("oracle: oracle_", "oracle: "),
    ("benchmarks.people:People: ", "people's taste: "),
)
# The measures of which a table says how many repetitions would find the difference.
WITH_POWER = ("total", "oracle: total")


@dataclass(frozen=True)
class Line:
    """One finished run of the study."""

    arm: str
    repetition: int
    settings: tuple[str, ...]  # of the arm
    measures: dict[str, float]  # win rates over base in [0, 1] and the guards' ratios, by name


def read_record(path: Path = RECORD) -> list[Line]:
    """All lines; none if there is no such file."""
    if not path.exists():
        return []
    rows = [json.loads(text) for text in path.read_text("utf-8").splitlines()]
    return [Line(**{**row, "settings": tuple(row["settings"])}) for row in rows]


def write_record(lines: Sequence[Line], path: Path = RECORD) -> None:
    """In the order of the arms and of the repetitions."""
    order = list(ARMS)
    ordered = sorted(lines, key=lambda line: (order.index(line.arm), line.repetition))
    write_text(path, "".join(json.dumps(asdict(line)) + "\n" for line in ordered))


def finished_runs(study: Path) -> Iterator[Line]:
    """Those in a study's folder. Raises MpoError for a study with settings or numbers of prompts of its own, such as one on trial."""
    for folder in sorted(study.glob("repetition-*")):
        for arm, what in ARMS.items():
            job = Job(study, arm, int(folder.name.removeprefix("repetition-")), ())
            if not job.is_finished:
                continue
            setup = SETUPS[what.recipe]
            counts = [
                len((folder / setup.prompt_file(name)).read_text("utf-8").splitlines()) for name in ("train", "heldout")
            ]
            if counts != [setup.num_train, setup.num_heldout]:
                raise MpoError(
                    f"{folder} has {counts[0]} and {counts[1]} prompts; only a study of {setup.num_train} and {setup.num_heldout} is kept"
                )
            run = RunFolder(job.run)
            if read_recipe(run.recipe) != load_recipe(what.recipe, job.settings):
                raise MpoError(f"{job.run} has other settings than the arm {arm!r}; only a study without --set is kept")
            measures = {name: round(value, 6) for name, value in read_run(run).measures.items()}
            yield Line(arm, job.repetition, what.settings, measures)


def values_of(lines: Sequence[Line], arms: Sequence[str]) -> dict[str, Float[np.ndarray, "R arms"]]:
    """Measure -> its values in the R repetitions that all these arms have; {} if there is none."""
    of = {(line.arm, line.repetition): line.measures for line in lines}
    common = [r for r in sorted({line.repetition for line in lines}) if all((arm, r) in of for arm in arms)]
    names = of[arms[0], common[0]] if common else ()
    return {_words(name): np.array([[of[arm, r][name] for arm in arms] for r in common]) for name in names}


def _words(measure: str) -> str:
    for name, words in NAMES:
        measure = measure.replace(name, words)
    return measure.replace("_", " ")


def table(lines: Sequence[Line], group: str) -> str:
    """A group's first arm, and each other less the first: Markdown. Bold where the 95 % interval leaves out zero.

    The first arm is over the repetitions that some other has, and each other is compared over those that both have; without any,
    an arm has no column. Without a column there is no table.
    A measure that is the same in all runs has no row. The last rows are of the totals' differences: p, effect size (Cohen's d_z),
    and how many repetitions would find a difference of this size four times in five.
    """
    first, *others = GROUPS[group]
    both = {arm: values for arm in others if (values := values_of(lines, (first, arm)))}
    if not both:
        return ""
    shared = {line.repetition for line in lines if line.arm in both}
    alone = values_of([line for line in lines if line.repetition in shared], (first,))
    count = len(next(iter(alone.values())))
    heads = [f"{arm} ({len(next(iter(values.values())))})" for arm, values in both.items()]
    rows = [f"| difference from {first} | {first} ({count}) | {' | '.join(heads)} |", "|---" * (len(heads) + 2) + "|"]
    gaps = {
        measure: [paired_difference(*pairs[measure].T) for pairs in both.values()]
        for measure in alone
        if any(np.ptp(pairs[measure]) for pairs in both.values())
    }
    for measure, found in gaps.items():
        cells = [interval(mean_of(alone[measure][:, 0]))]
        for gap in found:
            known = f" ({gap.low:+.3f} to {gap.high:+.3f})" if np.isfinite(gap.low) else ""
            mark = "" if gap.verdict == "not settled" else "**"
            cells.append(f"{mark}{gap.mean:+.3f}{known}{mark}")
        rows.append(f"| {measure} | {' | '.join(cells)} |")
    for measure in WITH_POWER:
        if any(np.isfinite(gap.p) for gap in gaps.get(measure, ())):
            rows.append(f"| {measure}: p, effect, needed | | {' | '.join(map(_power, gaps[measure]))} |")
    return "\n".join(rows)


def _power(gap: Difference) -> str:
    if not np.isfinite(gap.p):
        return ""
    return f"{gap.p:.2g}, {gap.effect:.2g}, {gap.needed or f'over {MOST}'}"


def with_tables(page: str, lines: Sequence[Line]) -> str:
    """The page with each group's table below its mark, `<!-- objectives -->`, in place of the one that is there."""
    for group in GROUPS:
        found = table(lines, group)
        new = f"<!-- {group} -->\n{found}\n\n" if found else f"<!-- {group} -->\n\n"
        page = re.sub(rf"<!-- {group} -->\n(\|.*\n)*\n*", lambda _, new=new: new, page)
    return page


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--add", type=Path, metavar="STUDY")
    parser.add_argument("--record", type=Path, default=RECORD)
    parser.add_argument("--page", type=Path, default=PAGE)
    given = parser.parse_args(arguments)
    lines = read_record(given.record)
    if given.add:
        known = {(line.arm, line.repetition) for line in lines}
        lines += [line for line in finished_runs(given.add) if (line.arm, line.repetition) not in known]
        write_record(lines, given.record)
    write_text(given.page, with_tables(given.page.read_text("utf-8"), lines))


if __name__ == "__main__":
    main()
