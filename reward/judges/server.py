"""The server judge: an OpenAI-compatible endpoint (vLLM, SGLang …) gives the logprobs of its first answer token.

This scales scoring beyond one machine. The picture comes first in every request and the question last, so that a
server that caches prefixes computes the picture once. vLLM is asked for the logprobs of the yes and no tokens by id;
other servers are asked for their likeliest tokens. A clip is sent as its frames, each after words that say its time.
"""

import base64
import io
import logging
import math
import os
import time
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import openai
from PIL import Image

from reward.checklist import Kind, Question
from reward.errors import JudgeError, JudgeUnavailableError
from reward.judges import AnswersAnything
from reward.judges.options import TEMPLATE, check_options
from reward.media import Media, Sampling

SPELLINGS = {word: [space + case for space in ("", " ") for case in (word, word.capitalize(), word.upper())] for word in ("yes", "no")}  # fmt: skip
TOP_LOGPROBS = 20  # the protocol's maximum
MIN_MASS = 1e-3  # as in reward.judges.yes_no
REST_S = 60.0  # how long to skip an endpoint that did not answer, if others answer
MAX_ERROR = 0.01  # of p_yes, if only one of yes and no is among the likeliest tokens
FRAME_AT = "Frame at {:g} s:"  # before each frame of a clip: when it is shown, from the first one on

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Endpoint:
    """A server that has been found to answer."""

    url: str
    client: openai.OpenAI
    yes_ids: tuple[int, ...]  # tokens that it can be asked about by id; empty = it cannot be asked by id
    no_ids: tuple[int, ...]


class ServerJudge(AnswersAnything):
    """Asks one or several endpoints that serve the same model."""

    kinds: tuple[Kind, ...] = ("image", "video")

    def __init__(
        self,
        base_urls: str | Sequence[str],
        model: str | None = None,
        *,
        api_key: str | None = None,
        template: str = TEMPLATE,
        concurrency: int = 16,
        timeout_s: float = 120.0,
        max_retries: int = 5,
        num_frames: int = 8,
        batch_size: int = 16,
    ):
        """Options: see `reward.judges.options.ServerOptions`.

        A request is tried again after growing pauses (or those that the server asks for); then the other endpoints are
        tried. Raises JudgeUnavailableError if no endpoint can be reached, JudgeError if an option is invalid or an
        endpoint does not serve the model.
        """
        counts = {"concurrency": concurrency, "num_frames": num_frames, "batch_size": batch_size}
        patience = {"timeout_s": timeout_s, "max_retries": max_retries}
        names = {"base_urls": base_urls, "model": model, "api_key": api_key, "template": template}
        check_options("server", {**names, **counts, **patience})
        urls = [base_urls] if isinstance(base_urls, str) else list(base_urls)
        self.template, self.concurrency, self.batch_size = template, concurrency, batch_size
        self.sampling = Sampling(max_frames=num_frames)
        clients = [
            openai.OpenAI(
                base_url=url, api_key=api_key or _key_of_environment(), timeout=timeout_s, max_retries=max_retries
            )
            for url in urls
        ]
        self._close = weakref.finalize(self, _close, clients)  # also of a judge that nobody closes
        self.endpoints: list[Endpoint] = []
        self._rests_until_s: dict[str, float] = {}  # endpoints that did not answer, and when to try them again
        failures: list[JudgeUnavailableError] = []
        for url, client in zip(urls, clients, strict=True):
            try:
                model = _model_of(url, _models(client), model)
                self.endpoints.append(_examine(client, model))
            except JudgeError as error:
                client.close()
                if not isinstance(error, JudgeUnavailableError):
                    self.close()
                    raise
                failures.append(error)
        if failures and not self.endpoints:
            raise failures[-1]
        for failure in failures:
            logger.warning("%s; continuing without it", failure)
        assert model is not None
        self.model = model

    def close(self) -> None:
        """Closes the connections. `with ServerJudge(…) as judge` does so at its end."""
        self._close()

    def __enter__(self) -> "ServerJudge":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def fingerprint(self) -> str:
        """The model's name as served, the template and the frames. A client cannot see which weights the name stands for."""
        return f"server:{self.model}:{self.template}:{self.sampling.max_frames}:{FRAME_AT}"

    def answer(self, media: Sequence[Media], prompts: Sequence[str], questions: Sequence[Question]) -> np.ndarray:
        """(N, Q) float64: see `Judge.answer`. All questions about an item go to one endpoint, which then has its prefix cached."""
        contents = [_content(item) for item in media]
        p_yes = np.empty((len(media), len(questions)))

        def ask(row: int, column: int) -> None:
            words = self.template.replace("{question}", questions[column].ask(prompts[row]))
            p_yes[row, column] = self._ask([*contents[row], {"type": "text", "text": words}], first=row)

        with ThreadPoolExecutor(self.concurrency) as pool:
            # The first question goes alone, so that the others find the prefix in the server's cache.
            for columns in (range(1), range(1, len(questions))):
                tasks = [pool.submit(ask, row, column) for row in range(len(media)) for column in columns]
                try:
                    for task in tasks:
                        task.result()
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise
        return p_yes

    def _ask(self, content: list[dict[str, Any]], *, first: int) -> float:
        """From the item's own endpoint, or from another if that does not answer; it is then skipped for REST_S."""
        turn = [self.endpoints[(first + i) % len(self.endpoints)] for i in range(len(self.endpoints))]
        turn.sort(key=lambda endpoint: self._rests_until_s.get(endpoint.url, 0.0) > time.monotonic())
        failure: JudgeUnavailableError | None = None
        for endpoint in turn:
            try:
                return _p_yes(endpoint, self.model, content)
            except JudgeUnavailableError as error:
                self._rests_until_s[endpoint.url] = time.monotonic() + REST_S
                failure = error
        assert failure is not None
        raise failure


