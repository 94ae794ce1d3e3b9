"""Yes and no as tokens: a tokenizer has several spellings of each ("Yes", "yes", " yes", "YES")."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from reward.errors import JudgeError

MIN_MASS = 1e-3  # of yes and no together; below this a model is not answering the question, and p_yes would be noise


def yes_no_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Ids of all tokens that spell yes, and of all that spell no, in any case and with or without a leading space.

    Raises JudgeError if the vocabulary has no token for one of the words.
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
    """Log P(yes) - log P(no) of the next token, over all spellings, in float32."""
    logits = logits.float()
    return logits[..., yes].logsumexp(-1) - logits[..., no].logsumexp(-1)


def answer_mass(logits: Float[Tensor, "*batch vocab"], yes: list[int], no: list[int]) -> Float[Tensor, "*batch"]:
    """P(yes) + P(no) out of the whole vocabulary."""
    logits = logits.float()
    return (logits[..., yes + no].logsumexp(-1) - logits.logsumexp(-1)).exp()


def p_yes(
    logits: Float[Tensor, "*batch vocab"], yes: list[int], no: list[int], question_ids: Sequence[str]
) -> Float[Tensor, "*batch"]:
    """P(yes) / (P(yes) + P(no)), in [0, 1]. question_ids: along the last axis before the vocabulary.

    VQAScore (arXiv 2404.01291) takes P(yes) out of the whole vocabulary. Without the other words, the answers of models
    with different habits can be compared. Raises JudgeError if P(yes) + P(no) is below MIN_MASS.
    """
    mass = answer_mass(logits, yes, no).flatten()
    if not bool((mass >= MIN_MASS).all()):  # NaN included
        place = int((~(mass >= MIN_MASS)).nonzero()[0])
        raise JudgeError(
            f"question {question_ids[place % len(question_ids)]!r}: yes and no have a probability of {mass[place]:.2g} together, so the model is not answering; reword the template or use a model that follows instructions"
        )
    return torch.sigmoid(yes_log_odds(logits, yes, no))
