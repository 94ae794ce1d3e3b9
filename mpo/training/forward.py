"""One micro-batch through the network: errors of reference and policy, and the loss between them.

B pairs per process; a batch holds the chosen of pairs with one latent shape, then their rejected.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mpo.models.families import Family
from mpo.models.lora import lora_off
from mpo.models.noise import error_weights
from mpo.training.batches import Batch, Draw
from mpo.training.objectives import Objective, PreferenceLoss, denoising_error, safe_scale, with_safeguard, with_sft
from mpo.training.setup import Training

METRICS = ("loss", "accuracy", "margin", "chosen_error", "rejected_error")
REFERENCE_METRICS = (*METRICS, "reference_error")


def metrics_of(objective: Objective) -> tuple[str, ...]:
    """What `forward` measures; the reference's error only where there is a reference."""
    return REFERENCE_METRICS if objective.needs_reference else METRICS


def micro_batches(t: Training, draws: Sequence[Draw]) -> Iterator[tuple[Sequence[Draw], Sequence[Draw]]]:
    """A step's draws -> (global_draws, local_draws) of each micro-batch: all processes' draws, and this one's among them."""
    size, num_processes = t.micro_batch_size, t.accelerator.num_processes
    for k in range(t.num_micro):
        global_draws = draws[k * size * num_processes :][: size * num_processes]
        yield global_draws, global_draws[t.accelerator.process_index * size :][:size]


def forward(
    t: Training, global_draws: Sequence[Draw], local_draws: Sequence[Draw], *, beta: float
) -> tuple[PreferenceLoss, Float[Tensor, " M"]]:
    """The loss of this process's pairs, and means over them in the order of `metrics_of` the objective, detached."""
    inputs = [t.batches.batch(group) for group in t.batches.alike(local_draws)]
    weights = halves([error_weights(t.pipeline.scheduler, batch.timesteps, t.recipe.train) for batch in inputs])
    with t.accelerator.autocast():
        reference = reference_errors(t, global_draws, local_draws, inputs)
        predictions = predict(t.pipeline, t.family, inputs)
        policy = weights * errors_of(predictions, inputs)
    weighted = () if reference is None else tuple(weights * reference)
    mu = t.recipe.train.safeguard
    if mu is None:
        outcome = t.objective.loss(*policy, *weighted, beta=beta)
    else:
        scale = torch.cat([safe_scale(p, b.target, mu=mu) for p, b in zip(predictions, inputs, strict=True)])
        outcome = with_safeguard(t.objective.loss, policy, *weighted, scale=scale, beta=beta)
    if t.recipe.train.sft_weight:
        outcome = with_sft(outcome, policy[0], t.recipe.train.sft_weight)
    values = (outcome.loss, outcome.accuracy, outcome.margin, *policy, *weighted[:1])
    return outcome, torch.stack([value.detach().float().mean() for value in values])


def reference_errors(
    t: Training, global_draws: Sequence[Draw], local_draws: Sequence[Draw], inputs: Sequence[Batch]
) -> Float[Tensor, "2 B"] | None:
    """Errors of the untuned network: kept ones, else from the same network with the LoRA off. None if the objective needs none.

    The kept errors are the same in every process, so that all compute, or none: if weights are sharded, each forward
    needs all processes.
    """
    if not t.objective.needs_reference:
        return None
    if t.cache is None or not all(draw in t.cache for draw in global_draws):
        with lora_off(t.denoiser):
            errors = denoising_errors(t.pipeline, t.family, inputs)
        if t.cache is None:
            return errors
        columns: Any = t.accelerator.gather(errors.T.contiguous())
        t.cache.put(global_draws, columns.T)
    return t.cache.get(local_draws, t.accelerator.device)  # new ones too, as a resumed run will read them


def denoising_errors(pipeline: Any, family: Family, inputs: Sequence[Batch]) -> Float[Tensor, "2 B"]:
    """Errors of the chosen and of the rejected, over batches of B draws in all."""
    return errors_of(predict(pipeline, family, inputs), inputs)


def predict(pipeline: Any, family: Family, inputs: Sequence[Batch]) -> list[Tensor]:
    """What the network makes of each batch."""
    return [family.predict(pipeline, b.noisy, b.timesteps, b.conditioning) for b in inputs]


def errors_of(predictions: Sequence[Tensor], inputs: Sequence[Batch]) -> Float[Tensor, "2 B"]:
    """Errors of the chosen and of the rejected, over batches of B draws in all."""
    return halves([denoising_error(p, b.target) for p, b in zip(predictions, inputs, strict=True)])


def halves(values: Sequence[Float[Tensor, " _"]]) -> Float[Tensor, "2 B"]:
    """Values of batches, each the chosen's then the rejected's -> the chosen's of all above the rejected's of all."""
    return torch.cat([value.view(2, -1) for value in values], dim=1)


def average_gradients(t: Training) -> None:
    """The mean gradient over processes, in one message: a LoRA's gradients are small.

    So processes may run different numbers of forwards, which DistributedDataParallel's hooks would not allow.
    """
    if t.accelerator.num_processes == 1:
        return
    gradients = [p.grad for p in t.parameters if p.grad is not None]
    flat: Any = t.accelerator.reduce(torch.cat([gradient.flatten() for gradient in gradients]), "mean")
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))
