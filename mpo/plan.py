"""What a recipe will do and what it will need: counts, disk, GPU memory and time, computed and not measured.

No weights are loaded. Memory and time follow from parameters, activations and multiply-accumulates, counted on the model's
own configuration (mpo/models/costs.py), at the sizes of the recipe: memory at the largest, time over all. They are estimates:
what allocators and kernels add is not in them.
"""

import copy
import json
import math
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from mpo import MpoError
from mpo.data.prompts import read_prompt_sets
from mpo.models.checks import check_medium, check_model
from mpo.models.costs import (
    RANK,
    autoencoder_gb,
    autoencoder_tmac,
    build_parts,
    count,
    denoiser_tmac,
    ratios_of,
    trained_millions,
)
from mpo.models.families import family_of_class
from mpo.models.guidance import guided_share
from mpo.models.loading import config_source
from mpo.models.lora import inject_lora
from mpo.recipe import Prompts, Recipe
from mpo.run import check_settings, stages_of
from mpo.runtime.hub import OfflineError
from mpo.sizes import Size, parse_size
from mpo.stages.encode import BATCH, BATCH_PIXELS
from reward.errors import RewardError
from reward.judges.options import OPTIONS
from reward.judging import Judging
from reward.settings import read_yaml

PEAK_TFLOPS, UTILISATION = 989.0, 0.35  # H100 SXM in bfloat16, dense (NVIDIA's data sheet); a share often reached
# Of files without loss; 3 uncompressed. Pictures: photographs as PNG. Clips: photographs under a moving camera, 384x256, as
# RGB H.264 took 0.5 to 1.0, and 1.1 to 1.3 with noise of one level in 255.
BYTES_PER_PIXEL = {"image": 1.6, "video": 1.2}
GPUS_GB = (24, 48, 80)  # as they are sold; they hold a few percent more, which fragments of the allocator take
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
    memory_gb: float | None = None  # on one GPU, at the peak; of a judge: weights alone, without what it looks at
    gpu_hours: float | None = None  # on one H100
    peak_words: str = ""  # when it takes that memory, if not always


Change = tuple[str, str, Any]  # a section, its field, the value


@dataclass(frozen=True)
class Fitting:
    """Whether a recipe fits a memory of a size."""

    size_gb: float
    changes: tuple[Change, ...]  # that are needed; () = none
    steps: list[Step]  # with the changes
    is_enough: bool  # whether the recipe fits with them
    words: str


@dataclass(frozen=True)
class Plan:
    """What `plan` finds."""

    steps: list[Step]
    notes: list[str]  # what could not be checked or counted
    fittings: list[Fitting]  # for each size of GPU; empty if unknown

    @property
    def fits(self) -> list[str]:
        """A line for each size of GPU: whether the recipe fits, or what to change."""
        return [fitting.words for fitting in self.fittings]


def plan(
    recipe: Recipe,
    *,
    count_judge: CountJudge | None = None,
    sizes_gb: Sequence[float] = GPUS_GB,
    without: Collection[str] = (),
) -> Plan:
    """The stages with their needs. Raises ValueError if the recipe cannot run.

    count_judge: None = only judges of the table are estimated. sizes_gb: memories to fit into. without: fields of
    LESS_MEMORY that are not to be changed for that.
    """
    notes: list[str] = []
    with suppress(OfflineError):  # of which check_model makes a note
        check_medium(recipe)
    num_prompts, prompts = _prompts(recipe.prompts, notes)
    check_settings(recipe, prompts)
    try:
        check_model(recipe)
    except OfflineError as error:
        notes.append(f"not checked: the model. {error}")
    judges_gb = [_judge_gb(judging, count_judge, notes) for judging in recipe.judge]
    others_gb = [_judge_gb(judging, count_judge, notes) or 0.0 for judging in recipe.evaluate.judges]
    known = _costs(recipe, notes)

    def steps_of(changed: Recipe) -> list[Step]:
        steps = _Steps(changed, num_prompts, known, _quantized_gb(changed, recipe, judges_gb), max([0.0, *others_gb]))
        return [getattr(steps, stage.replace("-", "_"))() for stage in stages_of(changed)]

    return Plan(steps_of(recipe), notes, fit(recipe, steps_of, sizes_gb, without) if known else [])


