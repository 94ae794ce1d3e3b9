"""Many questions after one prefix: the picture goes through the model once, whatever the number of questions.

The prefix (picture and opening words) runs once, and its cache is kept. Then one of
- `packed_logits`: all questions lie end to end in one row. A block mask lets each see the prefix and itself; positions
  restart after the prefix for each. Needs attention that takes a mask of four axes, and a cache of keys and values
  that can be cut back: plain, or with windows longer than the prefix and the questions;
- `batched_logits`: each question is its own row over a copy of the prefix's keys and values. Works with windowed
  and other attention, at the price of those copies;
- `copied_logits`: each question has its own pass over a copy of the whole cache, without padding. Works with layers
  that keep a running state (linear attention, convolutions), which has to be continued token by token.
All give each question the logits that it would have alone after the prefix. `misfits` says which of them a model does
not allow.
"""

import copy
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from reward.errors import first_line
from reward.judges.modes import MisfitError

# N items, Q questions, P prefix tokens, S question tokens in one row
Suffixes = Sequence[Sequence[list[int]]]  # [item][question] -> token ids, at least one


@dataclass
class Prefix:
    """What N items, padded on the left to one length P, leave behind in the language model."""

    cache: DynamicCache
    mask: Bool[Tensor, "N P"]  # False = padding
    next_position: Int[Tensor, " N"]  # of the first token that follows


def shared_length(rows: Sequence[list]) -> int:
    """How many first entries all rows share; at least one entry of each row is left over."""
    first, last = min(rows), max(rows)  # lists compare item by item: these two differ soonest
    shared = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return min(shared, min(len(row) for row in rows) - 1)


def prefill(model: Any, inputs: dict[str, Tensor]) -> Prefix:
    """One pass over the prefix, pictures included. inputs: from the processor, cut before the questions."""
    seen: dict[str, Any] = {}

    def note_positions(_module, _args, kwargs):
        seen["position_ids"] = kwargs.get("position_ids")

    mask = inputs["attention_mask"].bool()
    inputs = dict(inputs)
    if not hasattr(model.base_model, "get_rope_index"):  # if it exists (M-RoPE), only the model knows the positions
        inputs["position_ids"] = (mask.long().cumsum(-1) - 1).clamp_min(0)
    cache = DynamicCache(config=model.config)
    hook = model.get_decoder().register_forward_pre_hook(note_positions, with_kwargs=True)
    try:
        model(**inputs, **_cached(model, cache), logits_to_keep=1)
    finally:
        hook.remove()
    # Read from the language model's own call: M-RoPE gives a picture fewer positions than it has tokens. It counts on
    # from the last token, not from the highest position: a long clip's frames may exceed the words after it.
    positions = seen["position_ids"]
    last = mask.sum(-1) - 1 if positions is None else positions[..., -1].reshape(-1, positions.shape[-2]).amax(0)
    return Prefix(cache, mask, (last + 1).expand(len(mask)).to(mask.device))


def _cached(model: Any, cache: DynamicCache) -> dict[str, Any]:
    """The keywords that hand a model its cache. transformers 5.24 renamed past_key_values."""
    name = "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"
    return {name: cache, "use_cache": True}


def misfits(model: Any) -> dict[str, str]:
    """Mode -> why the model does not allow it, as far as its configuration shows. Runs nothing."""
    try:
        layers = DynamicCache(config=model.config).layers
    except Exception as error:  # a configuration may be of any kind, such as encoder and decoder
        why = f"transformers has no cache for it ({type(error).__name__}: {first_line(error)})"
        return {"packed": why, "batched": why, "copied": why}
    found = {}
    running = [type(layer).__name__ for layer in layers if hasattr(layer, "conv_states")]
    other = [type(each).__name__ for each in layers if type(each) not in (DynamicLayer, DynamicSlidingWindowLayer)]
    attention = model.config.get_text_config()._attn_implementation
    if other:
        found["packed"] = f"its cache ({other[0]}) holds more than keys and values"
    elif attention not in ("eager", "sdpa"):
        found["packed"] = f"its attention {attention!r} takes no mask of four axes; 'eager' and 'sdpa' do"
    if running:
        found["batched"] = f"its cache ({running[0]}) holds a running state, which padding would change"
    return found


def packing_room(model: Any, prefix_length: int) -> float:
    """How many question tokens one packed pass can take after a prefix; infinite without windowed layers.

    A text shorter than the window is seen whole, and the cache drops none of it.
    """
    windows = [getattr(layer, "sliding_window", float("inf")) for layer in DynamicCache(config=model.config).layers]
    return min(windows, default=float("inf")) - 1 - prefix_length


def packed_logits(
    model: Any, inputs: dict[str, Tensor], suffixes: Suffixes, *, max_tokens: int
) -> Float[Tensor, "N Q vocab"]:
    """Logits at each question's end. At most max_tokens question tokens a pass (one question at least).

    inputs: of the prefix, as for `prefill`. Raises MisfitError if the model's attention windows are too short.
    """
    lengths = [max(len(item[q]) for item in suffixes) for q in range(len(suffixes[0]))]
    prefix_length = inputs["input_ids"].shape[1]
    room = packing_room(model, prefix_length)
    if max(lengths) > room:
        raise MisfitError(
            f"{prefix_length} tokens of picture and words and {max(lengths)} of a question are more than its attention windows hold"
        )
    prefix = prefill(model, inputs)
    logits = []
    for first, last in _chunks(lengths, min(max_tokens, room)):
        slots = [[item[q] for item in suffixes] for q in range(first, last)]
        ids, real, slot, offset = _lay_out(slots, lengths[first:last], device=prefix.mask.device)
        ends = torch.tensor(lengths[first:last], device=ids.device).cumsum(0) - 1
        allowed = _block_mask(prefix.mask, real, slot)
        mask = torch.zeros(allowed.shape, dtype=model.dtype, device=ids.device)
        mask.masked_fill_(~allowed, torch.finfo(model.dtype).min)  # eager attention adds the mask; SDPA takes either
        output = model(
            input_ids=ids,
            attention_mask=mask[:, None],
            position_ids=prefix.next_position[:, None] + offset,
            **_cached(model, prefix.cache),
            logits_to_keep=ends,
        )
        prefix.cache.crop(-ids.shape[1])
        logits.append(output.logits if output.logits.shape[1] == len(ends) else output.logits[:, ends])
    return torch.cat(logits, dim=1)


