"""Candidates of the embedded model by several samplers, from the same first noise: how fast, and which pairs dominate among them.

    python -m benchmarks.sampling --output FOLDER                                     # ten samplers; 20 minutes of one core
    python -m benchmarks.sampling --output FOLDER --samplers DDIMScheduler:20 UniPCMultistepScheduler:8
    python -m benchmarks.sampling --output FOLDER --guidance 2 --samplers DDIMScheduler:20 DDIMScheduler:20:0:0.6

The first is what the others are compared with. Captions are of the study's `choosing` role: none is one of the quickstart's.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from benchmarks.study_arms import draw_prompts
from mpo.comparison.dominance import preferred_pairs
from mpo.models.loading import load_pipeline
from mpo.models.sampling import make_samples, samples_for
from mpo.recipe import load_recipe
from mpo.runtime.progress import set_quiet
from mpo.scoring import score_files
from reward.judging import load_reward

SAMPLERS = (
    "DDIMScheduler:20", "DDIMScheduler:12", "DDIMScheduler:10", "DPMSolverMultistepScheduler:15",
    "DPMSolverMultistepScheduler:12", "DPMSolverMultistepScheduler:10", "DPMSolverMultistepScheduler:8",
    "UniPCMultistepScheduler:10", "UniPCMultistepScheduler:8",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="a folder for the pictures")
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS), metavar="SCHEDULER:STEPS[:LOW:HIGH]")
    parser.add_argument("--guidance", type=float, default=1.0, help="with LOW:HIGH in that range of the steps alone")
    parser.add_argument("--prompts", type=int, default=64)
    arguments = parser.parse_args()
    set_quiet(True)
    recipe = load_recipe("quickstart")
    pipeline, reward = load_pipeline(recipe.model), load_reward(recipe.judge)
    captions = draw_prompts("choosing", arguments.prompts, 0)
    rows = [{"prompt_id": place, "prompt": text} for place, text in enumerate(captions)]
    assert recipe.generate is not None
    num_seeds = recipe.generate.num_candidates
    first: tuple[float, set[tuple[int, int]]] | None = None
    for sampler in arguments.samplers:
        scheduler, steps, *shares = sampler.split(":")
        changes = {"scheduler": scheduler, "num_inference_steps": int(steps), "guidance_scale": arguments.guidance}
        changes |= {"guidance_range": tuple(map(float, shares)) or None}
        settings = recipe.generate.model_copy(update=changes)
        folder = arguments.output / "-".join([scheduler, steps, *shares])
        samples = samples_for(
            rows, recipe, settings, folder=folder, purpose="candidates", seed=recipe.seed, num_seeds=num_seeds
        )
        begun = time.process_time()  # of the processor: what else the machine does counts less
        make_samples(lambda: pipeline, samples, settings, description=sampler)
        seconds = time.process_time() - begun
        scores = score_files(
            reward, [s.file for s in samples], [s.prompt for s in samples], parts=folder / "scores",
            description=f"{sampler}: score", made_by="python -m benchmarks.sampling",
        )  # fmt: skip
        found = preferred_pairs(
            scores.checklist, "dominance", np.repeat(np.arange(len(rows)), num_seeds), scores.dimensions, scores.total,
            margin=recipe.select.margin,
        )  # fmt: skip
        pairs = set(zip(found.chosen.tolist(), found.rejected.tolist(), strict=True))
        first = first or (seconds, pairs)
        row = {
            "sampler": sampler, "cpu_s": round(seconds, 1), "times_as_fast": round(first[0] / seconds, 2), "pairs": len(pairs),
            "same": len(pairs & first[1]), "turned_round": len({(b, a) for a, b in pairs} & first[1]),
            "mean": round(float(scores.total.mean()), 3),
        }  # fmt: skip
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
