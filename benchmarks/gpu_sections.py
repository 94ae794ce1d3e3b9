"""What `python -m benchmarks.gpu` measures: each section a generator of rows, over models of real size with random weights.

Speed does not depend on what weights say. A model is built on the device in bfloat16 from its published configuration
(model_configs.yaml), so nothing is read from disk but code. With `small`, the same code runs on the classes at a tiny size.
"""

# B pairs; a step sees 2 B rows: the chosen, then their rejected

import gc
import importlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.model_sizes import build_spec, configs
from mpo.data.encoded import EncodedPairs, SelectedPairs
from mpo.models.acceleration import compile_network
from mpo.models.costs import Parts, conditioning_shapes, in_own_precision, own_size
from mpo.models.families import denoiser_of, find_family
from mpo.models.lora import add_lora
from mpo.models.noise import is_flow
from mpo.models.quantization import quantize
from mpo.recipe import Recipe, load_recipe
from mpo.training.batches import Batches
from mpo.training.forward import forward
from mpo.training.objectives import find_objective
from mpo.training.optimizer import build_optimizer
from mpo.training.reference_errors import ReferenceErrors
from mpo.training.setup import Training

Row = dict[str, Any]
NUM_PAIRS = 2  # in memory; two steps make an epoch
WARM_UP, TIMED = 2, 5  # steps
# Section: (hub id, what the tests build it small as).
MODELS = {
    "sdxl": ("stabilityai/stable-diffusion-xl-base-1.0", "stable_diffusion_xl"),
    "flux": ("black-forest-labs/FLUX.1-dev", "flux"),
    "cogvideox-2b": ("zai-org/CogVideoX-2b", "cogvideox_2b"),
    "wan-1.3b": ("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "wan_euler"),
}
JUDGES = {"judge-3b": "3B", "judge-7b": "7B"}
SECTIONS = ("matrix", *JUDGES, *MODELS)


class TooLargeError(Exception):
    """A model for which the device has too little memory."""


class NeedsGpuError(Exception):
    """What a CPU cannot do."""


@dataclass
class Device:
    """Where it is measured."""

    name: str  # "cuda" or "cpu"
    small: bool
    deadline_s: float  # of time.monotonic(); no row begins after it
    matrix_flops: float | None = None  # a second; None = not measured yet

    @property
    def is_cuda(self) -> bool:
        return self.name == "cuda"

    def synchronize(self) -> None:
        if self.is_cuda:
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], Any], *, warm_up: int = WARM_UP, timed: int = TIMED) -> float:
        """The median of some calls after others; fewer once the deadline has passed, at least one of each."""
        warm_up, timed = (1, 2) if self.small else (warm_up, timed)
        taken: list[float] = []
        for _ in range(warm_up + timed):
            if time.monotonic() > self.deadline_s and len(taken) > 1:
                break
            start = time.perf_counter()
            work()
            self.synchronize()
            taken.append(time.perf_counter() - start)
        return median(taken[min(warm_up, len(taken) - 1) :])

    def share(self, flops: float, seconds: float) -> float | None:
        return flops / seconds / self.matrix_flops if self.matrix_flops else None


def measure(section: str, device: Device) -> Iterator[Row]:
    """The rows of a section, each as soon as it is measured. A row that fails says so, and the next is tried."""
    if section == "matrix":
        yield matrix(device)
    elif section in JUDGES:
        yield from judge(JUDGES[section], device)
    else:
        yield from diffusion(section, device)


def matrix(device: Device) -> Row:
    """What large products of bfloat16 matrices reach: all other rates are shares of it."""
    side = 256 if device.small else 8192
    dtype = torch.bfloat16 if device.is_cuda else torch.float32
    a, b = (torch.randn(side, side, device=device.name, dtype=dtype) for _ in range(2))
    seconds = device.seconds(lambda: a @ b, warm_up=5, timed=20)
    return {"row": "matrix product", "flops_per_s": 2 * side**3 / seconds, "side": side, "dtype": str(dtype)}


