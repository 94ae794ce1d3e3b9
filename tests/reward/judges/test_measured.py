import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import blind_pictures, heldout_clips, heldout_set, second_blind_pictures, third_blind_pictures
from benchmarks.calibration_clips import Film, describe, look_around, pan, shoot, to_clip
from benchmarks.calibration_set import photograph
from benchmarks.measured_judge import (
    accuracy,
    counts,
    judge,
    largest_rise,
    monotone_share,
    sharp_pictures,
    still_sharp,
    totals,
)
from mpo.embedded.scenes import Defects, paint, sample_scene
from reward import Clip, JudgeError, MediaError, VisionReward, load_checklist
from reward.judges import clip_depiction, measured
from reward.judges.measured import ALIGNMENT, CLIP_RULES, PICTURE_RULES, MeasuredJudge


@pytest.fixture(scope="module")
def examined():
    return judge(heldout_set.cases(), "image")


def test_every_question_is_examined(examined):
    assert set(examined) == {*PICTURE_RULES, ALIGNMENT}
    assert len(examined) >= 16
    for judged in examined.values():
        truths = [case.truth for case, _ in judged]
        assert min(truths.count(True), truths.count(False)) >= 10


def test_answers_are_right_where_a_person_can_tell(examined):
    shares = {question_id: accuracy(judged) for question_id, judged in examined.items()}
    assert np.mean(list(shares.values())) >= 0.9
    assert {q: s for q, s in shares.items() if s < 0.9} == {}


def test_more_degradation_is_never_a_better_answer(examined):
    assert {q for q, judged in examined.items() if monotone_share(judged) < 1} == set()


def test_four_dimensions_are_covered():
    questions = {q.id: q for q in load_checklist("image")}
    covered = {
        sub.dimension
        for sub in load_checklist("image").subdimensions
        for q in sub.questions
        if MeasuredJudge().can_answer(q, "image")
    }
    assert covered == {"alignment", "composition", "quality", "fidelity"}
    assert set(PICTURE_RULES) <= set(questions)


def test_answers_are_deterministic_and_probabilities():
    rng = np.random.default_rng(0)
    images = [paint(sample_scene(rng), Defects(), rng) for _ in range(4)]
    questions = [q for q in load_checklist("image") if q.id in PICTURE_RULES]
    first, second = (MeasuredJudge().answer(images, [""] * 4, questions) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert ((first >= 0) & (first <= 1)).all()


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_blank_picture_has_an_answer_to_everything(value):
    blank = Image.new("RGB", (64, 64), (round(255 * value),) * 3)
    questions = [q for q in load_checklist("image") if q.id in PICTURE_RULES]
    answers = dict(zip((q.id for q in questions), MeasuredJudge().answer([blank], [""], questions)[0], strict=True))
    assert all(0 <= answer <= 1 for answer in answers.values())
    assert max(answers[q] for q in ("richness_4", "main_object_2", "clarity_4", "detail_refinement_5")) < 0.5


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (300, 2)])
def test_a_picture_too_thin_to_measure_is_said(size):
    reward = VisionReward("measured", "image", questions="answerable").without_alignment()
    with pytest.raises(JudgeError, match=rf"has {size[0]}x{size[1]} pixels.*needs 3 on each side; give a larger one"):
        reward.score([Image.new("RGB", size)], "")


@pytest.mark.parametrize("size", [(3, 3), (3, 300), (300, 4), (7, 5)])
@pytest.mark.filterwarnings("error")
def test_small_and_thin_pictures_have_an_answer_to_everything(size):
    noise = np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), np.uint8)
    questions = [q for q in load_checklist("image") if MeasuredJudge().can_answer(q, "image")]
    for image in (Image.new("RGB", size, "red"), Image.fromarray(noise)):
        assert np.isfinite(MeasuredJudge().answer([image], ["a red circle in a meadow"], questions)).all()


