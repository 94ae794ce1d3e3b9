"""Human judgements from local files: preferences between two items, and checklist answers about one.

Each reader takes a file or folder as its publisher ships it, already downloaded. Paths inside are relative to `root`.
Each reader describes its format.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from reward.checklist import Checklist, Kind, load_checklist
from reward.media import MediaLike
from reward.preference_rows import PreferenceError, Row, read_lines_that_stand, read_rows


@dataclass(frozen=True)
class Preference:
    """Which of two items people prefer."""

    prompt: str
    a: MediaLike
    b: MediaLike
    preferred: float  # 1 = a, 0 = b, 1/2 = a tie
    group: str  # pairs of one group are not independent: they share a prompt
    dimensions: Mapping[str, float] = field(default_factory=dict)  # the same by dimension, if known


@dataclass(frozen=True)
class Annotation:
    """People's checklist answers about one item."""

    prompt: str
    media: MediaLike
    answers: Mapping[str, bool]  # question id -> yes
    group: str


def read_preferences(
    path: str | Path, format: str, *, root: str | Path | None = None, limit: int | None = None
) -> list[Preference]:
    """Preferences from a file in one of `PREFERENCE_FORMATS`, or from a folder of .parquet files (jsonl: of .jsonl files).

    root: for relative paths; None = the file's folder. limit: only so many, the first ones; rows behind them are not read, but
    in jsonl, where a later row may correct an earlier one. Raises PreferenceError, naming file and row, if something is
    missing or unknown.
    """
    if format not in PREFERENCE_FORMATS:
        raise PreferenceError(f"format={format!r} is unknown; formats: {', '.join(PREFERENCE_FORMATS)}")
    path, root = Path(path), Path(root) if root else None
    found = []
    for row in _rows(path, format, root):
        try:
            found += PREFERENCE_FORMATS[format](row.fields, row.folder)
        except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
            reason = f"has no field {error}" if isinstance(error, KeyError) else str(error)
            raise PreferenceError(f"{row.where}: {reason}; is it of format {format!r}?") from error
        if limit is not None and len(found) >= limit:
            break
    found = found[:limit]
    for preference in found:
        if not isinstance(preference.prompt, str):
            raise PreferenceError(f"{path}: prompt {preference.prompt!r} is not text; correct the file")
    if not found:
        raise PreferenceError(f"{path} holds no preference of format {format!r}")
    return found


def _rows(path: Path, format: str, root: Path | None) -> Iterator[Row]:
    if format == "jsonl" and not (path.is_dir() and any(path.glob("*.parquet"))):
        return read_lines_that_stand(path, root)
    rows = _by_prompt(read_rows(path)) if format == "imagerewarddb" else read_rows(path)
    return (Row(row, f"{path}, row {number}", root or path.parent) for number, row in enumerate(rows))


def _own(row: Mapping[str, Any], root: Path) -> Iterator[Preference]:
    """{"prompt", "a", "b", "preferred": "a" | "b" | "tie", "dimensions": {name: "a" | "b" | "tie"}}; the last is optional.

    Optional, too: "id", and "replaces" in a row that corrects another; "a_sha256" and "b_sha256", so that the row is left out
    once a file has changed.
    """
    dimensions = {name: _choice(value) for name, value in (row.get("dimensions") or {}).items()}
    a, b = _media(row["a"], root), _media(row["b"], root)
    yield Preference(row["prompt"], a, b, _choice(row["preferred"]), row["prompt"], dimensions)


def _visionrewarddb(row: Mapping[str, Any], root: Path) -> Iterator[Preference]:
    """VisionRewardDB-Video, regression and test: prompt, standard_answer (video1, video2, tie), video1_path, video2_path.

    "image" instead of "video" works too.
    """
    kind = "video" if "video1_path" in row else "image"
    preferred = {f"{kind}1": 1.0, f"{kind}2": 0.0, "tie": 0.5}[row["standard_answer"]]
    a, b = _media(row[f"{kind}1_path"], root), _media(row[f"{kind}2_path"], root)
    yield Preference(row["prompt"], a, b, preferred, row["prompt"])


def _genai_bench(row: Mapping[str, Any], root: Path) -> Iterator[Preference]:
    """GenAI-Bench: prompt, vote_type, left_image and right_image, or left_video and right_video. Both bad is a tie."""
    preferred = {"leftvote": 1.0, "rightvote": 0.0, "tievote": 0.5, "bothbad_vote": 0.5}[row["vote_type"]]
    kind = "video" if "left_video" in row else "image"
    a, b = _media(row[f"left_{kind}"], root), _media(row[f"right_{kind}"], root)
    yield Preference(row["prompt"], a, b, preferred, row["prompt"])


