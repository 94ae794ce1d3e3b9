"""Yes and no as tokens: a tokenizer knows each in several spellings ("Yes", "yes", " yes", "YES")."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from reward.errors import JudgeError

MIN_MASS = 1e-3  # below this a model is not answering the question, and its p_yes would be noise


def yes_no_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Ids of all tokens that spell yes, and no, whatever their case and leading space.

    Raises JudgeError where a vocabulary has no such token for either.
    """
    found: dict[str, list[int]] = {"yes": [], "no": []}
    special = set(tokenizer.all_special_ids)
    for token, token_id in tokenizer.get_vocab().items():
        if len(token) <= 6 and token_id not in special:  # "▁" or "Ġ", then three letters; some mark word ends
            word = tokenizer.convert_tokens_to_string([token]).strip().lower()
            if word in found:
                found[word].append(token_id)
    for word, ids in found.items():
        if not ids:
            raise JudgeError(
                f"the vocabulary of {type(tokenizer).__name__} has no token for {word!r}; use a model whose tokenizer has one"
            )
    return sorted(found["yes"]), sorted(found["no"])


def yes_log_odds(logits: Float[Tensor, "*batch vocab"], yes: list[int], no: list[int]) -> Float[Tensor, "*batch"]:
    """Log P(yes) - log P(no) for the token that comes next, over all spellings, in float32."""
    logits = logits.float()
    return logits[..., yes].logsumexp(-1) - logits[..., no].logsumexp(-1)


def answer_mass(logits: Float[Tensor, "*batch vocab"], yes: list[int], no: list[int]) -> Float[Tensor, "*batch"]:
    """P(yes) + P(no) out of the whole vocabulary."""
    logits = logits.float()
    return (logits[..., yes + no].logsumexp(-1) - logits.logsumexp(-1)).exp()


def p_yes(
    logits: Float[Tensor, "*batch vocab"], yes: list[int], no: list[int], question_ids: Sequence[str]
) -> Float[Tensor, "*batch"]:
    """P(yes) / (P(yes) + P(no)). question_ids: of the last axis before the vocabulary.

    VQAScore (arXiv 2404.01291) takes P(yes) out of the whole vocabulary; leaving other words out makes answers of
    models with different habits comparable. Raises JudgeError where yes and no together are less likely than MIN_MASS.
    """
    mass = answer_mass(logits, yes, no).flatten()
    if not bool((mass >= MIN_MASS).all()):  # NaN included
        place = int((~(mass >= MIN_MASS)).nonzero()[0])
        raise JudgeError(
            f"question {question_ids[place % len(question_ids)]!r}: yes and no have a probability of {mass[place]:.2g} together, so the model is not answering; reword the template or use a model that follows instructions"
        )
    return torch.sigmoid(yes_log_odds(logits, yes, no))
