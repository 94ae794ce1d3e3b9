"""Prompts: read from files and data sets, kept apart between the sets, near-duplicates dropped."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mpo import MpoError
from mpo.data.readers import read_rows
from mpo.recipe import Prompts, PromptSource, find_prompts
from mpo.runtime.hub import OfflineError, is_hub_id, is_offline
from reward.errors import first_line

PromptSets = tuple[list[str], list[str], list[str]]  # training, held-out, validation
BLOCK = 1024  # prompts compared at a time with all those kept


def read_prompts(source: PromptSource, *, field: str) -> list[str]:
    """A source's prompts, stripped, without repeats and blanks. Raises MpoError naming field, source and remedy."""
    wanted = source.limit if source.shuffle_seed is None and source.share is None else None
    found: dict[str, None] = {}  # data sets have a row for each picture or vote
    for text in _texts(source, field):
        if text.strip():
            found.setdefault(text.strip())
        if len(found) == wanted:
            break
    prompts = list(found)
    if not prompts:
        raise MpoError(f"{field}={source.path!r} holds no prompt; write one prompt a line")
    if source.shuffle_seed is not None:
        order = np.random.default_rng(source.shuffle_seed).permutation(len(prompts))
        prompts = [prompts[i] for i in order]
    if source.share is not None:
        first, end = (round(share * len(prompts)) for share in source.share)
        if first == end:
            raise MpoError(
                f"{field}.share={list(source.share)} holds none of the {len(prompts)} prompts of {source.path!r}; widen it"
            )
        prompts = prompts[first:end]
    return prompts[: source.limit]


def _texts(source: PromptSource, field: str) -> Iterator[str]:
    """One text a row, in the source's order; "" for a row without one."""
    path = find_prompts(source.path)
    if path.suffix == ".txt":
        if not path.is_file():
            raise MpoError(f"{field}={source.path!r} does not exist; give a text file with one prompt a line")
        try:
            yield from path.read_text("utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise MpoError(f"{field}={source.path!r} is not UTF-8 (byte {error.start}); save it as UTF-8") from None
        return
    rows = read_rows(
        str(path) if path.exists() else source.path, split=source.split, revision=source.revision,
        columns=[source.column], field=field,
    )  # fmt: skip
    for row in rows:
        text = row[source.column]
        if text is not None and not isinstance(text, str):
            raise MpoError(
                f"{field}.column={source.column!r} of {source.path!r} holds something other than text; name another column"
            )
        yield text or ""


def read_prompt_sets(settings: Prompts) -> PromptSets:
    """Training, held-out and validation prompts. Near-duplicates are dropped from the first; sharing a prompt is an error.

    The training or validation list is empty if the recipe has none.
    """
    heldout = read_prompts(settings.heldout, field="prompts.heldout")
    validation = read_prompts(settings.validation, field="prompts.validation") if settings.validation else []
    train = read_prompts(settings.train, field="prompts.train") if settings.train else []
    if settings.max_similarity is not None and train:
        train = drop_similar(train, settings.max_similarity, apart_from=[*heldout, *validation], by=settings.similarity)
        if not train:
            raise MpoError(
                f"prompts.max_similarity={settings.max_similarity} leaves no training prompt; raise it, or set it to null"
            )
    sets = [("prompts.train", train), ("prompts.heldout", heldout), ("prompts.validation", validation)]
    for k, (name, prompts) in enumerate(sets):
        for other, others in sets[k + 1 :]:
            require_apart(name, prompts, other, others)
    return train, heldout, validation


def require_apart(name: str, prompts: Sequence[str], other: str, others: Sequence[str]) -> None:
    """Raises MpoError if two sets share a prompt."""
    shared = set(prompts) & set(others)
    if shared:
        raise MpoError(
            f"{other} shares {len(shared)} prompts with {name}, such as {min(shared)!r}; remove them from one of the two"
        )


def drop_similar(
    prompts: Sequence[str], limit: float, *, apart_from: Sequence[str] = (), by: str = "tfidf"
) -> list[str]:
    """The prompts, in order, that are at most `limit` similar (cosine) to every prompt kept before and to `apart_from`.

    arXiv 2412.21059 keeps prompts that are at most 0.8 similar. by: "tfidf" (words and pairs of words, weighted over
    all given) or a text encoder's folder or hub id, whose last hidden states are averaged.
    """
    texts = [*apart_from, *prompts]
    vectors: Any = _words(texts) if by == "tfidf" else embed(texts, by)
    kept = list(range(len(apart_from)))
    for start in range(len(apart_from), len(texts), BLOCK):
        block = vectors[start : start + BLOCK]
        earlier = _dense(block @ vectors[kept].T).max(axis=1, initial=-1.0) if kept else np.full(block.shape[0], -1.0)
        within = _dense(block @ block.T)
        chosen: list[int] = []
        for row in range(block.shape[0]):
            if earlier[row] <= limit and (not chosen or within[row, chosen].max() <= limit):
                chosen.append(row)
        kept += [start + row for row in chosen]
    return [texts[i] for i in kept if i >= len(apart_from)]


def _words(texts: Sequence[str]) -> Any:
    """Sparse (N, D) unit vectors: words and pairs of words."""
    from sklearn.feature_extraction.text import TfidfVectorizer  # late: it takes as long to import as torch

    return TfidfVectorizer(ngram_range=(1, 2)).fit_transform(texts)


def _dense(matrix: Any) -> np.ndarray:
    return matrix.toarray() if hasattr(matrix, "toarray") else np.asarray(matrix)


def embed(texts: Sequence[str], model: str) -> np.ndarray:
    """(N, D) unit vectors: the mean of a text encoder's last hidden states over the tokens of each text."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    offline = is_hub_id(model) and is_offline()
    try:
        tokenizer, encoder = AutoTokenizer.from_pretrained(model), AutoModel.from_pretrained(model).eval()
    except (OSError, ValueError) as error:
        if offline:
            raise OfflineError.of("prompts.similarity", model) from None
        raise MpoError(
            f"prompts.similarity={model!r} cannot be loaded ({first_line(error)}); give 'tfidf', a folder, or a hub id such as sentence-transformers/all-MiniLM-L6-v2"
        ) from None
    vectors = []
    with torch.no_grad():
        for start in range(0, len(texts), 64):
            batch = tokenizer(list(texts[start : start + 64]), padding=True, truncation=True, return_tensors="pt")
            hidden = encoder(**batch).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1)
            vectors.append((hidden * mask).sum(dim=1) / mask.sum(dim=1))
    return torch.nn.functional.normalize(torch.cat(vectors).float(), dim=1).numpy()