def plan_from_table(recipe: Recipe, sizes_gb: Sequence[float]) -> Plan:
    """The plan of a recipe whose model and judges are in the table of published models, of which nothing is read or checked.

    Prompts count by their limits. Raises KeyError for another model.
    """
    notes: list[str] = []
    known = {**(entry := model_costs()["models"][recipe.model.path]), "trained_millions": _lora_millions(entry, recipe)}
    sources = (recipe.prompts.train, recipe.prompts.heldout, recipe.prompts.validation)
    num_prompts = {str(k): (source.limit or 0) if source else 0 for k, source in enumerate(sources)}
    judges_gb = [_judge_gb(judging, None, notes) for judging in recipe.judge]

    def steps_of(changed: Recipe) -> list[Step]:
        steps = _Steps(changed, num_prompts, known, _quantized_gb(changed, recipe, judges_gb), 0.0)
        return [getattr(steps, stage.replace("-", "_"))() for stage in stages_of(changed)]

    return Plan(steps_of(recipe), notes, fit(recipe, steps_of, sizes_gb))


def _lora_millions(entry: Mapping[str, Any], recipe: Recipe) -> float:
    """Parameters of the recipe's LoRA on the table's targets, by its rank alone."""
    return entry["lora_millions"] * recipe.train.rank / RANK


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
        largest = max(recipe.model.sizes, key=lambda size: size.num_pixels) if recipe.model.sizes else None
        return {**(same or count(parts, largest)), "trained_millions": trained_millions(denoiser)}
    except OfflineError:
        published = config_source(recipe.model)  # of one file, the hub id that diffusers recognizes in it
        entry = table.get(published)
        if entry is None:
            notes.append(f"no estimate of memory and time: the configuration of {published!r} cannot be read")
            return None
        notes.append(f"memory and time are those of {published} in the table of published models")
        return {**entry, "trained_millions": _lora_millions(entry, recipe)}
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


def _quantized_gb(changed: Recipe, recipe: Recipe, sizes_gb: Sequence[float | None]) -> float | None:
    """Memory of all judges, which are held together, as `changed` quantizes them. sizes_gb: as `recipe` has them."""
    found = []
    for new, old, size_gb in zip(changed.judge, recipe.judge, sizes_gb, strict=True):
        if size_gb is not None and new.options.get("quantization") != old.options.get("quantization"):
            dtype = str(old.options.get("dtype")).removeprefix("torch.")
            size_gb *= QUANTIZED_BYTES[new.options["quantization"]] / BYTES.get(dtype, 2)
        found.append(size_gb)
    known = [size_gb for size_gb in found if size_gb is not None]
    return sum(known) if known else None


def _can_quantize(judging: Judging) -> bool:
    return judging.name in OPTIONS and "quantization" in OPTIONS[judging.name].model_fields


# What makes a recipe need less memory, what costs least first: (a section, its field, the value, whether it may be said).
LESS_MEMORY: tuple[tuple[str, str, Any, Callable[[Recipe], bool]], ...] = (
    ("generate", "batch_size", 1, lambda r: r.generate is not None),
    ("evaluate", "batch_size", 1, lambda r: True),
    ("validation", "batch_size", 1, lambda r: r.validation is not None),
    ("model", "vae_tiling", True, lambda r: True),
    ("train", "micro_batch_size", 1, lambda r: True),
    ("train", "gradient_checkpointing", True, lambda r: True),
    ("train", "optimizer", "AdamW8bit", lambda r: r.train.optimizer == "AdamW"),
    ("judge", "options.quantization", "4bit", lambda r: any(map(_can_quantize, r.judge))),
    ("prompts", "validation", None, lambda r: r.validation is not None),  # then text encoders are not held in training
)


def fit(
    recipe: Recipe, steps_of: Callable[[Recipe], list[Step]], sizes_gb: Sequence[float], without: Collection[str] = ()
) -> list[Fitting]:
    """For each size, of the changes that make all stages fit, only those that are needed. without: as for `plan`."""

    @cache  # sizes share most sets of changes
    def planned(changes: tuple[Change, ...]) -> list[Step]:
        return steps_of(with_changes(recipe, changes))

    def peak(changes: tuple[Change, ...]) -> Step:
        return max(planned(changes), key=lambda step: step.memory_gb or 0.0)

    possible = tuple(
        (section, name, value)
        for section, name, value, allowed in LESS_MEMORY
        if f"{section}.{name}" not in without and allowed(recipe)
    )
    found = []
    for size in sizes_gb:
        needed, most = possible, peak(possible)
        if most.memory_gb is not None and most.memory_gb > size:
            settings = _settings(recipe, (c for c in possible if with_changes(recipe, [c]) != recipe))
            words = f"{size:g} GB: too small, {most.stage} takes {most.memory_gb:.0f} GB even with {settings}; give smaller model.sizes, or spread the weights over GPUs (recipes/accelerate)"
            found.append(Fitting(size, needed, planned(needed), False, words))
            continue
        for change in reversed(possible):  # what costs most goes first
            fewer = tuple(other for other in needed if other != change)
            if (peak(fewer).memory_gb or 0.0) <= size:
                needed = fewer
        words = f"{size:g} GB: {f'fits with {_settings(recipe, needed)}' if needed else 'fits'}"
        found.append(Fitting(size, needed, planned(needed), True, words))
    return found


