"""What each stage of a recipe does, and what it needs: words, disk, memory and time."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mpo.models.costs import autoencoder_tmac, denoiser_tmac, ratios_of
from mpo.models.guidance import guided_share
from mpo.planning.memory import BYTES, RESERVE_GB, Memory
from mpo.recipe import Recipe
from mpo.run import stages_of
from mpo.sizes import Size, parse_size

PEAK_TFLOPS, UTILISATION = 989.0, 0.35  # H100 SXM in bfloat16, dense (NVIDIA's data sheet); a share often reached
TRANSFER_GB_S = (
    25.0  # to a GPU from pinned memory: PCIe 4.0 x16 has 32 by its specification, of which this is often reached
)
# Of files without loss; 3 uncompressed. Pictures: photographs as PNG. Clips: photographs under a moving camera, 384x256, as
# RGB H.264 took 0.5 to 1.0, and 1.1 to 1.3 with noise of one level in 255.
BYTES_PER_PIXEL = {"image": 1.6, "video": 1.2}


@dataclass(frozen=True)
class Step:
    """One stage: what it does, and its estimates where they can be computed."""

    stage: str
    words: str
    disk_gb: float | None = None
    memory_gb: float | None = None  # on one GPU, at the peak; of a judge: weights alone, without what it looks at
    gpu_hours: float | None = None  # on one H100
    peak_words: str = ""  # when it takes that memory, if not always


def steps_of_recipe(
    recipe: Recipe, num_prompts: dict[str, int], known: dict | None, judge_gb: float | None, other_gb: float
) -> list[Step]:
    """The stages in order. known: what the model costs; None = unknown. judge_gb, other_gb: of who chooses, and of who looks on."""
    steps = _Steps(recipe, num_prompts, known, judge_gb, other_gb)
    return [getattr(steps, stage.replace("-", "_"))() for stage in stages_of(recipe)]


class _Steps:
    """One method a stage."""

    def __init__(
        self, recipe: Recipe, num_prompts: dict[str, int], known: dict | None, judge_gb: float | None, other_gb: float
    ):
        self.recipe, self.known, self.judge_gb, self.other_gb = recipe, known, judge_gb, other_gb
        self.num_train, self.num_heldout, self.num_validation = num_prompts.values()
        self.sizes = recipe.model.sizes or (parse_size(known["size"]) if known else Size(64, 64),)
        self.largest = max(self.sizes, key=lambda size: size.num_pixels)
        self.noun = "pictures" if self.largest.kind == "image" else "clips"
        self.memory: Any = Memory(recipe, known, self.largest) if known else None

    def _mean(self, value: Callable[[Size], float]) -> float:
        """Over the recipe's sizes, which candidates have in turn."""
        return sum(map(value, self.sizes)) / len(self.sizes)

    def _hours(self, tmac: float, transfers_gb: float = 0.0) -> float:
        return (2 * tmac / (PEAK_TFLOPS * UTILISATION) + transfers_gb / TRANSFER_GB_S) / 3600

    def _disk(self, count: int) -> float:
        """GB of this many pictures or clips."""
        return count * self._mean(lambda size: size.num_pixels) * BYTES_PER_PIXEL[self.largest.kind] / 1e9

    def _sampling(self, count: int, settings: Any) -> tuple[float | None, float | None]:
        """Memory and hours of `count` pictures or clips."""
        if self.known is None:
            return None, None
        known = self.known
        second = self.memory.forwards(settings.guidance_scale) - 1
        steps = settings.num_inference_steps
        forwards = steps * (1 + second * guided_share(steps, settings.guidance_range))

        def tmac(size: Size) -> float:
            return forwards * denoiser_tmac(known, size) + autoencoder_tmac(known, "decode", size)

        work = count * (self._mean(tmac) + known["tmac"]["text"])
        calls = math.ceil(count / settings.batch_size) * settings.num_inference_steps
        return self.memory.sampling(settings) + RESERVE_GB, self._hours(work, calls * self.memory.block_transfers())

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
        disk = (samples * latents + prompts * values["prompt"]) * BYTES[self.recipe.model.dtype] / 1e9
        each = self._mean(lambda size: autoencoder_tmac(known, "encode", size))
        hours = self._hours(samples * each + prompts * known["tmac"]["text"])
        memory = self.memory.encoding() + RESERVE_GB
        return Step("encode", f"{words}: up to {samples} {self.noun}, {prompts} prompts", disk, memory, hours)

    def train(self) -> Step:
        t, v = self.recipe.train, self.recipe.validation
        words = f"{t.num_steps} steps of {t.batch_size} pairs, {t.objective}, LoRA rank {t.rank}, beta {t.beta:g}, learning rate {t.learning_rate:g}, {t.optimizer}"
        if v:
            words += f"; validated every {v.interval_steps} steps on {self.num_validation} prompts"
        if self.known is None:
            return Step("train", words)
        known, memory = self.known, self.memory
        peaks = {"": memory.step(), **memory.validation(self.judge_gb)}
        when = max(peaks, key=lambda name: peaks[name])
        most, training = (f"{peaks[name] + RESERVE_GB:.0f}" for name in (when, ""))
        peak = f" ({when}; else {training} GB)" if most != training else ""
        # A forward and, since weights are frozen, a backward of about its size; one more if activations are recomputed.
        forwards = 2 + t.gradient_checkpointing + (t.objective != "mapo")
        each = self._mean(lambda size: denoiser_tmac(known, size))
        passes = t.num_steps * t.batch_size // (t.micro_batch_size or t.batch_size) * (forwards - 1)
        work = t.num_steps * t.batch_size * 2 * forwards * each
        hours = self._hours(work, passes * memory.block_transfers())
        if v:
            num_validations = 1 + -(-t.num_steps // v.interval_steps)
            _, once = self._sampling(self.num_validation * v.num_seeds, v)
            hours += num_validations * (once or 0)
        checkpoints = -(-t.num_steps // t.checkpoint_interval_steps)
        disk = checkpoints * known["trained_millions"] * (4 + memory.moments + (4 if t.ema_decay else 0)) / 1e3
        return Step("train", words, disk, peaks[when] + RESERVE_GB, hours, peak)

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
