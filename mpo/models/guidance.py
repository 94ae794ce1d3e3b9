"""Classifier-free guidance in some of the steps alone: in the others the network is asked once, with the prompt.

Where the two answers of a step are equal, guidance of any strength leaves them as they are: u + s (c - u) = c for u = c. So
outside the range the pass without the prompt is left out, and its answer is that of the pass with the prompt; the
pipeline's own loop stays as it is. That guidance helps in the middle of the noise alone: arXiv 2404.07724.
"""

# B samples; a batch of both passes has 2 B rows, those without the prompt first

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from mpo.models.families import denoisers_of, find_family

# Arguments of the networks that have a row a sample. AnimateDiff's text has one a frame.
ROWS = (
    "sample", "hidden_states", "timestep", "encoder_hidden_states", "encoder_attention_mask", "pooled_projections",
    "added_cond_kwargs",
)  # fmt: skip


@contextmanager
def guidance_within(pipeline: Any, shares: tuple[float, float] | None) -> Iterator[None]:
    """The pipeline, which guides only in steps k of n with low <= k / n < high; for one call. None = in all steps.

    The call must have a guidance scale above 1, and the pipeline's family say how it makes its passes (GUIDANCE_PASSES).
    """
    if shares is None:
        yield
        return
    passes = Passes(pipeline, shares)
    wrap = passes.together if find_family(pipeline).GUIDANCE_PASSES == "together" else passes.in_turn
    wrapped = [(network, network.forward, wrap(network.forward)) for network in denoisers_of(pipeline)]
    for network, _, forward in wrapped:
        network.forward = forward
    try:
        yield
    finally:
        for network, before, forward in wrapped:
            if network.__dict__.get("forward") is forward:  # offloading puts its own in place after each call
                _restore(network, before)


def _restore(network: Any, forward: Callable[..., Any]) -> None:
    if getattr(forward, "__self__", None) is network:  # the class's
        del network.forward
    else:
        network.forward = forward


class Passes:
    """Counts a loop's steps; two networks that share a loop share the count."""

    def __init__(self, pipeline: Any, shares: tuple[float, float]):
        self.pipeline, self.shares = pipeline, shares
        self.step = 0
        self.kept: Any = None  # the answer with the prompt, which stands for the one without it

    def is_guided(self) -> bool:
        low, high = self.shares
        return low <= self.step / len(self.pipeline.scheduler.timesteps) < high

    def together(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        """For pipelines that ask for both in one batch."""

        @torch.compiler.disable(recursive=False)
        def asked(*args: Any, **kwargs: Any) -> Any:
            guided = self.is_guided()
            self.step += 1
            if guided:
                return forward(*args, **kwargs)
            rows = {name: with_prompt(value) if name in ROWS else value for name, value in kwargs.items()}
            return repeated(forward(*map(with_prompt, args), **rows))

        return asked

    def in_turn(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        """For pipelines that ask with the prompt first, then without it."""

        @torch.compiler.disable(recursive=False)
        def asked(*args: Any, **kwargs: Any) -> Any:
            if self.kept is None:
                self.kept = forward(*args, **kwargs)
                return self.kept
            guided, kept = self.is_guided(), self.kept
            self.step, self.kept = self.step + 1, None
            return forward(*args, **kwargs) if guided else kept

        return asked


def guided_share(num_steps: int, shares: tuple[float, float] | None) -> float:
    """Which part of a loop's steps is guided. shares: as for `guidance_within`."""
    low, high = shares or (0.0, 1.0)
    return sum(low <= step / num_steps < high for step in range(num_steps)) / num_steps


def with_prompt(value: Any) -> Any:
    """The second half of a tensor's rows, or of each tensor's in a dictionary; what has no rows as it is."""
    if isinstance(value, dict):
        return {name: with_prompt(each) for name, each in value.items()}
    return value.chunk(2)[1] if isinstance(value, Tensor) and value.ndim else value


def repeated(output: Any) -> Any:
    """A network's answer for B rows -> for 2 B, both halves the same."""
    if isinstance(output, tuple):
        return (torch.cat([output[0]] * 2), *output[1:])
    output.sample = torch.cat([output.sample] * 2)
    return output
