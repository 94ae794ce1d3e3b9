"""What a recipe will do and what it will need: counts, disk, GPU memory and time, computed and not measured.

No weights are loaded. Memory and time follow from parameters, activations and multiply-accumulates, counted on the model's
own configuration (mpo/models/costs.py). They are estimates: what allocators and kernels add is not in them.
"""

import copy
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from mpo import MpoError
from mpo.data.prompts import read_prompt_sets
from mpo.models.checks import check_model
from mpo.models.costs import build_parts, count, trained_millions
from mpo.models.families import family_of_class
from mpo.models.lora import inject_lora
from mpo.recipe import Judging, Prompts, Recipe
from mpo.run import check_settings, stages_of
from mpo.runtime.hub import OfflineError
from mpo.sizes import Size
from reward.errors import RewardError
from reward.settings import read_yaml

PEAK_TFLOPS, UTILISATION = 989.0, 0.35  # H100 SXM in bfloat16, dense (NVIDIA's data sheet); a share often reached
PNG_BYTES_PER_PIXEL = 1.6  # photographs; 3 uncompressed
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
QUANTIZED_BYTES = {"8bit": 1.0, "4bit": 0.5}  # bitsandbytes; scales and layers that stay whole are not counted
RESERVE_GB = 1.5  # CUDA's context and kernels' workspace


CountJudge = Callable[[str, Mapping[str, Any]], int]  # a judge's name and options -> its parameters; raises RewardError


@lru_cache(maxsize=1)
def model_costs() -> dict[str, dict[str, Any]]:
    """The table of published "models" and "judges", by hub id."""
    return read_yaml(resources.files("mpo").joinpath("model_costs.yaml").read_text("utf-8"))


@dataclass(frozen=True)
class Step:
    """One stage: what it does, and its estimates where they can be computed."""

    stage: str
    words: str
    disk_gb: float | None = None
    memory_gb: float | None = (
        None  # on one GPU: training's peak; other stages: weights alone, without the pictures in work
    )
    gpu_hours: float | None = None  # on one H100
    peak_words: str = ""  # when it takes that memory, if not always


def plan(recipe: Recipe, *, count_judge: CountJudge | None = None) -> tuple[list[Step], list[str]]:
    """The stages, and notes on what could not be checked or counted. Raises ValueError if the recipe cannot run.

    count_judge: None = only judges of the table are estimated.
    """
    notes: list[str] = []
    num_prompts, prompts = _prompts(recipe.prompts, notes)
    check_settings(recipe, prompts)
    try:
        check_model(recipe)
    except OfflineError as error:
        notes.append(f"not checked: the model. {error}")
    judge_gb = _judge_gb(recipe.judge, count_judge, notes)
    steps = _Steps(recipe, num_prompts, _costs(recipe, notes), judge_gb)
    return [getattr(steps, stage.replace("-", "_"))() for stage in stages_of(recipe)], notes


def _prompts(settings: Prompts, notes: list[str]) -> tuple[dict[str, int], list[str]]:
    """How many prompts each set has, and all prompts that can be read."""
    sources = {name: getattr(settings, name) for name in ("train", "heldout", "validation")}
    try:
        sets = dict(zip(sources, read_prompt_sets(settings), strict=True))
        return {name: len(prompts) for name, prompts in sets.items()}, [p for prompts in sets.values() for p in prompts]
    except OfflineError as error:
        notes.append(f"not checked: the prompts; their limits stand in for their numbers. {error}")
    return {name: (source.limit or 0) if source else 0 for name, source in sources.items()}, []