def batched_logits(
    model: Any, inputs: dict[str, Tensor], suffixes: Suffixes, *, max_tokens: int
) -> Float[Tensor, "N Q vocab"]:
    """Logits at each question's end. At most max_tokens question tokens a pass (one question of each item at least).

    inputs: of the prefix, as for `prefill`.
    """
    prefix = prefill(model, inputs)
    num_items, num_questions = len(suffixes), len(suffixes[0])
    longest = max(len(ids) for item in suffixes for ids in item)
    step = max(1, max_tokens // (longest * num_items))
    logits = []
    for first in range(0, num_questions, step):
        rows = [ids for item in suffixes for ids in item[first : first + step]]
        count = len(rows) // num_items
        cache = copy.deepcopy(prefix.cache)
        cache.batch_repeat_interleave(count)
        device = prefix.mask.device
        ids = torch.zeros(len(rows), longest, dtype=torch.long, device=device)
        real = torch.zeros(len(rows), longest, dtype=torch.bool, device=device)
        for row, tokens in enumerate(rows):
            ids[row, : len(tokens)] = torch.tensor(tokens, device=device)
            real[row, : len(tokens)] = True
        ends = torch.tensor([len(tokens) for tokens in rows], device=device) - 1
        kept, place = ends.unique(return_inverse=True)
        offset = torch.arange(longest, device=device)
        output = model(
            input_ids=ids,
            attention_mask=torch.cat([prefix.mask.repeat_interleave(count, 0), real], dim=1).long(),
            position_ids=prefix.next_position.repeat_interleave(count)[:, None] + offset,
            **_cached(model, cache),
            logits_to_keep=kept,
        )
        row = torch.arange(len(rows), device=device)
        chosen = output.logits[row, place if output.logits.shape[1] == len(kept) else ends]
        logits.append(chosen.view(num_items, count, -1))
    return torch.cat(logits, dim=1)


def copied_logits(model: Any, inputs: dict[str, Tensor], suffixes: Sequence[list[int]]) -> Float[Tensor, "Q vocab"]:
    """Logits at each question's end. inputs: of the prefix, as for `prefill`, of one item alone."""
    prefix = prefill(model, inputs)
    device = prefix.mask.device
    logits = []
    for tokens in suffixes:
        ids = torch.tensor([tokens], device=device)
        output = model(
            input_ids=ids,
            attention_mask=torch.cat([prefix.mask, torch.ones_like(ids, dtype=torch.bool)], dim=1).long(),
            position_ids=prefix.next_position[:, None] + torch.arange(len(tokens), device=device),
            **_cached(model, copy.deepcopy(prefix.cache)),
            logits_to_keep=1,
        )
        logits.append(output.logits[0, -1])
    return torch.stack(logits)


def _chunks(lengths: Sequence[int], max_tokens: float) -> Iterator[tuple[int, int]]:
    first, total = 0, 0
    for i, length in enumerate(lengths):
        if total and total + length > max_tokens:
            yield first, i
            first, total = i, 0
        total += length
    yield first, len(lengths)


def _lay_out(
    slots: Sequence[Sequence[list[int]]], lengths: Sequence[int], *, device: torch.device
) -> tuple[Int[Tensor, "N S"], Bool[Tensor, "N S"], Int[Tensor, " S"], Int[Tensor, "N S"]]:
    """Token ids, which of them are real, each place's question, each place's position after the prefix.

    A question is padded on the left of its slot, so that it ends at the same place in every row.
    """
    num_items = len(slots[0])
    ids = torch.zeros(num_items, sum(lengths), dtype=torch.long)
    real = torch.zeros_like(ids, dtype=torch.bool)
    offset = torch.zeros_like(ids)
    start = 0
    for rows, length in zip(slots, lengths, strict=True):
        for row, tokens in enumerate(rows):
            here = slice(start + length - len(tokens), start + length)
            ids[row, here] = torch.tensor(tokens)
            real[row, here] = True
            offset[row, here] = torch.arange(len(tokens))
        start += length
    slot = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    return ids.to(device), real.to(device), slot.to(device), offset.to(device)


def _block_mask(
    prefix: Bool[Tensor, "N P"], real: Bool[Tensor, "N S"], slot: Int[Tensor, " S"]
) -> Bool[Tensor, "N S P_S"]:
    """True where a question's token may look: the prefix, and its own question up to itself."""
    size = real.shape[1]
    causal = torch.ones(size, size, dtype=torch.bool, device=real.device).tril()
    own = (slot[:, None] == slot[None, :]) & causal
    own = own[None] & real[:, None, :] | torch.eye(size, dtype=torch.bool, device=real.device)  # padding sees itself
    return torch.cat([prefix[:, None, :].expand(-1, size, -1), own], dim=2)
