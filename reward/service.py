"""The reward over HTTP, for trainers that live in another environment: `reward serve`.

POST /score takes {"items": [item, …]}, where an item is {"prompt": "…", "data": "<base64>"}, a picture or clip in any format that
`reward score` reads; {"prompt": "…", "path": "…"}, a file; or {"prompt": "…", "frames": ["<base64>", …], "fps": 8}, a clip as pictures. It
answers, in the same order,

    {"judge": …, "checklist": …, "dimensions": […], "results": [{"total": 1.2, "dimensions": {…}} or {"error": "…"}, …]}

An item that cannot be scored has an error and no total: nothing is ever scored 0 for want of an answer. A request that cannot be
understood, is too large or comes when too much waits is refused as a whole: 400, 403, 408, 413, 503, each with {"error": "…"}.
GET /health says what judges; GET /metrics is for Prometheus.

Items of all requests wait in one line and are judged in the judge's batches, by one thread: a model serves one at a time.
"""

import asyncio
import base64
import binascii
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import prometheus_client as prometheus
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from reward.errors import JudgeUnavailableError, MediaError, RewardError
from reward.media import Clip, read_image
from reward.reward import Reward


@dataclass(frozen=True)
class Limits:
    """What one client may ask, so that it cannot take the service from the others."""

    max_body_mb: float = 64.0
    max_items: int = 256  # of one request
    max_waiting: int = 4096  # items of all requests, above which more are refused
    read_timeout_s: float = 30.0  # for a request to arrive
    timeout_s: float = 600.0  # for its answer


class RefusedError(Exception):
    """A request that is refused as a whole."""

    def __init__(self, status: int, why: str):
        super().__init__(why)
        self.status = status


@dataclass
class Waiting:
    """An item in the line."""

    media: Any  # bytes, a file, or a clip
    prompt: str
    result: asyncio.Future = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Line:
    """Items of all requests, judged in batches by one thread."""

    def __init__(self, reward: Reward, limits: Limits, metrics: "Metrics"):
        self.reward, self.limits, self.metrics = reward, limits, metrics
        self.queue: asyncio.Queue[Waiting] = asyncio.Queue()

    def join(self, items: list[Waiting]) -> None:
        """Raises RefusedError if too much waits."""
        if self.queue.qsize() + len(items) > self.limits.max_waiting:
            raise RefusedError(503, f"{self.queue.qsize()} items wait already; try again later")
        for item in items:
            self.queue.put_nowait(item)

    async def run(self) -> None:
        """Judge what comes, until cancelled."""
        while True:
            batch = [await self.queue.get()]
            while len(batch) < self.reward.batch_size and not self.queue.empty():
                batch.append(self.queue.get_nowait())
            batch = [item for item in batch if not item.result.done()]  # some have been given up
            if batch:
                await self._judge(batch)

    async def _judge(self, batch: list[Waiting]) -> None:
        media, prompts = [item.media for item in batch], [item.prompt for item in batch]
        start = time.monotonic()
        try:
            scores = await asyncio.to_thread(self.reward.score, media, prompts, on_error="record")
        except JudgeUnavailableError as error:
            found: list[Any] = [RefusedError(503, str(error))] * len(batch)
        except Exception as error:  # anybody's judge
            found = [RefusedError(500, f"the judge failed ({type(error).__name__}: {error})")] * len(batch)
        else:
            names = self.reward.checklist.dimensions
            found = [
                {"error": scores.failures[k]}
                if k in scores.failures
                else {"total": float(total), "dimensions": dict(zip(names, map(float, row), strict=True))}
                for k, (total, row) in enumerate(zip(scores.total, scores.dimensions, strict=True))
            ]
        self.metrics.seconds.observe(time.monotonic() - start)
        for item, result in zip(batch, found, strict=True):
            failed = isinstance(result, RefusedError) or "error" in result
            self.metrics.items.labels("failed" if failed else "scored").inc()
            if item.result.done():
                continue
            if isinstance(result, RefusedError):
                item.result.set_exception(result)
            else:
                item.result.set_result(result)


class Metrics:
    """What Prometheus reads."""

    def __init__(self, waiting: Callable[[], float]):
        self.registry = prometheus.CollectorRegistry()
        self.requests = prometheus.Counter("reward_requests", "Requests.", ["status"], registry=self.registry)
        self.items = prometheus.Counter("reward_items", "Items judged.", ["outcome"], registry=self.registry)
        self.seconds = prometheus.Histogram("reward_batch_seconds", "Judging a batch.", registry=self.registry)
        prometheus.Gauge("reward_waiting_items", "Items in the line.", registry=self.registry).set_function(waiting)


