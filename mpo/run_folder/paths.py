"""Where everything is in a run folder."""

import time
from pathlib import Path
from typing import Any

from mpo import MpoError
from mpo.run_folder.files import append_line

LORA_WEIGHTS = "pytorch_lora_weights.safetensors"  # as diffusers names them


class RunFolder:
    """Names of everything in a run directory."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.recipe = self.folder / "recipe.yaml"
        self.prompts = self.folder / "prompts.parquet"  # prompt_id, prompt
        self.heldout_prompts = self.folder / "heldout_prompts.parquet"  # the same
        self.validation_prompts = self.folder / "validation_prompts.parquet"  # the same, if the recipe validates
        self.start = self.folder / "start.safetensors"  # the LoRA that sampling and training start from, if any
        self.candidates = (
            self.folder / "candidates"
        )  # PNG, or MP4 without loss, in folders of some thousand; their latents beside them if they are kept
        self.candidates_table = (
            self.folder / "candidates.parquet"
        )  # candidate_id, prompt_id, seed, file and latents with sha256
        self.candidate_records = (
            self.folder / "generated"
        )  # while they are being made: what each piece of the work has made
        self.seen_candidates = self.folder / ".seen.parquet"  # size and time of the candidates that were found right
        self.preferences = self.folder / "preferences.parquet"  # chosen_id, rejected_id, if the recipe brings pairs
        self.imported = self.folder / "imported.jsonl"  # what stage import-pairs has read of them
        self.scores = self.folder / "scores.parquet"  # candidate_id, p_yes, answers, dimensions, total
        self.score_parts = self.folder / "scores"  # while they are being made
        self.pairs = (
            self.folder / "pairs.parquet"
        )  # pair_id, prompt_id, chosen_id, rejected_id, margin, dimension_margins
        self.selection = self.folder / "selection.json"  # counts by strategy
        self.encoded = self.folder / "encoded"  # latents and prompt embeddings, safetensors
        self.checkpoints = self.folder / "checkpoints"
        self.training_log = self.folder / "training.jsonl"  # metrics, one step a line
        self.timing_log = self.folder / "timing.jsonl"  # seconds and memory, one step a line; differs from run to run
        self.validation = self.folder / "validation"  # PNG or MP4, a folder for each validated step
        self.validation_log = self.folder / "validation.jsonl"  # mean scores, one validated step a line
        self.trained = self.folder / "trained.json"  # which step is the result, and why training ended there
        self.trackers = self.folder / "trackers"
        self.lora = self.folder / "lora"
        self.lora_weights = self.lora / LORA_WEIGHTS
        self.evaluation = self.folder / "evaluation"
        self.samples = self.evaluation / "samples"
        self.evaluation_table = self.evaluation / "evaluation.parquet"
        self.evaluation_score_parts = self.evaluation / "scores"  # while they are being made
        self.judge_tables = self.evaluation / "judges"  # what judges said that had no part in choosing, a table each
        self.summary = self.evaluation / "summary.json"
        self.report = self.evaluation / "report.html"
        self.votes = self.folder / "votes"  # what people voted, a line each: QUESTION/RATER.jsonl; belongs to no stage
        self.log = self.folder / "log.jsonl"
        self.manifests = self.folder / "manifests"  # JSON, one a stage: what it was made from, and what it made
        self.redo = self.manifests / "redo.json"  # which stage --redo has undone, until that is done again

    def require(self) -> None:
        """Raises MpoError unless the folder is a run."""
        if not self.recipe.is_file():
            raise MpoError(f"{str(self.folder)!r} is not a run: it has no recipe.yaml; name a run folder")

    def log_event(self, event: str, **fields: Any) -> None:
        """Append one line to log.jsonl."""
        append_line(self.log, {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "event": event, **fields})


def round_folder(folder: Path, number: int) -> Path:
    """A round of a run in rounds, counted from 1: a run of its own."""
    return folder / f"round-{number}"


def last_round(folder: Path, rounds: int) -> Path:
    """The run that holds the result of this many rounds; of one, the folder itself."""
    return round_folder(folder, rounds) if rounds > 1 else folder
