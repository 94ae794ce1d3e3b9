"""Stage train: preference optimisation of a LoRA on the encoded pairs.

What a step sees comes from (seed, pair, how often the pair was seen), never from the process's history, so that a
resumed run equals an uninterrupted one, and several processes see what one would.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from jaxtyping import Float
from torch import Tensor

from mpo.data.encoded import EncodedPairs
from mpo.models.acceleration import set_up
from mpo.models.checks import distilled_guidance
from mpo.models.families import Family, find_family
from mpo.models.loading import load_pipeline
from mpo.models.lora import add_lora, lora_off
from mpo.models.noise import error_weights
from mpo.recipe import Recipe, read_recipe
from mpo.run_folder.files import read_lines, write_json, write_lines
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import read_table
from mpo.runtime.processes import barrier, is_main, this_device
from mpo.runtime.progress import say, track
from mpo.training.batches import Batch, Batches, micro_batch_size
from mpo.training.checkpoints import checkpoint_folder, last_checkpoint, restore_checkpoint, save_checkpoint
from mpo.training.divergence import refuse_divergence
from mpo.training.objectives import PreferenceLoss, denoising_error, find_objective, with_sft
from mpo.training.optimizer import build_optimizer
from mpo.training.reference_errors import ReferenceErrors, describe
from mpo.training.sharding import check_sharder, shard_frozen
from mpo.training.trackers import start_trackers
from mpo.training.validation import Validated, best_of, has_stalled, is_due, read_validations, validate

METRICS = ("loss", "accuracy", "margin", "chosen_error", "rejected_error", "reference_error")


def train(folder: str | Path) -> None:
    """pairs.parquet, encoded/ -> checkpoints/step-NNNNNN/, training.jsonl, validation.jsonl, trained.json."""
    run = RunFolder(folder)
    recipe = read_recipe(run.recipe)
    settings = recipe.train
    if run.trained.exists():
        return

    # Model: the pipeline frozen, a LoRA on its denoiser.
    this_device()  # joins the other processes
    AcceleratorState._reset_state()  # a process may train twice, at another precision
    accelerator = Accelerator(
        mixed_precision=settings.mixed_precision,
        log_with=list(recipe.tracking.trackers) or None,
        project_dir=run.trackers,
    )
    micro = micro_batch_size(settings, accelerator.num_processes)
    sharder = check_sharder(recipe, micro, accelerator.num_processes)
    without = () if recipe.validation else ("text_encoders",)
    pipeline = load_pipeline(recipe.model, without=without, device="cpu" if sharder else None)
    family = find_family(pipeline)
    denoiser = add_lora(pipeline, settings).train()
    cache = open_cache(run, recipe, pipeline, denoiser)
    set_up(denoiser, settings)
    if sharder:
        shard_frozen(pipeline, sharder, accelerator)
    parameters = [p for p in denoiser.parameters() if p.requires_grad]
    optimizer = build_optimizer(parameters, settings)
    name = "constant_with_warmup" if settings.lr_schedule == "constant" else settings.lr_schedule
    schedule = get_scheduler(
        name, optimizer, num_warmup_steps=settings.warmup_steps, num_training_steps=settings.num_steps
    )
    ema = EMAModel(parameters, decay=settings.ema_decay) if settings.ema_decay else None
    optimizer = accelerator.prepare(optimizer)

    # Data: encoded pairs, split over processes and micro-batches.
    pairs = read_table(run.pairs, made_by="select").to_pylist()
    guidance = distilled_guidance(recipe, denoiser.config)
    batches = Batches(pipeline, family, pairs, EncodedPairs(run), settings, accelerator.device, guidance)
    num_micro = settings.batch_size // (micro * accelerator.num_processes)
    objective = find_objective(settings.objective, beta=settings.beta, label_smoothing=settings.label_smoothing)

    # Resume: the newest checkpoint, and the logs up to it.
    step = last_checkpoint(run)
    if step:
        restore_checkpoint(checkpoint_folder(run, step), denoiser, optimizer, schedule, ema, accelerator)
    history, validated = trim_logs(run, step)
    start_trackers(accelerator, recipe)
    with (
        track("train", total=settings.num_steps, done=step) as advance,
        run.training_log.open("a", encoding="utf-8") as log,
    ):
        while True:
            # Validate, and end when all steps are done or validation no longer improves.
            if is_due(recipe, step) and step not in [v.step for v in validated]:
                validated.append(validate(run, recipe, pipeline, denoiser, step, lockstep=sharder is not None))
                accelerator.log({"validation": validated[-1].total}, step=step)
            stalled = has_stalled(recipe, validated)
            if step == settings.num_steps or stalled:
                break

            draws = batches.of_step(step)
            sums = torch.zeros(len(METRICS), device=accelerator.device)
            for k in range(num_micro):
                # This process's micro-batch, and those that the others have at the same time.
                together = draws[k * micro * accelerator.num_processes :][: micro * accelerator.num_processes]
                mine = together[accelerator.process_index * micro :][:micro]
                inputs = [batches.batch(group) for group in batches.alike(mine)]
                weights = sorted_halves([error_weights(pipeline.scheduler, b.timesteps, settings) for b in inputs])

                # Reference errors, kept or from the same network with the LoRA off; then the policy's.
                with accelerator.autocast():
                    reference: Tensor | None = None
                    if objective.needs_reference and cache is not None and all(draw in cache for draw in together):
                        reference = cache.get(mine, accelerator.device)
                    elif objective.needs_reference:
                        with lora_off(denoiser):
                            reference = denoising_errors(pipeline, family, inputs)
                        if cache is not None:
                            columns: Any = accelerator.gather(reference.T.contiguous())
                            cache.put(together, columns.T)
                            reference = cache.get(mine, accelerator.device)  # as a resumed run will read them
                    policy = weights * denoising_errors(pipeline, family, inputs)
                    against = () if reference is None else tuple(weights * reference)
                outcome = objective.loss(*policy, *against)
                if settings.sft_weight:
                    outcome = with_sft(outcome, policy[0], settings.sft_weight)
                accelerator.backward(outcome.loss.mean() / num_micro)
                sums += summary(outcome, policy, against).to(sums) / num_micro

            # Step: average over processes, clip, refuse what is not finite or grows without bound, update.
            average_gradients(parameters, accelerator)
            grad_norm: Any = accelerator.clip_grad_norm_(parameters, settings.max_grad_norm)
            reduced: Any = accelerator.reduce(sums, "mean")
            metrics = dict(zip(METRICS, reduced.tolist(), strict=True))
            metrics |= {"grad_norm": float(grad_norm), "learning_rate": float(schedule.get_last_lr()[0])}
            history.append({"step": step + 1, **metrics})
            refuse_divergence(history, settings, pairs, draws, scaled=accelerator.scaler is not None)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            if ema is not None:
                ema.step(parameters)
            step += 1

            # Log and keep.
            if accelerator.is_main_process:
                log.write(json.dumps(history[-1]) + "\n")
                log.flush()
            if step % settings.checkpoint_interval_steps == 0 or step == settings.num_steps or is_due(recipe, step):
                save_checkpoint(run, step, denoiser, optimizer, schedule, ema, accelerator)
                accelerator.wait_for_everyone()
            accelerator.log(metrics, step=step)
            advance(
                note=f"loss {metrics['loss']:.3f}  accuracy {metrics['accuracy']:.2f}  margin {metrics['margin']:.2f}"
            )

    # The result: the best by validation, else the last.
    result = best_of(validated).step if recipe.validation else step
    if accelerator.is_main_process:
        write_json(run.trained, {"result_step": result, "last_step": step, "stopped_early": stalled})
    if recipe.validation:
        say(
            f"train: the result is step {result} of {step}, the best by validation{', stopped early' if stalled else ''}"
        )
    for tracker in accelerator.trackers:  # its own end_training() would also part the processes, which have more to do
        tracker.finish()
    accelerator.wait_for_everyone()


def denoising_errors(pipeline: Any, family: Family, inputs: Sequence[Batch]) -> Float[Tensor, "2 B"]:
    """Errors of the chosen and of the rejected, over batches of B draws in all."""
    predictions = [family.predict(pipeline, b.noisy, b.timesteps, b.conditioning) for b in inputs]
    return sorted_halves([denoising_error(p, b.target) for p, b in zip(predictions, inputs, strict=True)])


def average_gradients(parameters: Sequence[torch.nn.Parameter], accelerator: Accelerator) -> None:
    """The mean gradient over processes, in one message: a LoRA's gradients are small.

    So processes may take different numbers of forwards, which DistributedDataParallel's hooks would not allow.
    """
    if accelerator.num_processes == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat: Any = accelerator.reduce(torch.cat([gradient.flatten() for gradient in gradients]), "mean")
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def sorted_halves(values: Sequence[Float[Tensor, " 2B"]]) -> Float[Tensor, "2 B"]:
    """Values of batches, each the chosen's then the rejected's -> the chosen's of all above the rejected's of all."""
    return torch.cat([value.view(2, -1) for value in values], dim=1)


def summary(outcome: PreferenceLoss, policy: Tensor, against: Sequence[Tensor]) -> Float[Tensor, " 6"]:
    """Means over a micro-batch, in the order of METRICS; without a reference its error is the policy's own."""
    reference = against[0] if against else policy[0]
    values = (outcome.loss, outcome.accuracy, outcome.margin, policy[0], policy[1], reference)
    return torch.stack([value.detach().float().mean() for value in values])


def open_cache(run: RunFolder, recipe: Recipe, pipeline: Any, denoiser: Any) -> ReferenceErrors | None:
    if recipe.train.reference_cache is None:
        return None
    folder = run.folder / recipe.train.reference_cache
    return ReferenceErrors(folder, describe(recipe, run, pipeline, denoiser))


def trim_logs(run: RunFolder, step: int) -> tuple[list[dict[str, Any]], list[Validated]]:
    """training.jsonl and validation.jsonl up to a step: a killed run may leave half a line, and steps that this one repeats."""
    trained = [record for record in read_lines(run.training_log) if record["step"] <= step]
    validated = [record for record in read_validations(run) if record.step <= step]
    barrier()  # all have read what the main process writes anew
    if is_main():
        write_lines(run.training_log, trained)
        if run.validation_log.exists():
            write_lines(run.validation_log, map(vars, validated))
    barrier()
    return trained, validated