def test_the_fingerprint_follows_the_judges_own_code(tmp_path):
    """Kept answers are looked up by it."""
    package = Path(str(measured.__file__)).parents[1]
    shutil.copytree(package, tmp_path / "reward", ignore=shutil.ignore_patterns("__pycache__"))
    tell = [
        sys.executable,
        "-c",
        "from reward.judges.measured import MeasuredJudge; print(MeasuredJudge().fingerprint)",
    ]

    def told() -> str:
        environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(tell, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True).stdout

    before = told()
    assert before.strip() == MeasuredJudge().fingerprint
    for name in ("measured", "damage"):
        file = tmp_path / "reward" / "judges" / f"{name}.py"
        file.write_text(file.read_text("utf-8") + "\n# changed\n", "utf-8")
        after = told()
        assert after != before, name
        before = after


def test_pictures_side_by_side_are_answered_as_alone():
    pictures = [photograph("coffee.png", side) for side in (64, 80, 200, 64, 300, 65)]
    questions = [q for q in load_checklist("image") if q.id in PICTURE_RULES]
    together = MeasuredJudge().answer(pictures, [""] * len(pictures), questions)
    alone = [MeasuredJudge().answer([picture], [""], questions)[0] for picture in pictures]
    np.testing.assert_array_equal(together, alone)


@pytest.fixture(scope="module")
def page():
    return Path("docs/examinations.md").read_text("utf-8").split("## Clips by measurement")[0]


@pytest.fixture(scope="module")
def second():
    """The whole second blind examination, some 30 s."""
    return judge(second_blind_pictures.cases(), "image")


def compare_rows(table, found):
    """Each row of a table of a blind examination with what the judge answers now."""
    rows = re.findall(
        r"^\| (\w+) \|(?:.*\|)? (\d+) \| (\d+) \|.*\| ([\d.]+) \| ([\d.]+) / ([\d.]+) \|$", table, re.MULTILINE
    )
    told = {name: (int(num_yes), int(num_no), *map(float, shares)) for name, num_yes, num_no, *shares in rows}
    assert set(told) == set(found)
    for question_id, judged in found.items():
        num_yes, num_no, whole, of_yes, of_no = told[question_id]
        assert counts(judged) == (num_yes, num_no)
        assert whole == pytest.approx((of_yes + of_no) / 2, abs=0.001)
        assert accuracy(judged) == pytest.approx(whole, abs=0.02), question_id  # another processor rounds otherwise
    return np.mean([accuracy(judged) for judged in found.values()])


def test_the_second_blind_examination_gives_what_the_documents_say(page, second):
    table = page.split("### The second set")[1].split("###")[0]
    assert set(second) == {*PICTURE_RULES, ALIGNMENT}
    told = re.search(r"mean of the 20 now: (\d\.\d+)", table)
    assert told is not None
    assert compare_rows(table, second) == pytest.approx(float(told[1]), abs=0.005)


def test_the_third_blind_examination_gives_what_the_documents_say(page):
    table = page.split("### The third set")[1].split("###")[0]
    told = re.search(r"mean now: (\d\.\d+)", table)
    assert told is not None
    assert compare_rows(table, judge(third_blind_pictures.cases(), "image")) == pytest.approx(float(told[1]), abs=0.005)


def test_as_many_smeared_pictures_are_called_sharp_as_the_documents_say(page, second):
    sharp = sharp_pictures(second)
    told = re.search(
        r"of the second set's (\d+) sharp pictures, smeared straight by 6 % of the side,\s+(\d+) \(level\), (\d+) \(slanting\) and (\d+) \(upright\)",
        page,
    )
    assert told is not None, "the sentence has other words now"
    num_sharp, *counts_told = map(int, told.groups())
    assert len(sharp) == num_sharp
    found = [num_still[0] for num_still in still_sharp(sharp, lengths=(0.06,)).values()]
    np.testing.assert_allclose(found, counts_told, atol=2)
    readme = Path("README.md").read_text("utf-8")
    assert f"of {num_sharp} sharp pictures, {min(counts_told)} to {max(counts_told)} are" in readme