def _costs(recipe: Recipe, notes: list[str]) -> dict[str, Any] | None:
    """An entry as in model_costs.yaml, with the recipe's own LoRA: counted, or the table's if it has an equal model."""
    table = model_costs()["models"]
    try:
        parts = build_parts(recipe.model)
        same = next((entry for entry in table.values() if entry["digest"] == parts.digest()), None)
        denoiser = copy.deepcopy(parts.denoiser)  # counting puts a LoRA of its own into the other
        with torch.device("meta"):
            inject_lora(denoiser, family_of_class(parts.pipeline_class), recipe.train)
        return {**(same or count(parts)), "trained_millions": trained_millions(denoiser)}
    except OfflineError:
        entry = table.get(recipe.model.path)
        if entry is None:
            notes.append(f"no estimate of memory and time: the configuration of {recipe.model.path!r} cannot be read")
            return None
        notes.append(f"memory and time are those of {recipe.model.path} in the table of published models")
        return {**entry, "trained_millions": entry["lora_millions"] * recipe.train.rank / 16}
    except (
        RuntimeError,
        NotImplementedError,
        TypeError,
        AttributeError,
    ) as error:  # forwards that the meta device lacks
        notes.append(
            f"no estimate of memory and time: the model cannot be counted ({' '.join(str(error).split())[:200]})"
        )
        return None


def _judge_gb(judge: Judging, count_judge: CountJudge | None, notes: list[str]) -> float | None:
    """GB of the judge's weights on this machine's GPU; None = none, or unknown, which a note then says."""
    if judge.name == "measured":
        return None
    unchecked = (
        f"not checked: judge {judge.name!r}, which loads its weights when it is first asked; no estimate of its time"
    )
    if judge.name == "server":
        notes.append(f"{unchecked}; its memory is the server's")
        return None
    published = model_costs()["judges"].get(str(judge.options.get("model")))
    millions, reason = None, "its parameters are not counted"
    if count_judge:
        try:
            millions = count_judge(judge.name, judge.options) / 1e6
        except RewardError as error:
            reason = str(error)
    if millions is None and published:
        millions = published["parameters"]
        unchecked += "; its memory is that of the table of published models"
    notes.append(unchecked if millions else f"{unchecked} or memory ({reason})")
    if millions is None:
        return None
    dtype = str(judge.options.get("dtype")).removeprefix("torch.")
    width = QUANTIZED_BYTES.get(str(judge.options.get("quantization")), BYTES.get(dtype, 2))  # "auto": mostly bfloat16
    return millions * width / 1e3


def required_disk(steps: list[Step], folder: Path) -> tuple[float, float]:
    """GB that the run will take, and GB that are free on the disk of `folder`."""
    existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    return sum(step.disk_gb or 0 for step in steps), shutil.disk_usage(existing).free / 1e9


