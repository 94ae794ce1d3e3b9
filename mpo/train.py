"""Stage train: preference optimisation of a LoRA on the encoded pairs.

Everything random about a step comes from (seed, pair, how often the pair was seen), never from the process's
history, so that a resumed run equals an uninterrupted one.
"""

import json
import math
import netrc
import os
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from diffusers.optimization import get_scheduler
from diffusers.training_utils import compute_snr
from safetensors.torch import load_file, save_file

from mpo import MpoError
from mpo.encode import EncodedPairs
from mpo.families import find_family
from mpo.generate import derive_seed
from mpo.lora import add_lora, load_lora, lora_off, lora_state
from mpo.models import load_pipeline
from mpo.objective import denoising_error, find_objective, min_snr_weight, with_sft
from mpo.progress import track
from mpo.recipe import Recipe, Train, read_recipe
from mpo.store import Run, read_table, replacing


@dataclass(frozen=True)
class Draw:
    """One pair at one place of the training stream."""

    pair: int  # row of pairs.parquet
    repetition: int  # how often the stream had passed this pair before


def stream(seed: int, num_pairs: int, position: int, count: int) -> list[Draw]:
    """`count` draws from a place of an endless stream: one seeded permutation of the pairs after another."""
    draws = []
    for place in range(position, position + count):
        epoch, index = divmod(place, num_pairs)
        draws.append(Draw(int(_permutation(seed, epoch, num_pairs)[index]), epoch))
    return draws


_permutations: dict[tuple[int, int, int], np.ndarray] = {}


def _permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    key = (seed, epoch, size)
    if key not in _permutations:
        _permutations.clear()
        _permutations[key] = np.random.default_rng((seed, epoch)).permutation(size)
    return _permutations[key]


def draw_noise(settings: Train, draw: Draw, shape: torch.Size, num_train_timesteps: int) -> tuple[torch.Tensor, int]:
    """The noise and timestep that both of a pair share, from (seed, pair, repetition) alone."""
    generator = torch.Generator().manual_seed(derive_seed(settings.seed, draw.pair, draw.repetition))
    first, last = (round(share * num_train_timesteps) for share in settings.timestep_range)
    last = max(last, first + 1)
    if settings.timestep_sampling == "uniform":
        timestep = int(torch.randint(first, last, (), generator=generator))
    else:  # a share of the range, its logit normally distributed
        logit = settings.timestep_mean + settings.timestep_std * torch.randn((), generator=generator)
        timestep = min(int(first + torch.sigmoid(logit) * (last - first)), last - 1)
    return torch.randn(shape, generator=generator), timestep


def error_weights(scheduler: Any, timesteps: torch.Tensor, settings: Train) -> torch.Tensor:
    """(B,) weights of denoising errors at their timesteps."""
    if settings.error_weighting == "none":
        return torch.ones_like(timesteps, dtype=torch.float32)
    snr = compute_snr(scheduler, timesteps)
    return min_snr_weight(snr, gamma=settings.snr_gamma, prediction_type=scheduler.config.prediction_type)


