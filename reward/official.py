"""The checklists exactly as published with VisionReward, for judges that were trained on exactly those words.

Their files are not part of this project: they are read from the user's folder (a checkout of the repository, or the
folder beside the checkpoint) or fetched once from the public repository; either way their digest is checked.
Scores follow the published code (inference-image.py, inference-video.py), quirks included: the gate "body" also turns
off the two weighted questions about harm, and a clip's score is the mean over its 29 questions.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from reward.checklist import PROMPT_FIELD, Checklist, Question, SubDimension, load_checklist
from reward.errors import ChecklistError

REPOSITORY = "https://raw.githubusercontent.com/zai-org/VisionReward"
COMMIT = "838ad24172e137c6022fcb16c19c897796c3cfd8"
SHA256 = {
    "VisionReward_Image/VisionReward_image_qa.txt": "4433e6edd1e66f245a3db01422ddc7ff38eab154154bd03a599903359f6193f4",
    "VisionReward_Image/VisionReward_image_qa_select.txt": "2b603df2f4e30fe8879d85e1bf38f30ad8292278b939e31bf88bf7cf9ff22c33",
    "VisionReward_Image/weight.json": "441b46093f5812ef78f290abd5c64d8ea088ed95d5e6f44fec413b276c2e5cc8",
    "VisionReward_Image/weight_select.json": "4b60192fa96e0dda0c9101ed61141f89b85bb9669479e3b8eb42cc10611a68c9",
    "VisionReward_Video/VisionReward_video_qa.txt": "58de7e00beb91aebfdf8043cce9f6780dd6609ad855d80be6f505e8885a70c2a",
    "VisionReward_Video/VisionReward_video_qa_select.txt": "79de7f5e135a7957144826056a83be63fd6ddcbc61ba6460e09a0b09da580ee3",
    "VisionReward_Video/weight.json": "0c6367f244ae64fa881e93f0033f2a4362176893ed2f946223ec64a57e3c9204",
}
IMAGE, VIDEO = "VisionReward_Image", "VisionReward_Video"
GATED_BY_BODY_TOO = ("safety_3", "safety_4")  # a quirk of the published code
WITHOUT_WEIGHT = ("background_3", "lighting_distinction_3")  # weight.json leaves these two out


def load_official(name: str, folder: Path | None = None) -> Checklist:
    """`official:image` (30 published questions), `official:image-full` (59) or `official:video` (29).

    folder: holds VisionReward_Image/ and VisionReward_Video/; None = fetched once into the user's cache folder.
    Published lines and this project's own are in the same order, so each line takes the id, sub-dimension and gate
    of its counterpart. For alignment only the weight is published, so it is asked in this project's words.
    Raises ChecklistError if a file is missing, cannot be fetched or is not the published one.
    """
    match name:
        case "official:image":
            return _image(name, folder, lines="select", weights="weight_select.json")
        case "official:image-full":
            return _image(name, folder, lines="all", weights="weight.json")
        case "official:video":
            return _video(name, folder)
        case _:
            from reward.checklist import OFFICIAL

            raise ChecklistError(f"checklist={name!r} is unknown; published ones: {', '.join(OFFICIAL)}")


def _image(name: str, folder: Path | None, *, lines: str, weights: str) -> Checklist:
    own = load_checklist("image")
    published = _lines(f"{IMAGE}/VisionReward_image_qa.txt", folder)
    asked = published if lines == "all" else _lines(f"{IMAGE}/VisionReward_image_qa_select.txt", folder)
    coefficients = json.loads(_text(f"{IMAGE}/{weights}", folder))
    words = {own.question_ids[0]: own.questions[0].text}
    words |= {q.id: line for q, line in zip(own.questions[1:], published, strict=True) if line in asked}
    weighted = [q.id for q in own if q.id in words and not q.gate and q.id not in WITHOUT_WEIGHT]
    weight = dict(zip(weighted, coefficients["coef"], strict=True))
    return Checklist(
        name=name,
        version=1,
        kind="image",
        intercept=coefficients["intercept"][0],
        subdimensions=tuple(_reworded(own, words, weight)),
    )


def _video(name: str, folder: Path | None) -> Checklist:
    own = load_checklist("video")
    published = _lines(f"{VIDEO}/VisionReward_video_qa.txt", folder)
    asked = _lines(f"{VIDEO}/VisionReward_video_qa_select.txt", folder)
    words = {q.id: line for q, line in zip(own.questions, published, strict=True) if line in asked}
    weight = dict(zip(words, json.loads(_text(f"{VIDEO}/weight.json", folder)), strict=True))
    subdimensions = tuple(_reworded(own, words, weight))
    return Checklist(name=name, version=1, kind="video", divisor=len(asked), subdimensions=subdimensions)


def _reworded(own: Checklist, words: dict[str, str], weight: dict[str, float]) -> Iterator[SubDimension]:
    for sub in own.subdimensions:
        questions = tuple(
            Question(
                id=q.id,
                text=words[q.id].replace("[[prompt]]", PROMPT_FIELD),
                weight=weight.get(q.id, 0.0),
                gate=q.gate,
                gate_id="has_body" if own.kind == "image" and q.id in GATED_BY_BODY_TOO else q.gate_id,
                continuous=q.continuous,
            )
            for q in sub.questions
            if q.id in words
        )
        if questions:
            yield SubDimension(name=sub.name, dimension=sub.dimension, questions=questions)


def _lines(file: str, folder: Path | None) -> list[str]:
    return [line.strip() for line in _text(file, folder).splitlines() if line.strip()]


def _text(file: str, folder: Path | None) -> str:
    if folder is None:
        path = _fetched(file)
    else:
        path = folder / file
        if not path.is_file():
            raise ChecklistError(f"published file {path} is missing; give the folder that holds {IMAGE}/ and {VIDEO}/")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256[file]:
        raise ChecklistError(
            f"{path} is not the published file (its sha256 differs); replace it, or load a changed one as your own YAML checklist"
        )
    return content.decode("utf-8")


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/mpo or ~/.cache/mpo."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mpo"


def _fetched(file: str) -> Path:
    path = cache_folder() / "official" / COMMIT / file
    if path.is_file():
        return path
    from torch.hub import download_url_to_file

    url = f"{REPOSITORY}/{COMMIT}/{file}"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        download_url_to_file(url, str(path), hash_prefix=SHA256[file], progress=False)
    except (OSError, RuntimeError) as error:
        raise ChecklistError(
            f"{url} cannot be fetched ({error}); check the network, or give a folder that holds it: official:image@FOLDER"
        ) from error
    return path
