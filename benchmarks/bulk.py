"""How fast `reward score --output` is with one worker and with two, and how much memory it takes for more rows.

    python -m benchmarks.bulk [--num-pictures 2000] [--rounds 3]

Pictures of 64x64 pixels are drawn as the embedded model's were, and judged by the `measured` judge. Memory is the peak of the one
process that reads, judges and writes, with a judge that does nothing, so that what grows is what the rows take.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mpo.embedded.scenes import caption, paint, sample_defects, sample_scene
from reward.judges import AnswersAnything
from reward.media import Sampling

# Runs a command line and prints the peak of its memory; Linux counts it in KiB.
MEASURE = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=2); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"


class NoJudge(AnswersAnything):
    """Says yes, without a look."""

    kinds = ("image",)
    sampling = Sampling(max_frames=1)
    batch_size = 16
    fingerprint = "none"

    def answer(self, media, prompts, questions):
        return np.ones((len(media), len(questions)))


def draw(folder: Path, num_pictures: int) -> Path:
    """Pictures and a table of them with their captions."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(num_pictures):
        scene = sample_scene(rng)
        paint(scene, sample_defects(rng), rng).save(folder / f"{i:05d}.png")
        rows.append({"file": f"{i:05d}.png", "prompt": caption(scene)})
    table = folder / "list.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return table


def rate(table: Path, output: Path, num_workers: int) -> float:
    """Items a second, loading included."""
    command = ["score", table, "--output", output, "--overwrite", "--workers", num_workers, "--quiet"]
    done = subprocess.run(
        [sys.executable, "-m", "reward.cli", *map(str, command)], check=True, capture_output=True, text=True
    )
    found = re.search(r"([\d.]+) items a second", done.stdout)
    assert found
    return float(found[1])


def memory_mib(table: Path, output: Path) -> float:
    """The peak of one process."""
    judge = ["--judge", "benchmarks.bulk:NoJudge", "--questions", "all", "--overwrite", "--quiet"]
    command = [sys.executable, "-m", "reward.cli", "score", str(table), "--output", str(output), *judge]
    done = subprocess.run([sys.executable, "-c", MEASURE, *command], check=True, capture_output=True, text=True)
    return int(done.stdout) / 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--num-pictures", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = draw(folder, arguments.num_pictures)
        output = folder / "scores.parquet"
        rows = [json.loads(line) for line in table.read_text("utf-8").splitlines()]
        for times in (1, 10):
            pictures = [{"bytes": (folder / row["file"]).read_bytes(), "path": row["file"]} for row in rows]
            large = folder / f"{times}.parquet"
            schema = pa.schema(
                [("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("prompt", pa.string())]
            )
            with pq.ParquetWriter(large, schema) as writer:
                columns = {"image": pictures, "prompt": [row["prompt"] for row in rows]}
                for _ in range(times):
                    writer.write_table(pa.table(columns, schema=schema))
            print(f"{times * len(rows)} rows of embedded pictures: {memory_mib(large, output):.0f} MiB", flush=True)
        rates: dict[int, list[float]] = {1: [], 2: []}
        for number in range(arguments.rounds):
            for num_workers, found in rates.items():
                found.append(rate(table, output, num_workers))
                print(f"round {number + 1}, {num_workers} workers: {found[-1]:.1f} items a second", flush=True)
        one, two = (max(found) for found in rates.values())
        print(f"best: {one:.1f} and {two:.1f} items a second, {two / one:.2f} times as many")


if __name__ == "__main__":
    main()