def judge(size: str, device: Device) -> Iterator[Row]:
    """Qwen2.5-VL: the checklist's 60 questions in one packed pass, beside one by one."""
    from benchmarks import judge as benchmark

    if not device.small:
        billions = {"3B": 3.8, "7B": 8.3}[size]
        require(device, 2 * billions + 6)
    reset_peak(device)
    with default_dtype(torch.bfloat16 if device.is_cuda else torch.float32):
        asked = benchmark.build("tiny" if device.small else size, device.name)
    sizes = ((20, 6),) if device.small else ((784, 60), (1500, 60))
    for prefix, questions in sizes:
        if is_late(device):
            return
        figures = benchmark.row(asked, prefix, questions, repeats=2)
        rate = benchmark.matrix_rate(asked, figures["prefix_tokens"], figures["question_tokens"], figures["packed_s"])
        yield {
            "row": f"{questions} questions behind {figures['prefix_tokens']} tokens",
            "questions_per_s": figures["packed_questions_per_s"],
            "pictures_per_s": 1 / figures["packed_s"],
            "times_one_by_one": figures["packed_speedup"],
            "times_at_floor": figures["speedup_at_floor"],
            "share_of_matrix_rate": device.share(rate * figures["packed_s"], figures["packed_s"]),
            "peak_gib": peak_gib(device),
        }  # fmt: skip
    prefix, questions = sizes[-1]
    image, checklist = benchmark.picture(prefix), benchmark.checklist(questions)
    yield kernels(lambda: benchmark.ask(asked, "packed", image, checklist), device)


# A diffusion model: sampling, and a training step in several forms.


@dataclass
class Subject:
    """A pipeline on the device, and what a step of it sees."""

    pipeline: Any
    encoders: Sequence[Callable[[], Any]]  # each reads one prompt
    pixels: Tensor  # (2, *F, 3, H, W): a pair
    conditioning: dict[str, Tensor]  # of one prompt
    guidance: float | None  # of networks with distilled guidance


def build_subject(section: str, device: Device) -> Subject:
    """Raises TooLargeError if the memory is too small for its weights."""
    hub_id, small_name = MODELS[section]
    return small_subject(small_name) if device.small else real_subject(configs()[hub_id], device)


@torch.no_grad()
def small_subject(name: str) -> Subject:
    from tests.helpers.pipelines import SMALL, build
    from tests.helpers.pipelines import size_of as nearest
    from tests.helpers.video_pipelines import VIDEO_BUILDERS, build_video

    pipeline = build(name) if name in SMALL else build_video(name)
    size = nearest(pipeline) if name in SMALL else VIDEO_BUILDERS[name].sizes[0]
    family, prompts = find_family(pipeline), ["a red circle on a white background"]
    frames = () if size.frames is None else (size.frames,)
    return Subject(
        pipeline, [lambda: family.encode_prompts(pipeline, prompts)], torch.rand(2, *frames, 3, size.height, size.width),
        family.encode_prompts(pipeline, prompts), 3.5 if name == "flux" else None,
    )  # fmt: skip


def real_subject(spec: dict[str, Any], device: Device) -> Subject:
    on_meta = Parts(
        spec["pipeline"], build_spec(spec["denoiser"]), build_spec(spec["vae"]),
        tuple(build_spec(each) for each in spec.get("text_encoders", ())), (), spec.get("options", {}),
    )  # fmt: skip
    size = own_size(on_meta)
    if "size" in spec:
        from mpo.sizes import parse_size

        size = parse_size(spec["size"])
    networks = (on_meta.denoiser, on_meta.vae, *on_meta.text_encoders)
    require(device, 2 * sum(p.numel() for network in networks for p in network.parameters()) / 1e9 + 8)
    with default_dtype(torch.bfloat16), torch.device(device.name):
        parts = Parts(
            spec["pipeline"], on_device(spec["denoiser"]), on_device(spec["vae"]),
            tuple(map(on_device, spec.get("text_encoders", ()))), (), spec.get("options", {}),
        )  # fmt: skip
    in_own_precision(parts)
    pipeline = parts.pipeline()
    pipeline.scheduler = scheduler_of(spec["pipeline"])
    shapes = conditioning_shapes(on_meta)
    conditioning: dict[str, Tensor] = {
        name: torch.randn(1, *shape, device=device.name, dtype=torch.bfloat16) for name, shape in shapes.items()
    }
    frames = () if size.frames is None else (size.frames,)
    pixels = torch.rand(2, *frames, 3, size.height, size.width, device=device.name)
    distilled = bool(getattr(parts.denoiser.config, "guidance_embeds", False))
    return Subject(
        pipeline, [reader(e, device) for e in parts.text_encoders], pixels, conditioning, 3.5 if distilled else None
    )


