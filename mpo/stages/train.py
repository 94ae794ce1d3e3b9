"""Stage train: preference optimisation of a LoRA on the encoded pairs.

What a step sees comes from (seed, pair, how often the pair was seen), never from the process's history, so that a
resumed run equals an uninterrupted one, and several processes see what one would.
"""

import time
from pathlib import Path
from typing import Any

import torch

from mpo.recipe import read_recipe
from mpo.run_folder.files import append_line, write_json
from mpo.run_folder.paths import RunFolder
from mpo.runtime.freeing import freed_afterwards
from mpo.runtime.processes import barrier
from mpo.runtime.progress import say, track
from mpo.training.adaptive_beta import beta_of_step
from mpo.training.checkpoints import resume, save_checkpoint
from mpo.training.divergence import refuse_divergence
from mpo.training.forward import average_gradients, forward, metrics_of, micro_batches
from mpo.training.setup import set_up
from mpo.training.timing import measure_step
from mpo.training.validation import best_of, has_stalled, is_due, validate


@freed_afterwards()
def train(folder: str | Path) -> None:
    """pairs.parquet, encoded/ -> checkpoints/step-NNNNNN/, training.jsonl, validation.jsonl, trained.json."""
    run = RunFolder(folder)
    recipe = read_recipe(run.recipe)
    settings = recipe.train
    t = set_up(run, recipe)
    accelerator = t.accelerator
    measured = metrics_of(t.objective)
    step, history, validated = resume(t)
    with track("train", total=settings.num_steps, done=step) as advance:
        while True:
            # Validate, and end when all steps are taken or validation no longer improves.
            if is_due(recipe, step) and step not in [v.step for v in validated]:
                validated.append(validate(t, step))
            stalled = has_stalled(recipe, validated)
            if step >= settings.num_steps or stalled:
                break

            # Forward and backward: one micro-batch at a time; the reference, then the policy.
            started_s = time.perf_counter()
            draws = t.batches.of_step(step)
            beta = beta_of_step(history, beta=settings.beta, gradient_factor=settings.gradient_factor)
            sums = torch.zeros(len(measured), device=accelerator.device)
            for global_draws, local_draws in micro_batches(t, draws):
                outcome, means = forward(t, global_draws, local_draws, beta=beta)
                accelerator.backward(outcome.loss.mean() / t.num_micro)
                sums += means.to(sums) / t.num_micro

            # Step: average over processes, clip, refuse what is not finite or grows without bound, update.
            average_gradients(t)
            grad_norm: Any = accelerator.clip_grad_norm_(t.parameters, settings.max_grad_norm)
            reduced: Any = accelerator.reduce(sums, "mean")
            metrics = dict(zip(measured, reduced.tolist(), strict=True))
            metrics |= {"grad_norm": float(grad_norm), "learning_rate": float(t.schedule.get_last_lr()[0])}
            if settings.gradient_factor is not None:
                metrics["beta"] = beta
            history.append({"step": step + 1, **metrics})
            refuse_divergence(history, settings, draws, scaled=accelerator.scaler is not None)
            t.optimizer.step()
            t.schedule.step()
            t.optimizer.zero_grad()
            if t.ema is not None:
                t.ema.step(t.parameters)
            step += 1

            # Keep: log, checkpoint, show.
            timing = measure_step(started_s, settings.batch_size)
            if accelerator.is_main_process:
                append_line(run.training_log, history[-1])
                append_line(run.timing_log, {"step": step, **vars(timing)})
            if step % settings.checkpoint_interval_steps == 0 or step == settings.num_steps or is_due(recipe, step):
                save_checkpoint(t, step)
            accelerator.log(metrics | vars(timing), step=step)
            advance(note=f"loss {metrics['loss']:.3f}  acc {metrics['accuracy']:.2f}  {timing}")

    # The result: the best by validation, else the last.
    result = best_of(validated).step if recipe.validation else step
    if accelerator.is_main_process:
        write_json(run.trained, {"result_step": result, "last_step": step, "stopped_early": stalled})
    if recipe.validation:
        why = ", stopped early" if stalled else ""
        say(f"train: the result is step {result} of {step}, the best by validation{why}")
    for tracker in accelerator.trackers:  # its own end_training() would also shut down the processes, which continue
        tracker.finish()
    barrier()
