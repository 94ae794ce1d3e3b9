"""Selecting pairs among very many candidates: time and memory of the stage, from scores.parquet to pairs.parquet.

    python -m benchmarks.select                 # 1 and 10 million candidates, 8 a prompt, 18 sub-dimensions
    python -m benchmarks.select --millions 0.1 1

Answers are random, of the 60 questions of the `image` checklist. Each size runs in a process of its own, whose peak
memory is its own; writing the answers is not counted.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mpo.generate import CANDIDATES
from mpo.recipe import dump_recipe, load_recipe
from mpo.score import SCORES
from mpo.select import read_selection, select
from mpo.store import Run
from reward import load_checklist

PER_PROMPT, CHUNK = 8, 2**17


def write_scores(folder: Path, num_candidates: int) -> None:
    """A run with random answers: better candidates say yes more often, as real ones do."""
    run, rng = Run(folder), np.random.default_rng(0)
    run.folder.mkdir(parents=True)
    settings = ["judge.questions=all", "select.granularity=subdimension", "select.margin=0.5", "select.num_pairs=null"]
    run.recipe.write_text(dump_recipe(load_recipe("quickstart", settings)), "utf-8")
    checklist = load_checklist("image")
    metadata = {"checklist": checklist.fingerprint, "questions": ",".join(checklist.question_ids)}
    schema = SCORES.with_metadata(metadata)
    questions = len(checklist.questions)
    with (
        pq.ParquetWriter(run.scores, schema) as scores,
        pq.ParquetWriter(run.candidates_table, CANDIDATES) as candidates,
    ):
        for start in range(0, num_candidates, CHUNK):
            n = min(CHUNK, num_candidates - start)
            ids = np.arange(start, start + n)
            yes = rng.random((n, questions)) < 0.9 + 0.09 * rng.random((n, 1))
            p_yes = np.where(yes, 0.9, 0.1)
            lists = pa.ListArray.from_arrays(np.arange(n + 1, dtype=np.int32) * questions, p_yes.ravel())
            empty = pa.ListArray.from_arrays(np.zeros(n + 1, dtype=np.int32), pa.array([], pa.float64()))
            zeros = pa.array(np.zeros(n))
            scores.write_table(pa.Table.from_arrays([pa.array(ids), lists, empty, empty, zeros], schema=schema))
            names = pa.nulls(n, pa.string())
            columns = [pa.array(ids), pa.array(ids // PER_PROMPT), pa.nulls(n, pa.int64()), names, names]
            candidates.write_table(pa.Table.from_arrays(columns, schema=CANDIDATES))


def measure(folder: Path) -> None:
    """The stage alone; prints seconds, peak GiB, pairs."""
    start = time.perf_counter()
    select(folder)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(seconds, peak, read_selection(Run(folder))["num_kept"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millions", type=float, nargs="+", default=[1.0, 10.0])
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        return measure(arguments.measure)
    print("| candidates | prompts | seconds | microseconds a prompt | peak GiB | pairs |\n|---|---|---|---|---|---|")
    for millions in arguments.millions:
        count = int(millions * 1e6) // PER_PROMPT * PER_PROMPT
        with tempfile.TemporaryDirectory() as folder:
            write_scores(Path(folder) / "run", count)
            command = [sys.executable, "-m", "benchmarks.select", "--measure", str(Path(folder) / "run")]
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
            seconds, peak, pairs = float(output[0]), float(output[1]), int(output[2])
        prompts = count // PER_PROMPT
        print(f"| {count:,} | {prompts:,} | {seconds:.1f} | {1e6 * seconds / prompts:.1f} | {peak:.2f} | {pairs:,} |")
    return None


if __name__ == "__main__":
    main()
