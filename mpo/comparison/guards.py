"""What tuning may cost without any judge seeing it: the variety among seeds, and the motion of clips.

Values are those of base and of tuned for the same prompts; a guard is their ratio, with an interval over prompts.
"""

from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from reward.checklist import Kind
from reward.media import Clip, Sampling, read_media

SIDE = 32  # pixels: layout and colour, not grain
FRAMES = Sampling(max_frames=81)
FASTEST = 0.05  # the share of pixels whose motion counts, as in VBench's dynamic degree (arXiv 2311.17982)


def guards(
    files: Sequence[Path], kind: Kind, *, num_seeds: int, num_bootstrap: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Files of base followed by those of tuned, each prompt by prompt, `num_seeds` of each -> guard's name -> its `ratio_of`.

    diversity: mean colour difference among the seeds of a prompt; only with two seeds or more. motion: of clips. Of a single
    prompt there is none, as nothing would be known of the interval.
    """
    if len(files) == 2 * num_seeds:
        return {}
    measures: dict[str, Callable[[Sequence[Any]], float]] = {}
    if num_seeds > 1:
        measures["diversity"] = diversity
    if kind == "video":
        measures["motion"] = lambda clips: float(np.mean([motion(clip) for clip in clips]))
    if not measures:
        return {}
    values: dict[str, list[float]] = {name: [] for name in measures}
    for start in range(0, len(files), num_seeds):
        media = [read_media(file, kind, sampling=FRAMES) for file in files[start : start + num_seeds]]
        for name, measure in measures.items():
            values[name].append(measure(media))
    return {
        name: ratio_of(*np.reshape(found, (2, -1)), num_bootstrap=num_bootstrap, seed=seed)
        for name, found in values.items()
    }


def diversity(media: Sequence[Image.Image | Clip]) -> float:
    """Mean CIELAB difference (CIE 1976; 2.3 is just noticeable) between the pictures of a prompt, over all pairs of them.

    Pictures are compared pixel by pixel at 32x32, clips by their first, middle and last frame.
    """
    small = [_small_lab(each) for each in media]
    return float(np.mean([np.linalg.norm(a - b, axis=-1).mean() for a, b in combinations(small, 2)]))


def motion(clip: Clip) -> float:
    """How fast the fastest twentieth of a clip's pixels moves, in shorter sides a second: Farnebäck's optical flow between frames.

    0 for a clip of one frame. Flicker without motion counts a little, as in any optical flow.
    """
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in clip.frames]
    side, speeds = min(clip.frames.shape[1:3]), []
    for first, second, taken_s in zip(grey, grey[1:], np.diff(clip.times_s), strict=False):
        flow = cv2.calcOpticalFlowFarneback(first, second, None, 0.5, 3, 15, 3, 5, 1.2, 0)  # type: ignore[call-overload]
        lengths = np.sort(np.linalg.norm(flow, axis=-1).ravel())
        fastest = lengths[-max(1, round(FASTEST * len(lengths))) :]
        speeds.append(fastest.mean() / side / max(taken_s, 1e-6))
    return float(np.mean(speeds)) if speeds else 0.0


def ratio_of(base: np.ndarray, tuned: np.ndarray, *, num_bootstrap: int, seed: int) -> dict[str, Any]:
    """Values of P prompts (P,) of each model -> tuned's mean over base's, with a 95 % interval by bootstrap over prompts.

    The ratio of 0 to 0 is 1.
    """
    draws = np.random.default_rng(seed).integers(len(base), size=(num_bootstrap, len(base)))
    ratios = _ratio(tuned[draws].mean(axis=1), base[draws].mean(axis=1))
    low, high = np.percentile(ratios, [2.5, 97.5])
    return {
        "base_mean": float(base.mean()),
        "tuned_mean": float(tuned.mean()),
        "ratio": float(_ratio(tuned.mean(), base.mean())),
        "ci95": [float(low), float(high)],
        "num_prompts": len(base),
    }


def _ratio(tuned: Any, base: Any) -> Any:
    tiny = 1e-12
    return (tuned + tiny) / (base + tiny)


def _small_lab(item: Image.Image | Clip) -> np.ndarray:
    """(F, 32, 32, 3) CIELAB: L from 0 to 100."""
    if isinstance(item, Clip):
        last = len(item.frames) - 1
        frames = [item.frames[k] for k in (0, last // 2, last)]
    else:
        frames = [np.asarray(item)]
    shrunk = [cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for frame in frames]
    return np.stack([cv2.cvtColor(frame.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) for frame in shrunk])
