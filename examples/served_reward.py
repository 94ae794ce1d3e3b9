"""The reward from another environment: what a trainer calls, in the standard library and NumPy alone.

    reward serve --judge measured --checklist image &      # in the environment of mpo
    python examples/served_reward.py http://127.0.0.1:8200 # in the trainer's; copy this file there

A failure raises: a trainer that gets 0 for want of an answer learns from it.
"""

import asyncio
import base64
import io
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import numpy as np
from PIL import Image


def ask(url: str, media: Any, prompts: Sequence[str], *, batch_size: int = 64, tries: int = 5) -> list[dict[str, Any]]:
    """Results of N pictures or clips, a batch a request. A service that is busy or not yet there is asked again.

    media: of each item a PIL picture, a uint8 array (H, W, 3) or a tensor (3, H, W) in [0, 1]; or a list of these, a clip of 8
    frames a second. Raises RuntimeError.
    """
    url = url.rstrip("/").removesuffix("/score")
    items = [{"prompt": prompt, **fields(each)} for each, prompt in zip(media, prompts, strict=True)]
    results = []
    for start in range(0, len(items), batch_size):
        body = json.dumps({"items": items[start : start + batch_size]}).encode()
        for attempt in range(tries):
            try:
                with urlopen(
                    Request(f"{url}/score", body, {"Content-Type": "application/json"}), timeout=600
                ) as response:
                    results += json.load(response)["results"]
                break
            except HTTPError as error:
                if error.code != 503 or attempt == tries - 1:
                    raise RuntimeError(f"{url} refused: {json.load(error)['error']}") from None
            except URLError as error:
                if attempt == tries - 1:
                    raise RuntimeError(f"{url} cannot be reached ({error.reason})") from None
            time.sleep(2.0**attempt)
    for k, result in enumerate(results):
        if "error" in result:
            raise RuntimeError(f"item {k} has no score: {result['error']}")
    return results


def fields(item: Any) -> dict[str, Any]:
    if isinstance(item, list):
        return {"frames": [encoded(frame) for frame in item], "fps": 8}
    return {"data": encoded(item)}


def encoded(image: Any) -> str:
    """A picture as a PNG in base64: without loss."""
    if not isinstance(image, Image.Image):
        pixels = np.asarray(image.float().cpu() if hasattr(image, "cpu") else image)
        if pixels.dtype != np.uint8:  # a tensor in [0, 1]
            pixels = (pixels * 255).round().clip(0, 255).astype(np.uint8)
        if pixels.shape[-1] != 3:
            pixels = pixels.transpose(1, 2, 0)
        image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def flow_grpo_score(url: str) -> Any:
    """For flow_grpo and ddpo-pytorch: f(images, prompts, metadata) -> (scores, info)."""

    def score(images: Any, prompts: Sequence[str], metadata: Any = None, **_: Any) -> tuple[np.ndarray, dict]:
        results = ask(url, images, prompts)
        names = results[0]["dimensions"] if results else {}
        dimensions = {name: np.array([each["dimensions"][name] for each in results], np.float32) for name in names}
        return np.array([each["total"] for each in results], np.float32), dimensions

    return score


def trl_reward(url: str) -> Any:
    """For trainers in the style of TRL: f(prompts, images, **columns) -> a list of floats."""

    def visionreward(prompts: Sequence[str], images: Any, **_: Any) -> list[float]:
        return [each["total"] for each in ask(url, images, prompts)]

    return visionreward


async def verl_omni_score(
    data_source: str, solution_image: Any, ground_truth: str, extra_info: dict | None = None, **kwargs: Any
) -> dict[str, float]:
    """For verl-omni: name this file and function as its custom reward function; the address is in $VISIONREWARD_URL.

    solution_image: a PIL picture, or a tensor (3, H, W) in [0, 1]; ground_truth: the prompt.
    """
    [result] = await asyncio.to_thread(ask, os.environ["VISIONREWARD_URL"], [solution_image], [ground_truth])
    return {"score": result["total"], **result["dimensions"]}


def main(url: str = "http://127.0.0.1:8200") -> list[float]:
    pictures = [Image.new("RGB", (64, 64), colour) for colour in ("white", "navy")]
    prompts = ["a red circle on a white background", "a blue star"]
    totals, dimensions = flow_grpo_score(url)(pictures, prompts)
    for name, values in {"total": totals, **dimensions}.items():
        print(name, np.round(values, 3).tolist())
    return totals.tolist()


if __name__ == "__main__":
    main(*sys.argv[1:2])
