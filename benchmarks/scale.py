"""Ten million candidates: time and memory of what each stage does beside the models' own work.

    python -m benchmarks.scale                   # 1 and 10 million candidates, 8 a prompt
    python -m benchmarks.scale --millions 0.1

What models and the judge would leave behind is made up first and not counted: records of sampled pictures (without the pictures),
random answers to the 60 questions of the `image` checklist, one number of a latent. Each row runs in a process of its own,
whose peak memory is its own; that of an idle process, which has imported the libraries, is the first row.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

import mpo.stages.encode
import mpo.stages.generate
import mpo.stages.score
from mpo.data.encoded import EncodedPairs, read_pairs
from mpo.models.sampling import RECORDS
from mpo.recipe import dump_recipe, load_recipe
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import PAIRS, PROMPTS, lists_of, read_table, take_rows, write_batches, write_table
from mpo.run_folder.tensors import write_tensors
from mpo.runtime.pieces import missing_pieces
from mpo.scoring import P_YES
from mpo.stages.select import select
from mpo.training.batches import stream
from reward import load_checklist

PER_PROMPT, BLOCK = 8, 2**16
SETTINGS = (
    f"generate.num_candidates={PER_PROMPT}", "judge.questions=all", "select.granularity=subdimension", "select.margin=0.5",
    "select.num_pairs=null", "select.pairs_per_prompt=4",
)  # fmt: skip


def prepare(run: RunFolder, num_prompts: int) -> None:
    """A recipe and its prompts, of the length of the paper's."""
    run.folder.mkdir(parents=True)
    run.recipe.write_text(dump_recipe(load_recipe("quickstart", SETTINGS)), "utf-8")

    def blocks():
        for start in range(0, num_prompts, BLOCK):
            ids = range(start, min(start + BLOCK, num_prompts))
            texts = [f"prompt {i} of many: {'a picture of something in some place, ' * 2}in detail" for i in ids]
            yield {"prompt_id": pa.array(ids), "prompt": pa.array(texts)}

    write_batches(run.prompts, blocks(), PROMPTS)


# What the models would leave behind.


def record_samples(run: RunFolder) -> None:
    (sampling,) = mpo.stages.generate.work(run.folder)
    for piece in sampling.pieces:
        places = [place for batch in piece.content.places for place in batch]
        digests = [f"{place:064x}" for place in places]
        assert piece.content.record is not None
        columns = {"place": places, "sha256": digests, "latents_sha256": [None] * len(places)}
        write_table(piece.content.record, columns, RECORDS, {"piece": sampling.name(piece)})


def answer(run: RunFolder) -> None:
    """Better candidates say yes more often, as real ones do."""
    (scoring,) = mpo.stages.score.work(run.folder)
    checklist, rng = load_checklist("image"), np.random.default_rng(0)
    for piece in scoring.pieces:
        shape = (piece.num_items, len(checklist.questions))
        yes = rng.random(shape) < 0.9 + 0.09 * rng.random((shape[0], 1))
        table = {"p_yes": lists_of(np.where(yes, 0.9, 0.1))}
        metadata = {**checklist.metadata, "judge": "random", "items": ""}
        write_table(piece.content.table, table, P_YES, metadata)


def write_shards(run: RunFolder) -> None:
    run.encoded.mkdir()
    for piece in mpo.stages.encode.Encoding(run).pieces:
        shard = piece.content
        write_tensors(shard.file, {f"{i}.{shard.kind}": torch.zeros(1) for i in shard.ids})


# What is measured.


def idle(run: RunFolder) -> str:
    return "libraries"


def find_missing_samples(run: RunFolder) -> str:
    (sampling,) = mpo.stages.generate.work(run.folder)
    assert not len(missing_pieces(sampling))
    return f"{len(sampling.pieces):,} pieces, of which none is missing"


def gather_samples(run: RunFolder) -> str:
    mpo.stages.generate.gather(run.folder)
    return "candidates.parquet"