def test_a_total_seldom_rises_under_a_defect_and_falls_in_the_mean_over_all_defects():
    found = totals(blind_pictures.series(num_drawings=1, num_photographs=1))
    assert len(found) == len(blind_pictures.DEFECTS) >= 14
    rises = np.concatenate([largest_rise(each) for each in found.values()])
    assert np.mean(rises > 0.02) <= 0.35
    together = np.mean([each.mean(axis=0) for each in found.values()], axis=0)
    assert np.all(np.diff(together) < 0)


def second_examination():
    """Part of the second blind examination as bytes. The judge is not asked: only that the set can examine it."""
    cases = second_blind_pictures.cases(num=1, names=("parcel", "tree"))
    return [(c.question_id, c.truth, c.series, c.amount, c.prompt, c.media.size, c.media.tobytes()) for c in cases]


def test_the_second_blind_examination_asks_every_question_both_ways_and_repeats():
    cases = second_examination()
    assert second_examination() == cases
    asked = {(question_id, truth) for question_id, truth, *_ in cases}
    assert {(question_id, truth) for question_id in (*PICTURE_RULES, ALIGNMENT) for truth in (True, False)} <= asked
    answers = {}
    for question_id, truth, _, _, prompt, size, picture in cases:
        assert 64 <= min(size) <= max(size) <= 512
        assert (question_id == ALIGNMENT) == bool(prompt)
        assert answers.setdefault((question_id, prompt, size, picture), truth) == truth


@pytest.mark.slow
def test_the_second_blind_series_start_from_the_picture_and_grow_worse():
    found = list(second_blind_pictures.series(num_drawings=1, num_photographs=0))
    assert {each.defect for each in found} == {*second_blind_pictures.DEFECTS}
    for each in found:
        pictures = [np.asarray(image, dtype=float) for image in each.images]
        assert len(pictures) == second_blind_pictures.NUM_STRENGTHS + 1
        change = [np.abs(picture - pictures[0]).mean() for picture in pictures]
        assert change[-1] > max(change[1], 2), each
    tables = (second_blind_pictures.NO_FROM, second_blind_pictures.YES_UP_TO)
    for by_defect in (defects for table in tables for defects in table.values()):
        assert {*by_defect} <= {*second_blind_pictures.DEFECTS}
        assert all(1 <= strength <= second_blind_pictures.NUM_STRENGTHS for strength in by_defect.values())


def test_the_second_blind_examination_shares_no_pixel_of_a_photograph_with_the_first():
    for name, (file, left, top, side) in second_blind_pictures.PHOTOGRAPHS.items():
        for other_file, other_left, other_top, other_side in blind_pictures.PHOTOGRAPHS.values():
            across = left < other_left + other_side and other_left < left + side
            down = top < other_top + other_side and other_top < top + side
            assert not (file == other_file and across and down), name


def test_unanswerable_questions_and_prompts_raise():
    questions = {q.id: q for q in load_checklist("image")}
    with pytest.raises(JudgeError, match="safety_1"):
        MeasuredJudge().require([questions["safety_1"]], "image")
    with pytest.raises(JudgeError, match="tapir"):
        MeasuredJudge().require_prompts(["a red circle in a meadow", "a tapir in a meadow"], "image")


CLIP_QUESTIONS = {q.id: q for q in load_checklist("video")}
FILM = Film("circle", "yellow", "blue", "left", travel=0.4)


def about(clip: Clip | Image.Image, prompt: str, *question_ids: str) -> list[float]:
    return MeasuredJudge().answer([clip], [prompt], [CLIP_QUESTIONS[q] for q in question_ids])[0].tolist()


def drawn(seed: int = 0, **changes) -> Clip:
    return shoot(replace(FILM, **changes), np.random.default_rng(seed))