def _key_of_environment() -> str:
    return os.environ.get("OPENAI_API_KEY", "none")  # the client refuses an empty one; most local servers need none


def _model_of(url: str, served: Sequence[str], model: str | None) -> str:
    if model is None:
        if len(served) != 1:
            raise JudgeError(f"{url} serves {len(served)} models; give model=, one of: {', '.join(served)}")
        return served[0]
    if model not in served:
        raise JudgeError(f"{url} does not serve model={model!r}; it serves: {', '.join(served)}")
    return model


def _models(client: openai.OpenAI) -> list[str]:
    return sorted(model.id for model in _asking(client, lambda: client.models.list()))


def _asking(client: openai.OpenAI, request, *, num_frames: int = 0) -> Any:
    """A request's result. Raises JudgeUnavailableError if the endpoint is at fault, JudgeError if the request is.

    num_frames: of the clip that is asked about; 0 = none. Servers limit pictures and tokens, in words of their own.
    """
    try:
        return request()
    except (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError) as error:
        raise JudgeUnavailableError(
            f"{client.base_url} does not answer ({_said(error)}), after {client.max_retries} retries; check that the server runs, or raise timeout_s"
        ) from error
    except openai.AuthenticationError as error:
        raise JudgeUnavailableError(f"{client.base_url} refuses the key ({_said(error)}); give api_key=") from error
    except openai.APIStatusError as error:
        fewer = f", or send fewer than {num_frames} frames: num_frames={num_frames // 2}" if num_frames > 1 else ""
        raise JudgeError(
            f"{client.base_url} refuses the request ({_said(error)}); correct what it names{fewer}"
        ) from error


def _said(error: openai.APIError) -> str:
    return str(error).splitlines()[0][:300]


def _examine(client: openai.OpenAI, model: str) -> Endpoint:
    """Finds out how to ask an endpoint: by token ids if possible (vLLM), else for its likeliest tokens.

    Ids come from the server's own tokenizer (POST /tokenize at the root). Only an answer shows whether the server
    honours them: one that does not know the field ignores it silently.
    """
    url = str(client.base_url).rstrip("/")
    ids: dict[str, tuple[int, ...]] = {"yes": (), "no": ()}
    try:
        root = url.removesuffix("/v1")
        once = client.with_options(max_retries=0)
        for word, spellings in SPELLINGS.items():
            found = []
            for text in spellings:
                asked = {"model": model, "prompt": text, "add_special_tokens": False}
                answer: Any = once.post(f"{root}/tokenize", cast_to=object, body=asked)
                tokens = answer["tokens"]
                found += tokens if len(tokens) == 1 else []
            ids[word] = tuple(sorted(set(found)))
    except (openai.APIError, ValueError, KeyError, TypeError):
        return Endpoint(url, client, (), ())
    by_id = Endpoint(url, client, ids["yes"], ids["no"])
    if not all(ids.values()):
        return Endpoint(url, client, (), ())
    try:
        answer = _asking(client, lambda: _request(by_id, model, [{"type": "text", "text": "Is water wet?"}]))
        _logprobs_by_id(answer, by_id)
    except JudgeUnavailableError:
        raise
    except (JudgeError, KeyError):
        return Endpoint(url, client, (), ())
    return by_id


