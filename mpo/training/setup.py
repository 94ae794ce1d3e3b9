"""Everything that training needs and no step replaces: built once, one value."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel

from mpo.data.encoded import EncodedPairs, read_pairs
from mpo.models.acceleration import set_up_acceleration
from mpo.models.checks import distilled_guidance
from mpo.models.families import Family, find_family
from mpo.models.loading import load_pipeline
from mpo.models.lora import add_lora, load_lora
from mpo.models.noise import trained_range
from mpo.models.offloading import offload_blocks
from mpo.recipe import Recipe
from mpo.run_folder.paths import RunFolder
from mpo.runtime.processes import this_device
from mpo.training.batches import Batches, micro_batch_size
from mpo.training.objectives import Objective, find_objective
from mpo.training.optimizer import build_optimizer
from mpo.training.reference_errors import ReferenceErrors, describe
from mpo.training.sharding import check_sharder, shard_frozen
from mpo.training.trackers import start_trackers


@dataclass(frozen=True)
class Training:
    """A run's training: the network with its LoRA, what updates it, the data, the objective."""

    run: RunFolder
    recipe: Recipe
    accelerator: Accelerator
    pipeline: Any  # frozen, but for the LoRA
    family: Family
    denoiser: Any
    parameters: Sequence[torch.nn.Parameter]  # the LoRA's
    optimizer: Any
    schedule: Any  # of the learning rate
    ema: EMAModel | None  # the LoRA's running mean
    batches: Batches
    objective: Objective
    cache: ReferenceErrors | None
    micro_batch_size: int  # pairs that a process holds at a time
    lockstep: bool  # whether all processes must run the same number of forwards: each gathers weights from all

    @property
    def num_micro(self) -> int:
        """Micro-batches of a process in one step."""
        return self.recipe.train.batch_size // (self.micro_batch_size * self.accelerator.num_processes)


def set_up(run: RunFolder, recipe: Recipe) -> Training:
    """The pipeline frozen with a LoRA on its denoiser, the optimizer, the encoded pairs. Raises MpoError if one cannot be used."""
    this_device()  # joins the other processes
    AcceleratorState._reset_state()  # a process may train twice, at another precision
    accelerator = Accelerator(
        mixed_precision=recipe.train.mixed_precision,
        log_with=list(recipe.tracking.trackers) or None,
        project_dir=run.trackers,
    )

    # Model: the reference's errors are described before the LoRA is trained, and weights are sharded last.
    micro = micro_batch_size(recipe.train, accelerator.num_processes)
    sharder = check_sharder(recipe, micro, accelerator.num_processes)
    without = () if recipe.validation else ("text_encoders", "other_expert")
    pipeline = load_pipeline(recipe.model, without=without, device="cpu" if sharder else None)
    boundary_ratio = pipeline.config.get("boundary_ratio")
    timesteps = trained_range(recipe.train, pipeline.scheduler, recipe.model.expert, boundary_ratio)
    settings = recipe.train.model_copy(update={"timestep_range": timesteps})
    recipe = recipe.model_copy(update={"train": settings})
    denoiser = add_lora(pipeline, settings).train()
    if recipe.start:
        load_lora(denoiser, run.start)
    cache = None
    if settings.reference_cache is not None:
        cache = ReferenceErrors(run.folder / settings.reference_cache, describe(recipe, run, pipeline, denoiser))
    set_up_acceleration(denoiser, settings)
    if sharder:
        shard_frozen(pipeline, sharder, accelerator)
    offload_blocks(pipeline, recipe.model)

    # Updates. What is trained stays where the optimizer is, wherever the frozen weights wait.
    parameters = [p for p in denoiser.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.data = parameter.data.to(accelerator.device)
    optimizer = build_optimizer(parameters, settings)
    name = "constant_with_warmup" if settings.lr_schedule == "constant" else settings.lr_schedule
    schedule = get_scheduler(
        name, optimizer, num_warmup_steps=settings.warmup_steps, num_training_steps=settings.num_steps
    )
    ema = EMAModel(parameters, decay=settings.ema_decay) if settings.ema_decay else None

    # Data.
    family = find_family(pipeline)
    guidance = distilled_guidance(recipe, denoiser.config)
    batches = Batches(pipeline, family, read_pairs(run), EncodedPairs(run), settings, accelerator.device, guidance)
    start_trackers(accelerator, recipe)
    return Training(
        run=run, recipe=recipe, accelerator=accelerator, pipeline=pipeline, family=family, denoiser=denoiser,
        parameters=parameters, optimizer=accelerator.prepare(optimizer), schedule=schedule, ema=ema,
        batches=batches, objective=find_objective(settings.objective, beta=settings.beta, label_smoothing=settings.label_smoothing),
        cache=cache, micro_batch_size=micro, lockstep=sharder is not None,
    )  # fmt: skip