class _Steps:
    """One method a stage."""

    def __init__(self, recipe: Recipe, num_prompts: dict[str, int], known: dict | None, judge_gb: float | None):
        self.recipe, self.known, self.judge_gb = recipe, known, judge_gb
        self.num_train, self.num_heldout, self.num_validation = num_prompts.values()
        self.bytes = BYTES[recipe.model.dtype]
        sizes = recipe.model.sizes or (Size(*((known["size"],) * 2)) if known else Size(64, 64),)
        self.pixels = sum(size.num_pixels for size in sizes) / len(sizes)
        self.scale = self.pixels / known["size"] ** 2 if known else 1.0

    def _hours(self, tmac: float) -> float:
        return 2 * tmac / (PEAK_TFLOPS * UTILISATION) / 3600

    def _sampling(self, count: int, num_steps: int, guidance: float) -> tuple[float | None, float | None]:
        """Memory and hours of `count` pictures. Guidance takes a second forward a step, unless it is distilled."""
        if self.known is None:
            return None, None
        forwards = 1 if guidance <= 1 or "Flux" in self.known["pipeline"] else 2
        tmac = self.known["tmac"]
        each = self.scale * (num_steps * forwards * tmac["denoiser"] + tmac["vae_decode"]) + tmac["text"]
        return sum(self.known["parameters"].values()) * self.bytes / 1e3 + RESERVE_GB, self._hours(count * each)

    def generate(self) -> Step:
        g = self.recipe.generate
        assert g is not None
        count = self.num_train * g.num_candidates
        memory, hours = self._sampling(count, g.num_inference_steps, g.guidance_scale)
        words = f"{count} candidates: {self.num_train} prompts x {g.num_candidates}, {g.num_inference_steps} steps, guidance {g.guidance_scale:g}"
        return Step("generate", words, count * self.pixels * PNG_BYTES_PER_PIXEL / 1e9, memory, hours)

    def import_pairs(self) -> Step:
        p = self.recipe.preferences
        assert p is not None
        words = f"{p.limit or 'all'} pairs of {p.path} ({p.layout})"
        return Step("import-pairs", words, 2 * p.limit * self.pixels * PNG_BYTES_PER_PIXEL / 1e9 if p.limit else None)

    def score(self) -> Step:
        words = f"judge {self.recipe.judge.name}, checklist {self.recipe.judge.checklist}"
        return Step("score", words, memory_gb=self.judge_gb and self.judge_gb + RESERVE_GB)

    def select(self) -> Step:
        s = self.recipe.select
        kept = f"at most {s.num_pairs} pairs" if s.num_pairs else "all pairs"
        per_prompt = f", at most {s.pairs_per_prompt} a prompt" if s.pairs_per_prompt else ""
        return Step("select", f"{s.strategy}, margin {s.margin:g}: {kept}{per_prompt}")

    def _num_pairs(self) -> int | None:
        """An upper bound of the pairs that training sees."""
        s, p, t = self.recipe.select, self.recipe.preferences, self.recipe.train
        seen = t.num_steps * t.batch_size
        bounds = [n for n in (s.num_pairs, p.limit if p else None, seen) if n]
        return min(bounds)

    def encode(self) -> Step:
        words = "latents and prompt embeddings of the selected pairs"
        pairs = self._num_pairs()
        if self.known is None or pairs is None:
            return Step("encode", words)
        pictures = (
            min(2 * pairs, self.num_train * self.recipe.generate.num_candidates) if self.recipe.generate else 2 * pairs
        )
        prompts = min(pairs, self.num_train or pairs)
        values, tmac, parameters = self.known["encoded_values"], self.known["tmac"], self.known["parameters"]
        size = (pictures * values["picture"] * self.scale + prompts * values["prompt"]) * self.bytes / 1e9
        memory = (parameters["vae"] + parameters["text_encoders"]) * self.bytes / 1e3 + RESERVE_GB
        hours = self._hours(pictures * tmac["vae_encode"] * self.scale + prompts * tmac["text"])
        return Step("encode", f"{words}: up to {pictures} pictures, {prompts} prompts", size, memory, hours)

    def train(self) -> Step:
        t, v = self.recipe.train, self.recipe.validation
        words = f"{t.num_steps} steps of {t.batch_size} pairs, {t.objective}, LoRA rank {t.rank}, beta {t.beta:g}, learning rate {t.learning_rate:g}, {t.optimizer}"
        if v:
            words += f"; validated every {v.interval_steps} steps on {self.num_validation} prompts"
        if self.known is None:
            return Step("train", words)
        parameters, activations = self.known["parameters"], self.known["activations_gb"]
        lora = self.known["trained_millions"]
        held = parameters["denoiser"] + parameters["vae"] + (parameters["text_encoders"] if v else 0)
        moments = 2 if t.optimizer == "AdamW8bit" else 8
        kept = activations["checkpointed" if t.gradient_checkpointing else "plain"] * self.scale
        if self.bytes == 4 and t.mixed_precision == "no":
            kept *= 2
        micro = t.micro_batch_size or t.batch_size
        memory = (
            (held * self.bytes + lora * (4 + 4 + moments + (4 if t.ema_decay else 0))) / 1e3
            + 2 * micro * kept
            + RESERVE_GB
        )
        judging = held * self.bytes / 1e3 + (self.judge_gb or 0) + RESERVE_GB if v else 0.0
        peak = f" (when the judge validates; else {memory:.0f} GB)" if judging > memory else ""
        # A forward and, since weights are frozen, a backward of about its size; one more if activations are recomputed.
        forwards = 2 + t.gradient_checkpointing + (t.objective != "mapo")
        tmac = t.num_steps * t.batch_size * 2 * forwards * self.known["tmac"]["denoiser"] * self.scale
        hours = self._hours(tmac)
        if v:
            num_validations = 1 + -(-t.num_steps // v.interval_steps)
            _, each = self._sampling(self.num_validation * v.num_seeds, v.num_inference_steps, v.guidance_scale)
            hours += num_validations * (each or 0)
        checkpoints = -(-t.num_steps // t.checkpoint_interval_steps)
        disk = checkpoints * lora * (4 + moments + (4 if t.ema_decay else 0)) / 1e3
        return Step("train", words, disk, max(memory, judging), hours, peak)

    def evaluate(self) -> Step:
        e = self.recipe.evaluate
        count = 2 * self.num_heldout * e.num_seeds
        memory, hours = self._sampling(count, e.num_inference_steps, e.guidance_scale)
        words = f"{count} pictures: {self.num_heldout} held-out prompts x {e.num_seeds} seeds x base and tuned"
        return Step("evaluate", words, count * self.pixels * PNG_BYTES_PER_PIXEL / 1e9, memory, hours)

    def export(self) -> Step:
        return Step("export", "lora/: weights that stock libraries load, and a model card")

    def report(self) -> Step:
        return Step("report", "evaluation/report.html")


def figure(value: float) -> str:
    """Two significant digits, in full."""
    return f"{float(f'{value:.2g}'):g}"


def describe(recipe: Recipe, folder: Path, *, count_judge: CountJudge | None = None) -> str:
    """The plan as text, with sums. Raises MpoError if the disk is too small, with the plan before the message."""
    steps, notes = plan(recipe, count_judge=count_judge)
    lines = []
    for step in steps:
        lines.append(f"{step.stage:<9} {step.words}")
        figures = [
            f"disk {figure(step.disk_gb)} GB" if step.disk_gb is not None else "",
            f"GPU memory {'about' if step.stage == 'train' else 'above'} {step.memory_gb:.0f} GB{step.peak_words}"
            if step.memory_gb is not None
            else "",
            f"about {figure(step.gpu_hours)} H100-hours" if step.gpu_hours is not None else "",
        ]
        if any(figures):
            lines.append(f"{'':<9} {', '.join(figure for figure in figures if figure)}")
    needed, free = required_disk(steps, folder)
    hours = [step.gpu_hours for step in steps if step.gpu_hours is not None]
    lines.append(f"disk      about {figure(needed)} GB needed in {folder}, {free:.0f} GB free")
    if hours:
        lines.append(
            f"sum       about {figure(sum(hours))} H100-hours without the judge; memory and time computed, not measured, at {UTILISATION:.0%} of {PEAK_TFLOPS:.0f} TFLOP/s"
        )
    lines += [f"note      {note}" for note in notes]
    if needed > free:
        raise MpoError(
            f"{chr(10).join(lines)}\n--output={str(folder)!r}: the run needs about {figure(needed)} GB and {figure(free)} GB are free; use another disk"
        )
    return "\n".join(lines)


def claims(recipe: Recipe) -> list[str]:
    """The lines in which a shipped recipe's head states its needs."""
    steps, _ = plan(recipe)
    peak = {step.stage: step.memory_gb for step in steps if step.memory_gb is not None}
    hours = {step.stage: step.gpu_hours for step in steps if step.gpu_hours is not None}
    sampling = max(peak.get("generate", 0), peak.get("evaluate", 0))
    when = next(step.peak_words for step in steps if step.stage == "train")
    first = f"Computed, not measured: about {peak['train']:.0f} GB of GPU memory in training{when}, above {sampling:.0f} GB in sampling,"
    longest = ", ".join(
        f"{stage} {figure(value)}" for stage, value in hours.items() if value > 0.01 * sum(hours.values())
    )
    return [
        first,
        f"{figure(sum(hours.values()))} H100-hours without the judge ({longest}), {figure(sum(s.disk_gb or 0 for s in steps))} GB of disk.",
    ]
