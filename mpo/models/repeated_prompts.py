"""Equal prompts of a batch go through a text encoder once: a prompt's candidates, and the prompts of guidance's second pass."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor


@contextmanager
def prompts_read_once(pipeline: Any) -> Iterator[None]:
    """The pipeline, whose text encoders see each row of tokens once a call; their answers are as without."""
    with ExitStack() as stack:
        for name, part in pipeline.components.items():
            if name.startswith("text_encoder") and isinstance(part, torch.nn.Module):
                rows = _Rows()
                before = part.register_forward_pre_hook(rows.reduce, with_kwargs=True)
                after = part.register_forward_hook(rows.restore)
                stack.callback(before.remove)
                stack.callback(after.remove)
        yield


class _Rows:
    """Which rows of a batch are equal, between a text encoder's input and its answer."""

    def __init__(self) -> None:
        self.places: Tensor | None = None  # (B,): of each row among the different ones; None = all differ
        self.num_rows = 0

    def reduce(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.places = None
        given = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        size = len(given[0]) if given and given[0].ndim else 0
        # Tokens and their masks alone: a row of anything else could differ by more than it shows here.
        if size < 2 or any(v.ndim != 2 or len(v) != size or v.is_floating_point() for v in given):
            return None
        tokens = torch.cat([value.long() for value in given], dim=1).tolist()
        first: dict[tuple[int, ...], int] = {}
        places = [first.setdefault(tuple(row), len(first)) for row in tokens]
        if len(first) == size:
            return None
        kept = torch.tensor([places.index(k) for k in range(len(first))], device=given[0].device)
        self.places, self.num_rows = torch.tensor(places, device=given[0].device), len(first)

        def taken(value: Any) -> Any:
            return value[kept] if isinstance(value, Tensor) else value

        return tuple(map(taken, args)), {name: taken(value) for name, value in kwargs.items()}

    def restore(self, module: Any, args: Any, output: Any) -> Any:
        if self.places is None:
            return None
        if isinstance(output, dict):
            for name, value in output.items():
                output[name] = self._spread(value)
            return output
        return self._spread(output)

    def _spread(self, value: Any) -> Any:
        """(num_rows, ...) -> (B, ...), also within tuples; what has other rows, such as a cache of keys, as it is."""
        assert self.places is not None
        if isinstance(value, tuple):
            return tuple(map(self._spread, value))
        if isinstance(value, Tensor) and value.ndim and len(value) == self.num_rows:
            return value[self.places.to(value.device)]
        return value