def list_chunks(run: RunFolder) -> str:
    (scoring,) = mpo.stages.score.work(run.folder)
    return f"{sum(piece.num_items for piece in scoring.pieces):,} pictures in {len(scoring.pieces):,} pieces"


def gather_scores(run: RunFolder) -> str:
    mpo.stages.score.gather(run.folder)
    return "scores.parquet"


def select_pairs(run: RunFolder) -> str:
    select(run.folder)
    return f"{len(read_pairs(run)):,} pairs"


def list_shards(run: RunFolder) -> str:
    work = mpo.stages.encode.Encoding(run)
    return f"{len(work.pieces):,} shards, {len(missing_pieces(work)):,} missing"


def load_rows(run: RunFolder) -> str:
    """All shards are looked into, then 1,000 rows are read at random places."""
    pairs, encoded = read_pairs(run), EncodedPairs(run)
    for draw in stream(0, len(pairs), 0, 1000):
        encoded.latents([int(pairs.chosen[draw.pair]), int(pairs.rejected[draw.pair])])
    return "1,000 pairs read"


def show_rows(run: RunFolder) -> str:
    """What the page reads of tables: 5,000 pairs and their answers."""
    rows = np.linspace(0, pq.read_metadata(run.pairs).num_rows - 1, 5000).astype(int).tolist()
    pairs = take_rows(run.pairs, rows, made_by="select", columns=PAIRS.names)
    wanted = np.union1d(pairs["chosen_id"].to_numpy(), pairs["rejected_id"].to_numpy()).tolist()
    take_rows(run.scores, wanted, made_by="score", columns=["p_yes", "total"])
    prompt_ids = read_table(run.candidates_table, made_by="generate", columns=["prompt_id"])
    return f"{len(pairs):,} pairs of {len(np.unique(prompt_ids['prompt_id'].to_numpy())):,} prompts"


Step = tuple[str, Callable[[RunFolder], None] | None, Callable[[RunFolder], str]]
STEPS: tuple[Step, ...] = (
    ("an idle process", None, idle),
    ("generate: what is missing", record_samples, find_missing_samples),
    ("generate: gather", None, gather_samples),
    ("score: what there is to do", None, list_chunks),
    ("score: gather", answer, gather_scores),
    ("select", None, select_pairs),
    ("encode: what is missing", None, list_shards),
    ("train: the loader", write_shards, load_rows),
    ("page: rows of tables", None, show_rows),
)


def measure(run: RunFolder, step: int) -> None:
    """Prints seconds, peak GiB and what was done."""
    start = time.perf_counter()
    words = STEPS[step][2](run)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{seconds}\n{peak}\n{words}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millions", type=float, nargs="+", default=[1.0, 10.0])
    parser.add_argument(
        "--folder", type=Path, help="where runs are made and deleted again; default: the system's temporary folder"
    )
    parser.add_argument("--measure", nargs=2, metavar=("RUN", "STEP"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(RunFolder(arguments.measure[0]), int(arguments.measure[1]))
        return
    print(
        "| candidates | what | seconds | microseconds a candidate | peak GiB | made |\n|---|---|---|---|---|---|",
        flush=True,
    )
    for millions in arguments.millions:
        num_prompts = int(millions * 1e6) // PER_PROMPT
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            run = RunFolder(Path(folder) / "run")
            prepare(run, num_prompts)
            for number, (name, before, _) in enumerate(STEPS):
                if before:
                    before(run)
                command = [sys.executable, "-m", "benchmarks.scale", "--measure", str(run.folder), str(number)]
                seconds, peak, words = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split(
                    "\n", 2
                )
                count = num_prompts * PER_PROMPT
                print(
                    f"| {count:,} | {name} | {float(seconds):.1f} | {1e6 * float(seconds) / count:.1f} | {float(peak):.2f} | {words.strip()} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
