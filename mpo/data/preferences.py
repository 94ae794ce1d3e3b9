"""Reads pictures or clips that have been compared already, in three layouts.

`pickapic`: rows of Pick-a-Pic v2 (caption, jpg_0, jpg_1 as bytes; label_0 and label_1, 1 for the better, 0.5 each for a
tie; ties are left out, as in arXiv 2311.12908). `pairs`: rows of prompt, chosen, rejected, as TRL names them; chosen and
rejected are pictures or clips, as bytes or as files beside the table. `folder`: chosen/NAME.png, rejected/NAME.png and
NAME.txt with the prompt beside these two or in chosen/; clips as .mp4 and others.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from mpo import MpoError
from mpo.data.readers import read_rows
from mpo.recipe import Preferences
from reward.checklist import Kind
from reward.media import SUFFIXES


@dataclass(frozen=True)
class Preference:
    """One comparison; pictures and clips still as they were stored."""

    prompt: str
    chosen: Any  # bytes, a file's path, or a mapping with "bytes" and "path"
    rejected: Any


def read_preferences(settings: Preferences, kind: Kind) -> Iterator[Preference]:
    """The comparisons of a source, in its order, ties left out. Raises MpoError naming what cannot be read."""
    if settings.layout == "folder":
        return islice(_folder(settings, SUFFIXES[kind]), settings.limit)
    return islice({"pickapic": _pickapic, "pairs": _pairs}[settings.layout](settings), settings.limit)


def _pickapic(settings: Preferences) -> Iterator[Preference]:
    columns = ["caption", "jpg_0", "jpg_1", "label_0"]
    for row in read_rows(
        settings.path, split=settings.split, revision=settings.revision, columns=columns, field="preferences.path"
    ):
        if row["label_0"] in (0, 1):
            first, second = ("jpg_0", "jpg_1") if row["label_0"] else ("jpg_1", "jpg_0")
            yield Preference(_text(settings, row["caption"]), row[first], row[second])


def _pairs(settings: Preferences) -> Iterator[Preference]:
    columns = ["prompt", "chosen", "rejected"]
    beside = Path(settings.path).parent
    for row in read_rows(
        settings.path, split=settings.split, revision=settings.revision, columns=columns, field="preferences.path"
    ):
        chosen, rejected = (beside / row[c] if isinstance(row[c], str) else row[c] for c in columns[1:])
        yield Preference(_text(settings, row["prompt"]), chosen, rejected)


def _text(settings: Preferences, prompt: Any) -> str:
    if not isinstance(prompt, str):
        raise MpoError(f"preferences.path={settings.path!r}: a prompt is {prompt!r}; give text, or remove the row")
    return prompt.strip()


def _folder(settings: Preferences, suffixes: tuple[str, ...]) -> Iterator[Preference]:
    folder = Path(settings.path)
    chosen = sorted(p for p in (folder / "chosen").glob("*") if p.suffix.lower() in suffixes)
    if not chosen:
        usual = ".png" if ".png" in suffixes else ".mp4"
        raise MpoError(
            f"preferences.path={settings.path!r} holds no chosen/*{usual}; lay it out as chosen/NAME{usual}, rejected/NAME{usual}, NAME.txt"
        )
    for file in chosen:
        rejected = [p for p in (folder / "rejected").glob(f"{file.stem}.*") if p.suffix.lower() in suffixes]
        texts = [p for p in (folder / f"{file.stem}.txt", file.with_suffix(".txt")) if p.is_file()]
        if not rejected or not texts:
            raise MpoError(
                f"preferences.path={settings.path!r}: {file.name} has no {'rejected one' if not rejected else 'text'} of the same name; add it, or remove the file"
            )
        try:
            prompt = texts[0].read_text("utf-8").strip()
        except UnicodeDecodeError:
            raise MpoError(f"preferences.path={settings.path!r}: {texts[0]} is not UTF-8; save it as such") from None
        yield Preference(prompt, file, rejected[0])