def train(folder: str | Path) -> None:
    """pairs.parquet, encoded/ -> checkpoints/step-NNNNNN/, training.jsonl."""
    run = Run(folder)
    recipe = read_recipe(run.recipe)
    settings = recipe.train
    if checkpoint_folder(run, settings.num_steps).exists():
        return

    # Model: the pipeline frozen, a LoRA on its denoiser.
    accelerator = Accelerator(
        mixed_precision=settings.mixed_precision, log_with=list(settings.trackers) or None, project_dir=run.trackers
    )
    pipeline = load_pipeline(recipe.model)
    family = find_family(pipeline)
    denoiser = add_lora(pipeline, settings).train()
    pipeline.unet = accelerator.prepare(denoiser)
    parameters = [p for p in denoiser.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    name = "constant_with_warmup" if settings.lr_schedule == "constant" else settings.lr_schedule
    schedule = get_scheduler(
        name, optimizer, num_warmup_steps=settings.warmup_steps, num_training_steps=settings.num_steps
    )
    optimizer = accelerator.prepare(optimizer)

    # Data: encoded pairs, split over processes and micro-batches.
    pairs = read_table(run.pairs, made_by="select").to_pylist()
    encoded = EncodedPairs(run)
    micro = settings.micro_batch_size or settings.batch_size // accelerator.num_processes
    if settings.batch_size % (micro * accelerator.num_processes):
        raise MpoError(
            f"train.batch_size={settings.batch_size} is no multiple of {micro} pairs x {accelerator.num_processes} processes; change train.batch_size or train.micro_batch_size"
        )
    num_micro = settings.batch_size // (micro * accelerator.num_processes)
    objective = find_objective(settings.objective, beta=settings.beta, label_smoothing=settings.label_smoothing)
    num_train_timesteps = pipeline.scheduler.config.num_train_timesteps

    # Resume: the newest checkpoint, and the metrics up to it.
    step = _resume(run, denoiser, optimizer, schedule, accelerator)
    _start_trackers(accelerator, recipe)
    with (
        track("train", total=settings.num_steps, done=step) as advance,
        run.training_log.open("a", encoding="utf-8") as log,
    ):
        while step < settings.num_steps:
            metrics: dict[str, float] = dict.fromkeys(
                ("loss", "accuracy", "margin", "chosen_error", "rejected_error"), 0.0
            )
            for k in range(num_micro):
                position = (
                    step * settings.batch_size + (k * accelerator.num_processes + accelerator.process_index) * micro
                )
                draws = stream(settings.seed, len(pairs), position, micro)

                # Chosen and rejected in one batch, at the same noise and timestep.
                rows = [pairs[draw.pair] for draw in draws]
                latents = encoded.latents([row["chosen_id"] for row in rows] + [row["rejected_id"] for row in rows]).to(
                    accelerator.device
                )
                conditioning = {
                    k: torch.cat([v, v]).to(accelerator.device)
                    for k, v in encoded.conditioning([row["prompt_id"] for row in rows]).items()
                }
                drawn = [draw_noise(settings, draw, latents.shape[1:], num_train_timesteps) for draw in draws]
                noise = torch.stack([noise for noise, _ in drawn]).repeat(2, 1, 1, 1).to(latents)
                timesteps = torch.tensor([t for _, t in drawn], device=latents.device).repeat(2)
                noisy, target = family.add_noise(pipeline, latents, noise, timesteps)
                weights = error_weights(pipeline.scheduler, timesteps, settings)

                # Policy and reference errors: one network, the LoRA on and off.
                last = k + 1 == num_micro
                with nullcontext() if last else accelerator.no_sync(pipeline.unet):
                    with accelerator.autocast():
                        errors: tuple[torch.Tensor, ...] = ()
                        if objective.needs_reference:
                            with lora_off(denoiser):
                                prediction = family.predict(pipeline, noisy, timesteps, conditioning)
                            errors = (weights * denoising_error(prediction, target)).chunk(2)
                        prediction = family.predict(pipeline, noisy, timesteps, conditioning)
                        policy = weights * denoising_error(prediction, target)
                    outcome = objective.loss(*policy.chunk(2), *errors)
                    if settings.sft_weight:
                        outcome = with_sft(outcome, policy.chunk(2)[0], settings.sft_weight)
                    loss = outcome.loss.mean()
                    _require_finite(loss.detach(), "loss", step, rows)
                    accelerator.backward(loss / num_micro)

                chosen_error, rejected_error = policy.detach().chunk(2)
                values = (
                    loss,
                    outcome.accuracy.mean(),
                    outcome.margin.mean(),
                    chosen_error.mean(),
                    rejected_error.mean(),
                )
                for key, value in zip(metrics, values, strict=True):
                    metrics[key] += accelerator.reduce(value.detach(), "mean").item() / num_micro

            # Step: clip, refuse what is not finite, update.
            grad_norm: Any = accelerator.clip_grad_norm_(parameters, settings.max_grad_norm)
            if accelerator.scaler is None:  # a scaler skips such a step and lowers its scale
                _require_finite(
                    grad_norm,
                    "gradient norm",
                    step,
                    [
                        pairs[d.pair]
                        for d in stream(settings.seed, len(pairs), step * settings.batch_size, settings.batch_size)
                    ],
                )
            metrics |= {"grad_norm": float(grad_norm), "learning_rate": float(schedule.get_last_lr()[0])}
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            step += 1

            # Log and keep.
            if accelerator.is_main_process:
                log.write(json.dumps({"step": step, **metrics}) + "\n")
                log.flush()
                if step % settings.checkpoint_steps == 0 or step == settings.num_steps:
                    _save_checkpoint(run, step, denoiser, optimizer, schedule, accelerator)
            accelerator.log(metrics, step=step)
            advance(
                note=f"loss {metrics['loss']:.3f}  accuracy {metrics['accuracy']:.2f}  margin {metrics['margin']:.2f}"
            )
    accelerator.end_training()


def _require_finite(value: torch.Tensor, what: str, step: int, rows: list[dict]) -> None:
    if not math.isfinite(float(value)):
        ids = ", ".join(str(row["pair_id"]) for row in rows[:8])
        raise MpoError(
            f"train: the {what} is {float(value)} at step {step} (pairs {ids}{' ...' if len(rows) > 8 else ''}); lower train.learning_rate or train.beta, or set model.dtype=float32"
        )


def _start_trackers(accelerator: Accelerator, recipe: Recipe) -> None:
    if not recipe.train.trackers:
        return
    # wandb asks on the terminal for an account unless it is told otherwise.
    if "wandb" in recipe.train.trackers and "WANDB_MODE" not in os.environ and not _wandb_logged_in():
        os.environ["WANDB_MODE"] = "offline"
    flat = {f"{section}.{key}" if section else key: value for section, key, value in _flatten(recipe)}
    accelerator.init_trackers(
        "mpo", config=flat, init_kwargs={"wandb": {"name": recipe.name, "dir": str(accelerator.project_dir)}}
    )


def _flatten(recipe: Recipe) -> Iterator[tuple[str, str, Any]]:
    for name, value in recipe.model_dump(mode="json").items():
        for key, inner in value.items() if isinstance(value, dict) else ((None, value),):
            scalar = inner if isinstance(inner, (int, float, str, bool)) else json.dumps(inner)
            yield (name, key, scalar) if key else ("", name, scalar)


def _wandb_logged_in() -> bool:
    """Whether `wandb login` was run or its variable is set, found out without asking on the terminal."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    except (FileNotFoundError, netrc.NetrcParseError):
        return False


def checkpoint_folder(run: Run, step: int) -> Path:
    return run.checkpoints / f"step-{step:06d}"


def final_lora(run: Run, settings: Train) -> Path:
    """The trained LoRA under peft's names. Raises MpoError where training has not finished."""
    file = checkpoint_folder(run, settings.num_steps) / "lora.safetensors"
    if not file.is_file():
        raise MpoError(f"{file} is missing; run `mpo train {run.folder}` first")
    return file


def _save_checkpoint(
    run: Run, step: int, denoiser: Any, optimizer: Any, schedule: Any, accelerator: Accelerator
) -> None:
    """LoRA, optimizer state and counters, as safetensors and JSON; the folder appears when all is in it."""
    with replacing(checkpoint_folder(run, step)) as folder:
        folder.mkdir()
        save_file(lora_state(denoiser), folder / "lora.safetensors")
        state = optimizer.state_dict()["state"]
        save_file(
            {f"{i}.{name}": tensor.cpu().contiguous() for i, entry in state.items() for name, tensor in entry.items()},
            folder / "optimizer.safetensors",
        )
        counters = {
            "step": step,
            "schedule": {
                k: v
                for k, v in schedule.state_dict().items()
                if k in ("base_lrs", "last_epoch", "_step_count", "_last_lr")
            },
        }
        counters["scaler"] = accelerator.scaler.state_dict() if accelerator.scaler else None
        (folder / "state.json").write_text(json.dumps(counters, indent=2) + "\n", "utf-8")


def _resume(run: Run, denoiser: Any, optimizer: Any, schedule: Any, accelerator: Accelerator) -> int:
    """Restore the newest checkpoint, if any; returns the number of steps done."""
    folders = sorted(run.checkpoints.glob("step-*"))
    step = int(folders[-1].name.removeprefix("step-")) if folders else 0
    if folders:
        load_lora(denoiser, folders[-1] / "lora.safetensors")
        counters = json.loads((folders[-1] / "state.json").read_text("utf-8"))
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in load_file(folders[-1] / "optimizer.safetensors").items():
            index, _, key = name.partition(".")
            state.setdefault(int(index), {})[key] = tensor
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        schedule.load_state_dict(schedule.state_dict() | counters["schedule"])
        for group, rate in zip(optimizer.param_groups, counters["schedule"]["_last_lr"], strict=True):
            group["lr"] = rate
        if accelerator.scaler and counters["scaler"]:
            accelerator.scaler.load_state_dict(counters["scaler"])
    kept = []
    if run.training_log.exists():
        for line in run.training_log.read_text("utf-8").splitlines():
            # A killed run may leave half a line, and steps that this one repeats.
            if line.endswith("}") and json.loads(line)["step"] <= step:
                kept.append(line + "\n")
    if accelerator.is_main_process:
        with replacing(run.training_log) as temporary:
            temporary.write_text("".join(kept), "utf-8")
    accelerator.wait_for_everyone()
    return step