@pytest.fixture(scope="module")
def examined_clips():
    """Some 300 clips, about 15 s: that what docs/examinations.md says of the whole set still holds of a part of it."""
    return judge(heldout_clips.cases(num_grounds=2, num_photographs=1, num_texts=8), "video")


def test_every_question_about_clips_is_examined(examined_clips):
    assert set(examined_clips) == {*CLIP_RULES, *clip_depiction.ALIGNMENT}
    assert {question_id for question_id, judged in examined_clips.items() if min(counts(judged)) < 1} == set()


def test_answers_about_clips_are_right_as_often_as_the_documents_say(examined_clips):
    shares = {question_id: accuracy(judged) for question_id, judged in examined_clips.items()}
    assert np.mean(list(shares.values())) >= 0.9
    known_as_weak = {"color_3", "object_motion_3", "object_motion_4"}
    assert {q for q, share in shares.items() if share < 0.8} <= known_as_weak


@pytest.mark.parametrize(
    ("question_id", "yes", "no"),
    [
        ("object_motion_1", {"travel": 0.6}, {"travel": 0.2}),
        ("object_motion_4", {"travel": 0.05}, {"motion": None}),
        ("movement_smoothness_1", {}, {"jerk": 0.03}),
        ("movement_smoothness_2", {"jerk": 0.004}, {"jerk": 0.08}),
        ("shape_throughout_1", {}, {"wobble": 0.3}),
        ("shape_throughout_4", {"wobble": 0.1}, {"vanish": 0.75}),
        ("image_quality_stability_1", {}, {"flicker": 0.06}),
        ("image_quality_stability_4", {"flicker": 0.1}, {"flicker": 0.5}),
        ("clear_1", {}, {"blur_sigma": 1.5}),
        ("clear_4", {"blur_sigma": 1.5}, {"blur_sigma": 5.0}),
        ("lighting_accurate_3", {"gloom": 0.4}, {"gloom": 0.95}),
    ],
)
def test_a_drawn_defect_turns_the_answer(question_id, yes, no):
    assert about(drawn(**yes), "", question_id)[0] > 0.5 > about(drawn(**no), "", question_id)[0]


@pytest.mark.parametrize("question_id", ["camera_motion_1", "camera_motion_4", "camera_stability_1", "camera_stability_2", "camera_movement_2"])  # fmt: skip
def test_the_camera_turns_the_answer(question_id):
    picture, still = photograph("coffee.png", side=144), np.zeros((8, 2))
    moved = pan(np.array([0.6, 0.8]), 0.6)
    shaken = still + 0.04 * np.array([1.0, 0.5]) * (-1.0) ** np.arange(8)[:, None]
    yes, no = (moved, still) if question_id.startswith("camera_motion") else (still, shaken)
    answers = [about(look_around(picture, path, np.ones(8)), "", question_id)[0] for path in (yes, no)]
    assert answers[0] > 0.5 > answers[1]


def test_colour_and_grain_turn_the_answer():
    clip = drawn()
    grey = to_clip(0.07 * clip.frames / 255 + 0.93 * 0.68)
    assert min(about(clip, "", "color_2", "color_3")) > 0.5 > max(about(grey, "", "color_2", "color_3"))
    noise = np.random.default_rng(0).normal(0, 0.3, clip.frames.shape)
    fine, grainy = (about(each, "", "detail_refinement_4")[0] for each in (clip, to_clip(clip.frames / 255 + noise)))
    assert fine > 0.5 > grainy


def test_the_direction_told_turns_alignment():
    clip, told = drawn(), "a yellow circle moves {} on a blue background"
    assert min(about(clip, told.format("left"), *clip_depiction.ALIGNMENT)) > 0.5
    one_wrong = about(clip, told.format("right"), *clip_depiction.ALIGNMENT)
    assert one_wrong[0] < 0.5 < min(one_wrong[1:])
    assert max(about(clip, "a red star moves up in a meadow", *clip_depiction.ALIGNMENT)) < 0.5