def on_device(spec: dict[str, Any]) -> Any:
    """A network with random weights, on torch's default device in its default precision."""
    import diffusers
    import transformers

    if "config" in spec:
        cls = getattr(transformers, spec["class"])
        return cls(cls.config_class(**spec["config"])).eval().requires_grad_(False)
    cls = getattr(diffusers, spec["class"])
    return cls.from_config({k: v for k, v in spec.items() if k != "class"}).eval().requires_grad_(False)


def scheduler_of(pipeline_class: str) -> Any:
    import diffusers

    if pipeline_class == "StableDiffusionXLPipeline":
        return diffusers.DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False
        )
    if pipeline_class == "CogVideoXPipeline":
        return diffusers.CogVideoXDDIMScheduler(
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            timestep_spacing="trailing",
            snr_shift_scale=3.0,
        )
    return diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)


def reader(encoder: Any, device: Device) -> Callable[[], Any]:
    """One prompt through a text encoder: CLIP's 77 tokens, T5's 226 to 512."""
    num_tokens = getattr(encoder.config, "max_position_embeddings", None) or 512
    ids = torch.zeros(1, min(num_tokens, 512), dtype=torch.long, device=device.name)
    return lambda: encoder(input_ids=ids)


class InMemory(EncodedPairs):
    """Encoded pairs without files: candidate 2 k is chosen over 2 k + 1."""

    def __init__(self, latents: Tensor, conditioning: dict[str, Tensor]):
        self.held, self.of_prompt = latents, conditioning

    def shape(self, candidate_id: int) -> tuple[int, ...]:
        return tuple(self.held.shape[1:])

    def latents(self, candidate_ids: Sequence[int]) -> Tensor:
        return self.held[[i % 2 for i in candidate_ids]]

    def conditioning(self, prompt_ids: Sequence[int]) -> dict[str, Tensor]:
        return {name: torch.cat([value] * len(prompt_ids)) for name, value in self.of_prompt.items()}

    def fps(self, candidate_ids: Sequence[int]) -> Tensor | None:
        return None  # of these models none is told


def diffusion(section: str, device: Device) -> Iterator[Row]:
    """Sampling steps, then DPO steps: the usual script's, from encoded data, with the reference kept, compiled, quantized."""
    subject = build_subject(section, device)
    found: dict[str, Any] = {}
    yield from in_full_precision(subject, device, found)
    del subject
    for kind in ("fp8", "8bit", "4bit") if found else ():
        yield attempt(f"{kind} weights", lambda kind=kind: quantized(section, kind, device=device, **found), device)