def _hpdv2(row: Mapping[str, Any], root: Path) -> Iterator[Preference]:
    """HPDv2: image_path and rank (lower is better), or file_path and human_preference (1 is preferred), one a picture."""
    files = row.get("image_path") or row["file_path"]
    better = [-rank for rank in row["rank"]] if "rank" in row else row["human_preference"]
    if len(files) != len(better):
        raise ValueError(f"{len(files)} pictures but {len(better)} ranks")
    yield from _all_pairs(row["prompt"], [_media(file, root) for file in files], better)


def _pickapic(row: Mapping[str, Any], root: Path) -> Iterator[Preference]:
    """Pick-a-Pic 1 and 2: caption, jpg_0 and jpg_1 (bytes), label_0 (1, 0, 0.5 = tie); rows without a label are left out."""
    if row.get("has_label", True):
        a, b = _media(row["jpg_0"], root), _media(row["jpg_1"], root)
        yield Preference(row["caption"], a, b, _probability(row["label_0"]), row["caption"])


def _imagerewarddb(row: Mapping[str, Any], root: Path) -> Iterator[Preference]:
    """ImageRewardDB: a picture a row, with prompt_id, prompt, image_path and rank (1 is best); see `_by_prompt`."""
    files = [_media(file, root) for file in row["image_path"]]
    yield from _all_pairs(row["prompt"], files, [-rank for rank in row["rank"]])