def _request(endpoint: Endpoint, model: str, content: list[dict[str, Any]]) -> Any:
    extra: dict[str, Any] = {}
    if endpoint.yes_ids:
        # By id in every request, never only in some: vLLM 0.32 mixes up a batch of both kinds.
        extra = {"logprob_token_ids": [*endpoint.yes_ids, *endpoint.no_ids], "return_tokens_as_token_ids": True}
    message: Any = {"role": "user", "content": content}
    return endpoint.client.chat.completions.create(
        model=model,
        messages=[message],
        max_tokens=1,
        temperature=0.0,
        logprobs=True,
        top_logprobs=TOP_LOGPROBS,
        extra_body=extra,
    )


def _p_yes(endpoint: Endpoint, model: str, content: list[dict[str, Any]]) -> float:
    num_pictures = sum(part["type"] == "image_url" for part in content)
    answer = _asking(endpoint.client, lambda: _request(endpoint, model, content), num_frames=num_pictures)
    if endpoint.yes_ids:
        try:
            logprobs = _logprobs_by_id(answer, endpoint)
        except KeyError as error:
            raise JudgeError(
                f"{endpoint.url} left out the logprob of token {error}, which was asked for; use a vLLM that honours logprob_token_ids"
            ) from error
        yes = sum(math.exp(logprobs[i]) for i in endpoint.yes_ids)
        no = sum(math.exp(logprobs[i]) for i in endpoint.no_ids)
    else:
        yes, no = _likeliest(answer, endpoint)
    if not yes + no >= MIN_MASS:
        raise JudgeError(
            f"{endpoint.url}: yes and no have a probability of {yes + no:.2g} together, so the model is not answering; reword the template or serve a model that follows instructions"
        )
    return yes / (yes + no)


def _first_token(answer: Any, endpoint: Endpoint) -> Any:
    logprobs = answer.choices[0].logprobs if answer.choices else None
    if logprobs is None or not logprobs.content:
        raise JudgeError(
            f"{endpoint.url} returns no logprobs (`transformers serve` does not); serve the model with vLLM or SGLang"
        )
    return logprobs.content[0]


def _logprobs_by_id(answer: Any, endpoint: Endpoint) -> dict[int, float]:
    """Token id -> logprob. Raises KeyError if the answer lacks an id that was asked for."""
    entries = {entry.token: entry.logprob for entry in _first_token(answer, endpoint).top_logprobs}
    return {i: entries[f"token_id:{i}"] for i in (*endpoint.yes_ids, *endpoint.no_ids)}


def _likeliest(answer: Any, endpoint: Endpoint) -> tuple[float, float]:
    """P(yes) and P(no) out of the likeliest tokens. Raises JudgeError if p_yes cannot be known from them."""
    first = _first_token(answer, endpoint)
    mass = {"yes": 0.0, "no": 0.0}
    for entry in first.top_logprobs:
        word = entry.token.strip().lower()
        if word in mass:
            mass[word] += math.exp(entry.logprob)
    least = min((math.exp(entry.logprob) for entry in first.top_logprobs), default=1.0)
    if not any(mass.values()):
        raise JudgeError(
            f"{endpoint.url} answered {first.token!r}, with neither yes nor no among its {len(first.top_logprobs)} likeliest tokens; reword the template or serve a model that follows instructions"
        )
    known = max(mass.values())
    if not all(mass.values()) and least / (least + known) > MAX_ERROR:
        missing = min(mass, key=lambda word: mass[word])
        raise JudgeError(
            f"{endpoint.url} answered {first.token!r} and does not say how likely {missing!r} is, which may be up to {least:.2g}; reword the template, or use vLLM, which can be asked by token"
        )
    return mass["yes"], mass["no"]


def _content(item: Media) -> list[dict[str, Any]]:
    if isinstance(item, Image.Image):
        return [_picture(item)]
    parts = []
    for frame, since_s in zip(item.frames, item.times_s - item.times_s[0], strict=True):
        parts += [{"type": "text", "text": FRAME_AT.format(round(since_s, 2))}, _picture(Image.fromarray(frame))]
    return parts


def _picture(image: Image.Image) -> dict[str, Any]:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")  # lossless: the judge sees what any other judge sees
    url = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    return {"type": "image_url", "image_url": {"url": url}}


def describe(judge: ServerJudge) -> list[tuple[str, str, str]]:
    """(url, model, how it is asked) of each endpoint, for `reward serve-check`."""
    how = {True: "logprobs of the yes and no tokens by id", False: f"its {TOP_LOGPROBS} likeliest tokens"}
    return [(endpoint.url, judge.model, how[bool(endpoint.yes_ids)]) for endpoint in judge.endpoints]


def _close(clients: Sequence[openai.OpenAI]) -> None:
    for client in clients:
        client.close()