def in_full_precision(subject: Subject, device: Device, found: dict[str, Any]) -> Iterator[Row]:
    """In bfloat16, that is. found: is given what other precisions need, the latents and the step's work."""
    reset_peak(device)
    pipeline, family = subject.pipeline, find_family(subject.pipeline)
    with torch.no_grad():
        latents = family.encode_media(pipeline, subject.pixels)
    if device.is_cuda:
        latents = latents.to(torch.bfloat16)
    yield attempt("sampling", lambda: sampling(subject, latents, device), device)
    recipe = recipe_of(subject)
    t = training_of(subject, recipe, latents, device)

    def encode() -> None:
        with torch.no_grad():
            family.encode_media(pipeline, subject.pixels)
            for read in subject.encoders:
                read()

    with FlopCounterMode(display=False) as counter:
        outcome = attempt("first step", lambda: {"ok": step(t, 0)}, device)
    if "error" in outcome and not t.recipe.train.gradient_checkpointing:
        denoiser_of(pipeline).enable_gradient_checkpointing()
        with FlopCounterMode(display=False) as counter:
            outcome = attempt("first step", lambda: {"ok": step(t, 0)}, device)
    if "error" in outcome:
        yield outcome
        return
    flops = counter.get_total_flops()
    found |= {"latents": latents, "flops": flops}
    checkpointed = bool(getattr(denoiser_of(pipeline), "is_gradient_checkpointing", False))
    named = "encoded data, gradient checkpointing" if checkpointed else "encoded data"
    yield attempt("usual", lambda: timed(t, device, flops, before=encode), device)
    pipeline.vae = None  # only the usual script needs them in training
    for name in [name for name in pipeline.components if name.startswith("text_encoder")]:
        setattr(pipeline, name, None)
    subject.encoders = ()
    yield attempt(named, lambda: timed(t, device, flops), device)
    yield attempt("kernels", lambda: kernels(lambda: step(t, 0), device), device)
    with tempfile.TemporaryDirectory() as folder:
        kept = replace(t, cache=ReferenceErrors(folder, {"of": "this benchmark"}))
        yield attempt("reference kept", lambda: timed(kept, device, flops), device)
    if not device.small:
        compile_network(denoiser_of(pipeline))
        yield attempt("encoded data, compiled", lambda: timed(t, device, flops), device)


def recipe_of(subject: Subject) -> Recipe:
    settings = [
        "train.batch_size=1",
        "train.safeguard=null",
        "train.beta=2000",
        "train.num_draws=1",
        "train.lora_targets=null",
    ]
    return load_recipe("quickstart", settings)


def training_of(subject: Subject, recipe: Recipe, latents: Tensor, device: Device) -> Training:
    """The project's own training, on pairs in memory."""
    pipeline, family = subject.pipeline, find_family(subject.pipeline)
    denoiser = add_lora(pipeline, recipe.train).train()
    accelerator = Accelerator(cpu=not device.is_cuda, mixed_precision="bf16" if device.is_cuda else "no")
    parameters = [p for p in denoiser.parameters() if p.requires_grad]
    places = np.arange(NUM_PAIRS)
    pairs = SelectedPairs(places, 2 * places, 2 * places + 1)
    encoded = InMemory(latents, subject.conditioning)
    nothing: Any = None
    return Training(
        run=nothing, recipe=recipe, accelerator=accelerator, pipeline=pipeline, family=family, denoiser=denoiser,
        parameters=parameters, optimizer=build_optimizer(parameters, recipe.train), schedule=None, ema=None,
        batches=Batches(pipeline, family, pairs, encoded, recipe.train, accelerator.device, subject.guidance),
        objective=find_objective("dpo", beta=recipe.train.beta, label_smoothing=0.0), cache=None, micro_batch_size=1,
        lockstep=False,
    )  # fmt: skip


def step(t: Training, number: int) -> float:
    """One step as `mpo.stages.train.train` takes it, without its logs; returns the loss."""
    draws = t.batches.of_step(number)
    outcome, _ = forward(t, draws, draws, beta=t.recipe.train.beta)
    loss = outcome.loss.mean()
    t.accelerator.backward(loss)
    t.accelerator.clip_grad_norm_(t.parameters, t.recipe.train.max_grad_norm)
    t.optimizer.step()
    t.optimizer.zero_grad()
    return float(loss.detach())


def timed(t: Training, device: Device, flops: float, *, before: Callable[[], None] = lambda: None) -> Row:
    reset_peak(device)
    numbers = iter(range(10**6))

    def one() -> None:
        before()
        step(t, next(numbers))

    seconds = device.seconds(one)
    return {
        "steps_per_s": 1 / seconds, "seconds_per_step": seconds, "peak_gib": peak_gib(device), "tflop": flops / 1e12,
        # Of the usual step's network work, so that what is spared shows as a higher share.
        "share_of_matrix_rate": device.share(flops, seconds),
    }  # fmt: skip