def _settings(recipe: Recipe, changes: Iterable[Change]) -> str:
    """As `--set` takes them."""
    judges = [f"judge.{place}" for place, judging in enumerate(recipe.judge) if _can_quantize(judging)]
    places = {"judge": judges if len(recipe.judge) > 1 else ["judge"]}
    named = [
        f"{place}.{name}={json.dumps(value) if isinstance(value, bool | None) else value}"
        for section, name, value in changes
        for place in places.get(section, [section])
    ]
    return ", ".join(named).replace("prompts.validation=null", "prompts.validation=null, validation=null")


def _quantized(judging: Judging, how: str) -> Judging:
    options = {**judging.options, "quantization": how}
    return judging.model_copy(update={"options": options}) if _can_quantize(judging) else judging


def with_changes(recipe: Recipe, changes: Sequence[Change]) -> Recipe:
    for section, name, value in changes:
        old = getattr(recipe, section)
        if old is None:  # a change before this one has removed it
            continue
        if section == "judge":
            recipe = recipe.model_copy(update={"judge": tuple(_quantized(each, value) for each in old)})
            continue
        recipe = recipe.model_copy(update={section: old.model_copy(update={name: value})})
        if section == "prompts":  # both or neither
            recipe = recipe.model_copy(update={name: value})
    return recipe