def service(reward: Reward, *, root: Path | None = None, limits: Limits | None = None) -> Starlette:
    """The ASGI application. root: the folder under which items may be named by path; None = none may."""
    limits = limits or Limits()
    metrics = Metrics(lambda: line.queue.qsize())
    line = Line(reward, limits, metrics)
    described = {  # once: a model's fingerprint is a digest over its vocabulary and weights
        "judge": reward.fingerprint,
        "checklist": reward.checklist.fingerprint,
        "kind": reward.checklist.kind,
        "dimensions": list(reward.checklist.dimensions),
    }

    async def score(request: Request) -> Response:
        try:
            body = await read_body(request, limits)
            # In a thread: frames are decoded, and others wait for the loop.
            items = [Waiting(*each) for each in await asyncio.to_thread(parse, body, root, limits)]
            line.join(items)
            results = await asyncio.wait_for(asyncio.gather(*(item.result for item in items)), limits.timeout_s)
        except RefusedError as refusal:
            return answered(refusal.status, {"error": str(refusal)})
        except asyncio.TimeoutError:
            return answered(504, {"error": f"no answer within {limits.timeout_s:g} s; send fewer items at a time"})
        except ClientDisconnect:
            return answered(499, {"error": "the client hung up"})
        return answered(200, described | {"results": results})

    def answered(status: int, content: dict[str, Any]) -> Response:
        metrics.requests.labels(str(status)).inc()
        return JSONResponse(content, status, headers={"Retry-After": "1"} if status == 503 else None)

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok", "waiting_items": line.queue.qsize()} | described)

    async def read_metrics(request: Request) -> Response:
        return Response(prometheus.generate_latest(metrics.registry), media_type="text/plain; version=0.0.4")

    @asynccontextmanager
    async def running(app: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(line.run())
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    routes = [
        Route("/score", score, methods=["POST"]),
        Route("/health", health),
        Route("/metrics", read_metrics),
    ]
    return Starlette(routes=routes, lifespan=running)


async def read_body(request: Request, limits: Limits) -> bytes:
    """Raises RefusedError for a body that is too large, or too slow."""
    limit = int(limits.max_body_mb * 1e6)

    async def read() -> bytes:
        body, size = bytearray(), 0
        async for chunk in request.stream():
            size += len(chunk)
            if size <= limit:
                body += chunk
        if size > limit:  # only now: who is refused while still sending sees a broken pipe, and no reason
            raise RefusedError(413, f"the body has more than {limits.max_body_mb:g} MB; send fewer items at a time")
        return bytes(body)

    try:
        return await asyncio.wait_for(read(), limits.read_timeout_s)
    except asyncio.TimeoutError:
        raise RefusedError(408, f"the request did not arrive within {limits.read_timeout_s:g} s") from None


def parse(body: bytes, root: Path | None, limits: Limits) -> list[tuple[Any, str]]:
    """(media, prompt) of each item of a request. Raises RefusedError if it is not what `/score` takes."""
    try:
        request = json.loads(body)
        items = request["items"]
        assert isinstance(items, list)
    except (ValueError, KeyError, TypeError, AssertionError, RecursionError):
        raise RefusedError(
            400, 'the body is not JSON such as {"items": [{"prompt": "a cat", "data": "<base64>"}]}'
        ) from None
    if not 1 <= len(items) <= limits.max_items:
        raise RefusedError(413 if items else 400, f"{len(items)} items; send 1 to {limits.max_items} at a time")
    return [_item(k, item, root) for k, item in enumerate(items)]


def _item(k: int, item: Any, root: Path | None) -> tuple[Any, str]:
    match item:
        case {"data": str(data), **rest} if rest.keys() <= {"prompt"}:
            media: Any = _decoded(data, k)
        case {"path": str(path), **rest} if rest.keys() <= {"prompt"}:
            media = _under(root, path, k)
        case {"frames": [str(), *_], **rest} if rest.keys() <= {"prompt", "fps"}:
            media = _clip(item["frames"], rest.get("fps", 8.0), k)
        case _:
            media, rest = None, {}
    prompt = rest.get("prompt", "")
    if media is None or not isinstance(prompt, str):
        raise RefusedError(
            400, f'item {k} is not a text "prompt" with one of: "data", base64; "path"; "frames", base64, and "fps"'
        )
    return media, prompt


def _decoded(data: str, k: int) -> bytes:
    encoded = data.partition(";base64,")[2] if data.startswith("data:") else data
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise RefusedError(400, f"item {k}: data is not base64") from None


def _clip(frames: list[str], fps: Any, k: int) -> Any:
    """A clip of pictures of one size; a list of bytes if one cannot be read, which the reward then says of this item alone."""
    if isinstance(fps, bool) or not isinstance(fps, (int, float)) or not 0 < fps < 1e6:
        raise RefusedError(400, f"item {k}: fps={fps!r} is not possible; give frames a second, above 0")
    if not all(isinstance(frame, str) for frame in frames):
        raise RefusedError(400, f"item {k}: frames are not all base64")
    pictures = [_decoded(frame, k) for frame in frames]
    try:
        pixels = np.stack([np.asarray(read_image(each)) for each in pictures])
    except (MediaError, ValueError):
        return pictures
    return Clip(pixels, times_s=np.arange(len(pictures)) / fps)


def _under(root: Path | None, path: str, k: int) -> Path:
    """A file under the root, links followed. Raises RefusedError for any other, whether it exists or not."""
    if root is None:
        raise RefusedError(403, f"item {k} names a path; this service takes data alone (reward serve --root FOLDER)")
    with suppress(ValueError, OSError):  # a null byte, a loop of links
        file = (root.resolve() / path).resolve()
        if file.is_relative_to(root.resolve()):
            return file
    raise RefusedError(403, f"item {k}: {path!r} is not under the service's root")


def serve(
    reward: Reward, *, host: str, port: int, root: Path | None, limits: Limits, say: Callable[[str], None]
) -> None:
    """Serve until interrupted. say: where the address is printed. Raises RewardError if it cannot be had."""
    import uvicorn

    config = uvicorn.Config(
        service(reward, root=root, limits=limits), host, port, log_level="warning", timeout_keep_alive=30,
        timeout_graceful_shutdown=10,
    )  # fmt: skip
    try:
        socket = config.bind_socket()
    except SystemExit:
        raise RewardError(f"--host={host} --port={port} cannot be listened at; give another port") from None
    socket.listen(config.backlog)  # from here on, who connects waits and is not refused
    say(f"{reward.fingerprint} judges at http://{host}:{socket.getsockname()[1]} (POST /score)")
    uvicorn.Server(config).run(sockets=[socket])
