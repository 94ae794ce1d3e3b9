"""Runs of the study, as they end."""

from benchmarks.study import Job
from benchmarks.study_arms import ARMS
from mpo.recipe import dump_recipe, load_recipe
from mpo.run_folder.files import write_json, write_text
from mpo.run_folder.paths import RunFolder, last_round

RATES = {"ci95": [0.4, 0.9], "tie_rate": 0.0, "loss_rate": 0.0, "num_prompts": 2, "base_mean": 0.0, "tuned_mean": 0.1}


def finish(job: Job, rate: float) -> None:
    """A run that ended with this win rate; one in rounds in its last round."""
    recipe = load_recipe(ARMS[job.arm].recipe, job.settings)
    last = RunFolder(last_round(job.run, recipe.rounds))
    last.evaluation.mkdir(parents=True)
    write_text(RunFolder(job.run).recipe, dump_recipe(recipe))
    write_json(last.summary, {"total": {**RATES, "win_rate": rate}, "dimensions": {}, "judges": [], "guards": {}})
    last.report.touch()