class _Steps:
    """One method a stage."""

    def __init__(
        self, recipe: Recipe, num_prompts: dict[str, int], known: dict | None, judge_gb: float | None, other_gb: float
    ):
        self.recipe, self.known, self.judge_gb, self.other_gb = recipe, known, judge_gb, other_gb
        self.num_train, self.num_heldout, self.num_validation = num_prompts.values()
        self.bytes = BYTES[recipe.model.dtype]
        self.sizes = recipe.model.sizes or (parse_size(known["size"]) if known else Size(64, 64),)
        self.largest = max(self.sizes, key=lambda size: size.num_pixels)
        self.noun = "pictures" if self.largest.kind == "image" else "clips"

    def _mean(self, value: Callable[[Size], float]) -> float:
        """Over the recipe's sizes, which candidates have in turn."""
        return sum(map(value, self.sizes)) / len(self.sizes)

    def _hours(self, tmac: float) -> float:
        return 2 * tmac / (PEAK_TFLOPS * UTILISATION) / 3600

    def _disk(self, count: int) -> float:
        """GB of this many pictures or clips."""
        return count * self._mean(lambda size: size.num_pixels) * BYTES_PER_PIXEL[self.largest.kind] / 1e9

    def _weights(self, *names: str) -> float:
        """GB of the named networks."""
        assert self.known is not None
        wide = 4 if self.known["float32_vae"] else self.bytes
        return sum(self.known["parameters"][name] * (wide if name == "vae" else self.bytes) for name in names) / 1e3

    def _activations(self, name: str) -> float:
        """GB for one picture or clip of the largest size; counted in bfloat16."""
        assert self.known is not None
        area, frames = ratios_of(self.known, self.largest)
        return self.known["activations_gb"][name] * (1.0 if name == "text" else area * frames) * self.bytes / 2

    def _autoencoder(self, direction: str) -> float:
        """GB for one picture or clip of the largest size."""
        assert self.known is not None
        wide = 1.0 if self.known["float32_vae"] else self.bytes / 2
        return wide * autoencoder_gb(self.known, direction, self.largest, tiled=self.recipe.model.vae_tiling)

    def _forwards(self, guidance: float) -> int:
        """Of one step of sampling: guidance takes a second one, unless it is distilled."""
        assert self.known is not None
        return 1 if guidance <= 1 or self.known["distilled_guidance"] else 2

    def _sampling_gb(self, settings: Any) -> float:
        """Beside the weights: a batch in the denoiser, with guidance twice, or in the autoencoder."""
        each = max(self._forwards(settings.guidance_scale) * self._activations("sampling"), self._autoencoder("decode"))
        return settings.batch_size * each

    def _sampling(self, count: int, settings: Any) -> tuple[float | None, float | None]:
        """Memory and hours of `count` pictures or clips."""
        if self.known is None:
            return None, None
        known = self.known
        second = self._forwards(settings.guidance_scale) - 1
        steps = settings.num_inference_steps
        forwards = steps * (1 + second * guided_share(steps, settings.guidance_range))

        def tmac(size: Size) -> float:
            return forwards * denoiser_tmac(known, size) + autoencoder_tmac(known, "decode", size)

        memory = self._weights(*known["parameters"]) + self._sampling_gb(settings) + RESERVE_GB
        return memory, self._hours(count * (self._mean(tmac) + known["tmac"]["text"]))

    def generate(self) -> Step:
        g = self.recipe.generate
        assert g is not None
        count = self.num_train * g.num_candidates
        memory, hours = self._sampling(count, g)
        words = f"{count} candidates: {self.num_train} prompts x {g.num_candidates}, {g.num_inference_steps} steps, guidance {g.guidance_scale:g}"
        return Step("generate", words, self._disk(count), memory, hours)

    def import_pairs(self) -> Step:
        p = self.recipe.preferences
        assert p is not None
        words = f"{p.limit or 'all'} pairs of {p.path} ({p.layout})"
        return Step("import-pairs", words, self._disk(2 * p.limit) if p.limit else None)

    def score(self) -> Step:
        words = "; ".join(
            f"judge {each.name}" + (f", checklist {each.checklist}" if each.checklist else "")
            for each in self.recipe.judge
        )
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
        known = self.known
        samples = 2 * pairs
        if self.recipe.generate:
            samples = min(samples, self.num_train * self.recipe.generate.num_candidates)
        prompts = min(pairs, self.num_train or pairs)
        values = known["encoded_values"]
        latents = self._mean(lambda size: math.prod(ratios_of(known, size))) * values["sample"]
        disk = (samples * latents + prompts * values["prompt"]) * self.bytes / 1e9
        batch = max(1, min(BATCH, BATCH_PIXELS // self.largest.num_pixels))
        work = max(batch * self._autoencoder("encode"), BATCH * self._activations("text"))
        memory = self._weights("vae", "text_encoders") + work + RESERVE_GB
        each = self._mean(lambda size: autoencoder_tmac(known, "encode", size))
        hours = self._hours(samples * each + prompts * known["tmac"]["text"])
        return Step("encode", f"{words}: up to {samples} {self.noun}, {prompts} prompts", disk, memory, hours)

    def train(self) -> Step:
        t, v = self.recipe.train, self.recipe.validation
        words = f"{t.num_steps} steps of {t.batch_size} pairs, {t.objective}, LoRA rank {t.rank}, beta {t.beta:g}, learning rate {t.learning_rate:g}, {t.optimizer}"
        if v:
            words += f"; validated every {v.interval_steps} steps on {self.num_validation} prompts"
        if self.known is None:
            return Step("train", words)
        known, lora = self.known, self.known["trained_millions"]
        # Text encoders, and networks that sampling alone needs, are not loaded unless validation samples.
        weights = self._weights(*known["parameters"]) if v else self._weights("denoiser", "vae")
        moments = 2 if t.optimizer == "AdamW8bit" else 8
        weights += lora * (4 + 4 + moments + (4 if t.ema_decay else 0)) / 1e3 + RESERVE_GB
        kept = self._activations("checkpointed" if t.gradient_checkpointing else "plain")
        if t.mixed_precision != "no":
            kept *= 2 / self.bytes
        peaks = {"": weights + 2 * (t.micro_batch_size or t.batch_size) * kept}
        if v:
            peaks["when the judge validates"] = weights + (self.judge_gb or 0)
            peaks["when validation samples"] = weights + self._sampling_gb(v)
        when = max(peaks, key=lambda name: peaks[name])
        peak = f" ({when}; else {peaks['']:.0f} GB)" if when else ""
        # A forward and, since weights are frozen, a backward of about its size; one more if activations are recomputed.
        forwards = 2 + t.gradient_checkpointing + (t.objective != "mapo")
        each = self._mean(lambda size: denoiser_tmac(known, size))
        hours = self._hours(t.num_steps * t.batch_size * 2 * forwards * each)
        if v:
            num_validations = 1 + -(-t.num_steps // v.interval_steps)
            _, once = self._sampling(self.num_validation * v.num_seeds, v)
            hours += num_validations * (once or 0)
        checkpoints = -(-t.num_steps // t.checkpoint_interval_steps)
        disk = checkpoints * lora * (4 + moments + (4 if t.ema_decay else 0)) / 1e3
        return Step("train", words, disk, peaks[when], hours, peak)

    def evaluate(self) -> Step:
        e = self.recipe.evaluate
        count = 2 * self.num_heldout * e.num_seeds
        memory, hours = self._sampling(count, e)
        words = f"{count} {self.noun}: {self.num_heldout} held-out prompts x {e.num_seeds} seeds x base and tuned"
        if e.judges:
            words += f", also by {', '.join(each.name for each in e.judges)}"
        if self.other_gb:  # one after the other, when the model is no longer held
            memory = max(memory or 0.0, self.other_gb + RESERVE_GB)
        return Step("evaluate", words, self._disk(count), memory, hours)

    def export(self) -> Step:
        return Step("export", "lora/: weights that stock libraries load, and a model card")

    def report(self) -> Step:
        return Step("report", "evaluation/report.html")


def figure(value: float) -> str:
    """Two significant digits, in full."""
    return f"{float(f'{value:.2g}'):g}"


def describe(recipe: Recipe, folder: Path, *, count_judge: CountJudge | None = None) -> str:
    """The plan as text, with sums. Raises MpoError if the disk is too small, with the plan before the message."""
    found = plan(recipe, count_judge=count_judge)
    text, too_little = in_words(found, recipe, folder), lack_of_disk(found, recipe, folder)
    if too_little:
        raise MpoError(f"{text}\n{too_little}")
    return text


def lack_of_disk(found: Plan, recipe: Recipe, folder: Path) -> str:
    """What is wrong with the disk of `folder`; "" = it has room for the run."""
    needed, free = required_disk(found.steps, folder)
    needed *= recipe.rounds
    if needed <= free:
        return ""
    return f"--output={str(folder)!r}: the run needs about {figure(needed)} GB and {figure(free)} GB are free; use another disk"


def in_words(found: Plan, recipe: Recipe, folder: Path, *, memory_of: str = "GPU of") -> str:
    """A plan as text, with sums. memory_of: whose memory its fittings are about."""
    steps, lines = found.steps, []
    for step in steps:
        lines.append(f"{step.stage:<9} {step.words}")
        figures = [
            f"disk {figure(step.disk_gb)} GB" if step.disk_gb is not None else "",
            f"GPU memory {'above' if step.stage == 'score' else 'about'} {step.memory_gb:.0f} GB{step.peak_words}"
            if step.memory_gb is not None
            else "",
            f"about {figure(step.gpu_hours)} H100-hours" if step.gpu_hours is not None else "",
        ]
        if any(figures):
            lines.append(f"{'':<9} {', '.join(figure for figure in figures if figure)}")
    needed, free = required_disk(steps, folder)
    needed *= recipe.rounds
    hours = [step.gpu_hours for step in steps if step.gpu_hours is not None]
    lines.append(f"disk      about {figure(needed)} GB needed in {folder}, {free:.0f} GB free")
    if hours:
        lines.append(
            f"sum       about {figure(sum(hours))} H100-hours without the judge; memory and time computed, not measured, at {UTILISATION:.0%} of {PEAK_TFLOPS:.0f} TFLOP/s"
        )
    if recipe.rounds > 1:
        lines.append(f"rounds    {recipe.rounds}, each of which takes what is above")
    lines += [f"{memory_of:<9} {line}" for line in found.fits]
    lines += [f"note      {note}" for note in found.notes]
    return "\n".join(lines)


def claims(recipe: Recipe) -> list[str]:
    """The lines in which a shipped recipe's head states its needs."""
    found = plan(recipe)
    steps = found.steps
    peak = {step.stage: step.memory_gb for step in steps if step.memory_gb is not None}
    hours = {step.stage: step.gpu_hours for step in steps if step.gpu_hours is not None}
    sampling = max(peak.get("generate", 0), peak.get("evaluate", 0))
    when = next(step.peak_words for step in steps if step.stage == "train")
    longest = ", ".join(
        f"{stage} {figure(value)}" for stage, value in hours.items() if value > 0.01 * sum(hours.values())
    )
    return [
        f"Computed, not measured: about {peak['train']:.0f} GB of GPU memory in training{when}, {sampling:.0f} GB in sampling,",
        f"{figure(sum(hours.values()))} H100-hours without the judge ({longest}), {figure(sum(s.disk_gb or 0 for s in steps))} GB of disk.",
        *(f"A GPU of {line}." for line in found.fits),
    ]
