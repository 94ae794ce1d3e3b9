"""The published checklists against an independent computation from the published files."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from reward import ChecklistError, load_checklist, score_answers
from reward import official as module

SHARED = Path(__file__).parents[3] / "shared" / "visionreward"
beside = pytest.mark.skipif(not SHARED.is_dir(), reason="the published files are not beside this checkout")
IMAGE, VIDEO = SHARED / "VisionReward_Image", SHARED / "VisionReward_Video"


def official(name: str):
    return load_checklist(f"official:{name}@{SHARED}")


def lines(file: Path) -> list[str]:
    return [line.strip() for line in file.read_text().splitlines()]


def published_image_score(alignment: float, yes: np.ndarray) -> float:
    """inference-image.py over its 30 questions, written from its description: +1/-1, then the gates, then the dot product."""
    weights = json.loads((IMAGE / "weight_select.json").read_text())
    reward = [1 if each else -1 for each in yes]
    for gate, dependents in {0: [22, 23, 24, 28, 29], 1: [25, 26], 2: [27]}.items():
        for dependent in dependents:
            reward[dependent] *= int(reward[gate] > 0)
    return float(np.dot([alignment, *reward[3:]], weights["coef"]) + weights["intercept"][0])


@beside
def test_words_are_the_published_ones():
    select, whole = lines(IMAGE / "VisionReward_image_qa_select.txt"), lines(IMAGE / "VisionReward_image_qa.txt")
    assert [q.text for q in official("image")][1:] == select
    assert [q.text for q in official("image-full")][1:] == whole
    video = lines(VIDEO / "VisionReward_video_qa_select.txt")
    assert [q.ask("[[prompt]]") for q in official("video")] == video


@beside
@given(st.floats(0, 1), arrays(bool, 30))
def test_image_scores_are_the_published_ones(alignment, yes):
    checklist = official("image")
    scores = score_answers(np.array([[alignment, *yes.astype(float)]]), checklist)
    assert scores.total[0] == pytest.approx(published_image_score(alignment, yes), abs=1e-12)
    assert scores.dimensions.sum() == pytest.approx(scores.total[0], abs=1e-12)


@beside
@given(st.floats(0, 1), arrays(bool, 59))
def test_the_full_image_list_scores_as_the_short_one(alignment, yes):
    """weight.json is weight_select.json with zeros between."""
    whole, select = lines(IMAGE / "VisionReward_image_qa.txt"), lines(IMAGE / "VisionReward_image_qa_select.txt")
    scores = score_answers(np.array([[alignment, *yes.astype(float)]]), official("image-full"))
    short = yes[[whole.index(line) for line in select]]
    assert scores.total[0] == pytest.approx(published_image_score(alignment, short), abs=1e-12)


@beside
@given(arrays(bool, (2, 29)))
def test_video_scores_and_comparisons_are_the_published_ones(yes):
    weights = np.array(json.loads((VIDEO / "weight.json").read_text()))
    answers = np.where(yes, 1, -1)
    scores = score_answers(yes.astype(float), official("video"))
    np.testing.assert_allclose(scores.total, (answers * weights).mean(axis=1), atol=1e-12)
    published_gap = ((answers[0] - answers[1]) * weights).sum()
    assert (
        np.sign(scores.total[0] - scores.total[1]) == pytest.approx(np.sign(published_gap)) or abs(published_gap) < 1e-9
    )


@beside
def test_our_own_video_checklist_has_the_published_order_and_weights():
    own = load_checklist("video")
    published = lines(VIDEO / "VisionReward_video_qa.txt")
    assert len(own.questions) == len(published) == 64
    assert not {q.text for q in own} & set(published)
    weight = dict(
        zip(
            lines(VIDEO / "VisionReward_video_qa_select.txt"),
            json.loads((VIDEO / "weight.json").read_text()),
            strict=True,
        )
    )
    assert [q.weight for q in own] == [weight.get(line, 0.0) for line in published]
    assert own.divisor == 29


@beside
def test_a_changed_or_missing_file_is_refused(tmp_path):
    with pytest.raises(ChecklistError, match="missing"):
        load_checklist(f"official:image@{tmp_path}")
    (tmp_path / "VisionReward_Video").mkdir()
    for file in VIDEO.iterdir():
        (tmp_path / "VisionReward_Video" / file.name).write_bytes(file.read_bytes() + b"\n")
    with pytest.raises(ChecklistError, match="not the published file"):
        load_checklist(f"official:video@{tmp_path}")
    with pytest.raises(ChecklistError, match="official:audio"):
        load_checklist("official:audio")


@beside
def test_files_are_fetched_once_and_checked(tmp_path, monkeypatch):
    served = tmp_path / "served" / module.COMMIT
    for file in module.SHA256:
        (served / file).parent.mkdir(parents=True, exist_ok=True)
        (served / file).write_bytes((SHARED / file).read_bytes())
    monkeypatch.setattr(module, "REPOSITORY", (tmp_path / "served").as_uri())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert load_checklist("official:video").fingerprint == official("video").fingerprint
    for file in module.SHA256:
        (served / file).write_bytes(b"changed")
    assert load_checklist("official:video").fingerprint == official("video").fingerprint  # from the cache
    with pytest.raises(ChecklistError, match="cannot be fetched"):  # its digest is wrong
        load_checklist("official:image")
    assert not list((tmp_path / "cache").rglob("VisionReward_image_qa.txt"))


def test_without_a_network_the_remedy_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "REPOSITORY", (tmp_path / "nowhere").as_uri())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(ChecklistError, match="official:image@FOLDER"):
        load_checklist("official:image")