def test_without_motion_words_any_motion_will_do():
    for motion in ("left", "up", None):
        assert about(drawn(motion=motion), "a yellow circle on a blue background", "alignment_1")[0] > 0.5


def test_the_answerable_part_of_the_video_checklist():
    reward = VisionReward("measured", "video", questions="answerable")
    assert len(reward.checklist.questions) == 34
    left_out = {sub.name for sub in load_checklist("video").subdimensions} - set(reward.checklist.subdimension_names)
    assert left_out == {
        "composition", "focus", "lighting_aesthetic", "shape_at_beginning", "movement_reality", "letters", "physics_law", "safety",
    }  # fmt: skip
    with pytest.raises(JudgeError, match=r"cannot answer .*focus_1.* about videos; ask only what it can"):
        VisionReward("measured", "video")


@pytest.mark.parametrize("name", ["video", "video-measured"])
def test_laxer_answers_about_clips_follow_from_stricter_ones(name):
    reward = VisionReward("measured", name, questions="answerable")
    clips = [drawn(), drawn(motion=None, blur_sigma=2.0), drawn(wobble=0.3, flicker=0.2), drawn(gloom=0.9)]
    assert reward.checklist.consistency(reward.score(clips, describe(FILM)).p_yes) == []


def test_every_frame_of_a_short_clip_is_seen(tmp_path):
    """From a file: a leap in one frame of 81 is a jerk, and times come from the file."""
    import av

    clip = shoot(FILM, np.random.default_rng(0), num_frames=81)
    leap = clip.frames.copy()
    leap[40] = clip.frames[0]
    for name, frames in (("even.mkv", clip.frames), ("leap.mkv", leap)):
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream("ffv1", rate=16)
            stream.width, stream.height, stream.pix_fmt = 64, 64, "bgr0"
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
    reward = VisionReward("measured", "video", questions=["movement_smoothness_1"])
    even, leaping = reward.score([tmp_path / "even.mkv", tmp_path / "leap.mkv"], "").p_yes[:, 0]
    assert even > 0.5 > leaping


def test_motion_needs_three_frames():
    clip = drawn()
    short = Clip(clip.frames[:1], clip.times_s[:1])
    assert about(short, "", "clear_1")[0] > 0.5
    with pytest.raises(
        JudgeError,
        match=r"question 'object_motion_1' asks what happens over time, and the clip has 1 frame; give one of at least 3",
    ):
        about(short, "", "object_motion_1")
    assert about(short, "a yellow circle on a blue background", "alignment_1")[0] > 0.5
    with pytest.raises(
        JudgeError, match=r"prompt 'a yellow circle moves left' names a motion, and the clip has 1 frame;"
    ):
        about(short, "a yellow circle moves left", "alignment_1")


def test_pictures_and_clips_are_told_apart(tmp_path):
    picture = Image.new("RGB", (64, 64), "white")
    picture.save(tmp_path / "a.png")
    of_clips = VisionReward("measured", "video", questions=["object_motion_4"])
    with pytest.raises(MediaError, match=r"PIL\.Image has shape \(64, 64, 3\); expected \(F, C, H, W\)"):
        of_clips.score([picture], "")
    with pytest.raises(JudgeError, match=r"the clip has 1 frame; give one of at least 3.*checklist 'image'"):
        of_clips.score([tmp_path / "a.png"], "")
    with pytest.raises(MediaError, match=r"shape|type"):
        VisionReward("measured", "image", questions=["clarity_1"]).score([drawn()], "")
    with pytest.raises(JudgeError, match="cannot answer object_motion_4 about images"):
        about(picture, "", "object_motion_4")
    with pytest.raises(JudgeError, match="cannot read prompt 'a red circle moves left'"):
        MeasuredJudge().require_prompts(["a red circle moves left"], "image")
    MeasuredJudge().require_prompts(["a red circle moves left"], "video")