@torch.no_grad()
def sampling(subject: Subject, latents: Tensor, device: Device) -> Row:
    """One denoising step of a sample with guidance: two rows, or one where guidance is distilled."""
    pipeline, family = subject.pipeline, find_family(subject.pipeline)
    rows = 1 if subject.guidance else 2
    noisy = torch.cat([latents[:1]] * rows)
    timesteps = torch.full((rows,), 500 if not is_flow(pipeline.scheduler) else 500.0, device=noisy.device)
    conditioning = {name: torch.cat([value] * rows) for name, value in subject.conditioning.items()}
    if subject.guidance:
        conditioning["guidance"] = torch.full((rows,), subject.guidance, device=noisy.device)

    def one() -> None:
        family.predict(pipeline, noisy, timesteps, conditioning)

    with FlopCounterMode(display=False) as counter:
        one()
    seconds = device.seconds(one)
    flops = counter.get_total_flops()
    return {
        "steps_per_s": 1 / seconds, "seconds_per_step": seconds, "peak_gib": peak_gib(device), "tflop": flops / 1e12,
        "share_of_matrix_rate": device.share(flops, seconds), "rows": rows,
    }  # fmt: skip


def quantized(section: str, kind: str, *, latents: Tensor, flops: float, device: Device) -> Row:
    """A step from encoded data with the denoiser's weights in fewer bits, LoRA on top: bitsandbytes' as recipes have it, or torchao's fp8."""
    if kind == "fp8" and not device.is_cuda:
        raise NeedsGpuError("for GPUs")
    torchao: Any = importlib.import_module("torchao.quantization") if kind == "fp8" else None
    subject = build_subject(section, device)
    subject.pipeline.vae = None
    network = denoiser_of(subject.pipeline)
    if torchao is not None:
        torchao.quantize_(network, torchao.Float8WeightOnlyConfig())
    else:
        quantize(network, kind, device.name)
    return timed(training_of(subject, recipe_of(subject), latents, device), device, flops)


def kernels(work: Callable[[], Any], device: Device, *, count: int = 10) -> Row:
    """Where the time of one call goes: the operators with the most of the device's own time."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.is_cuda else [])]
    work()
    with profile(activities=activities) as seen:
        work()
        device.synchronize()
    of = "self_device_time_total" if device.is_cuda else "self_cpu_time_total"
    events = sorted(seen.key_averages(), key=lambda event: -getattr(event, of))
    total = sum(getattr(event, of) for event in events) or 1
    top = [{"name": e.key, "share": getattr(e, of) / total, "calls": e.count} for e in events[:count]]
    return {"row": "kernels", "kernels": top}


# Rows that fail, time and memory.


def attempt(row: str, work: Callable[[], Row], device: Device) -> Row:
    """The row; or why there is none."""
    if is_late(device):
        return {"row": row, "skipped": "the section's time was over"}
    try:
        return {"row": row, **work()}
    except ImportError as error:
        return {"row": row, "skipped": f"{error.name or error} is not installed"}
    except (TooLargeError, NeedsGpuError) as error:
        return {"row": row, "skipped": str(error)}
    except Exception as error:  # what a driver or kernel raises is part of the result
        return {
            "row": row,
            "error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300],
        }
    finally:
        gc.collect()
        if device.is_cuda:
            torch.cuda.empty_cache()


def is_late(device: Device) -> bool:
    return time.monotonic() > device.deadline_s


def require(device: Device, needed_gb: float) -> None:
    """Raises TooLargeError in words."""
    if device.is_cuda:
        free = torch.cuda.mem_get_info()[0] / 1e9
        if free < needed_gb:
            raise TooLargeError(f"needs about {needed_gb:.0f} GB of GPU memory, {free:.0f} are free")


def reset_peak(device: Device) -> None:
    if device.is_cuda:
        torch.cuda.reset_peak_memory_stats()


def peak_gib(device: Device) -> float | None:
    return torch.cuda.max_memory_allocated() / 2**30 if device.is_cuda else None


class default_dtype:  # noqa: N801  used as a context alone
    """torch's default precision within a block."""

    def __init__(self, dtype: torch.dtype):
        self.dtype = dtype

    def __enter__(self) -> None:
        self.before = torch.get_default_dtype()
        torch.set_default_dtype(self.dtype)

    def __exit__(self, *_: Any) -> None:
        torch.set_default_dtype(self.before)