def _by_prompt(rows: Iterator[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """One row for each prompt_id, with lists of image_path and rank."""
    prompts: dict[Any, dict[str, Any]] = {}
    for row in rows:
        whole = prompts.setdefault(row["prompt_id"], {"prompt": row["prompt"], "image_path": [], "rank": []})
        whole["image_path"].append(row["image_path"])
        whole["rank"].append(row["rank"])
    yield from prompts.values()


PREFERENCE_FORMATS: dict[str, Callable[[Mapping[str, Any], Path], Iterator[Preference]]] = {
    "jsonl": _own,
    "visionrewarddb": _visionrewarddb,
    "genai-bench": _genai_bench,
    "hpdv2": _hpdv2,
    "imagerewarddb": _imagerewarddb,
    "pickapic": _pickapic,
}


def _all_pairs(
    prompt: str, media: Sequence[MediaLike], better: Sequence[float] | Sequence[int]
) -> Iterator[Preference]:
    for i, j in combinations(range(len(media)), 2):
        preferred = 0.5 if better[i] == better[j] else float(better[i] > better[j])
        yield Preference(prompt, media[i], media[j], preferred, prompt)


def read_annotations(
    path: str | Path, kind: Kind, *, root: str | Path | None = None, checklist: Checklist | None = None
) -> list[Annotation]:
    """Checklist answers from a file in VisionRewardDB's layout, or this project's own.

    VisionRewardDB: image or video_path, prompt, and meta_result with meta_mask (0/1, one for each published question
    in order; those with mask 0 are left out), or else `annotation`, levels by sub-dimension (see `answers_of_level`).
    Own: {"prompt", "media", "answers": {question id: true | false}}.
    checklist: the answers get the ids of its questions; None = the built-in one of the kind. Raises PreferenceError.
    """
    checklist = checklist or load_checklist(kind)
    path = Path(path)
    folder = Path(root) if root else path.parent
    found = []
    for number, row in enumerate(read_rows(path)):
        try:
            answers = row.get("answers") or _published_answers(row, checklist)
            unknown = set(answers) - set(checklist.question_ids)
            if unknown:
                raise ValueError(f"questions {sorted(unknown)} are not in checklist {checklist.name!r}")
            media = next(row[key] for key in ("media", "image", "video_path", "video") if row.get(key) is not None)
            prompt = row.get("prompt") or ""
            found.append(
                Annotation(
                    prompt, _media(media, folder), {k: bool(v) for k, v in answers.items()}, prompt or str(number)
                )
            )
        except (AttributeError, KeyError, StopIteration, TypeError, ValueError) as error:
            reason = "no media, image, video_path or video" if isinstance(error, StopIteration) else error
            raise PreferenceError(f"{path}, row {number}: {reason}; see reward.preferences for the layouts") from error
    if not found:
        raise PreferenceError(f"{path} holds no row")
    return found


def _published_answers(row: Mapping[str, Any], checklist: Checklist) -> dict[str, bool]:
    published = [q.id for q in checklist if not q.continuous]
    results = row.get("meta_result")
    if results is not None:
        mask = row.get("meta_mask") or [1] * len(results)
        if not len(results) == len(mask) == len(published):
            raise ValueError(
                f"meta_result has {len(results)} and meta_mask {len(mask)} entries; checklist {checklist.name!r} has {len(published)} questions"
            )
        return {i: bool(result) for i, result, used in zip(published, results, mask, strict=True) if used}
    answers: dict[str, bool] = {}
    for sub in checklist.subdimensions:
        if sub.name not in LEVELS[checklist.kind] or any(q.gate for q in sub.questions):
            continue
        words = sub.name.replace("_", " ")
        level = row["annotation"].get(words, row["annotation"].get(ANNOTATED_AS.get(words)))
        gate = sub.questions[0].gate_id
        if level is None:
            continue
        if gate is not None:
            answers[gate] = level != 0
        if gate is None or level != 0:
            yes = answers_of_level(level, *LEVELS[checklist.kind][sub.name], absent=None if gate is None else 0)
            if len(yes) == len(sub.questions):  # some have fewer published questions than steps
                answers |= dict(zip((q.id for q in sub.questions), yes, strict=True))
    return answers


# Lowest and highest level of each sub-dimension (arXiv 2412.21059, annotation guidelines). For body, face and hands, 0
# is read as "there is none": without it, each has one step more than published questions.
LEVELS: dict[Kind, dict[str, tuple[int, int]]] = {
    "image": {
        "symmetry": (-1, 1), "object_pairing": (-1, 1), "main_object": (-1, 1), "color_brightness": (-1, 1),
        "color_aesthetic": (-1, 1), "richness": (-2, 2), "clarity": (-2, 2), "emotion": (-2, 2), "background": (-1, 2),
        "lighting_distinction": (-1, 2), "lighting_aesthetic": (-1, 2), "detail_realism": (-3, 1), "safety": (-3, 1),
        "detail_refinement": (-4, 2), "body": (-4, 1), "hands": (-4, 1), "face": (-3, 2),
    },
    "video": {
        "alignment": (1, 5), "color": (1, 5), "lighting_aesthetic": (1, 5), "object_motion": (1, 5),
        "camera_motion": (1, 5), "clear": (1, 5), "image_quality_stability": (1, 5), "detail_refinement": (1, 5),
        "physics_law": (1, 5), "safety": (1, 5), "composition": (1, 3), "focus": (1, 3), "camera_movement": (1, 3),
        "camera_stability": (1, 3), "lighting_accurate": (1, 4), "letters": (1, 4), "shape_at_beginning": (0, 3),
        "shape_throughout": (0, 4), "movement_smoothness": (0, 4), "movement_reality": (0, 4),
    },
}  # fmt: skip
ANNOTATED_AS = {  # where VisionRewardDB uses another name for a sub-dimension
    "object motion": "object motion dynamic",
    "camera motion": "camera motion dynamic",
    "lighting aesthetic": "lighting aes",
    "detail realism": "detail reality",
}


def answers_of_level(level: int, lowest: int, highest: int, *, absent: int | None = None) -> list[bool]:
    """K ordered levels -> K-1 answers, strictest question first: the question for level k is yes if level >= k.

    absent: a level that means "there is none" and is not a step of the scale, like 0 for body, face and hands.
    Raises ValueError for a level outside [lowest, highest], and for `absent` itself.
    """
    steps = [step for step in range(lowest, highest + 1) if step != absent]
    if level not in steps:
        raise ValueError(
            f"level {level} is outside [{lowest}, {highest}]"
            if level != absent
            else f"level {level} means that there is none, so it answers no question"
        )
    return [level >= step for step in reversed(steps[1:])]


def _media(value: Any, root: Path) -> MediaLike:
    """A path, encoded bytes, or the {"bytes", "path"} of the datasets library."""
    if isinstance(value, Mapping):
        value = value.get("bytes") or value["path"]
    return root / value if isinstance(value, str) else value


def _choice(value: str) -> float:
    if value not in ("a", "b", "tie"):
        raise ValueError(f"preferred={value!r} is unknown; use a, b or tie")
    return {"a": 1.0, "b": 0.0, "tie": 0.5}[value]


def _probability(value: float) -> float:
    if not np.isin(value, (0.0, 0.5, 1.0)):
        raise ValueError(f"label {value} is not 0, 0.5 or 1")
    return float(value)
