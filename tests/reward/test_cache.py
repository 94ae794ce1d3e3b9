from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from reward import CacheError, Checklist, Question, VisionReward, load_checklist
from reward.cache import AnswerCache, answer_key
from reward.checklist import SubDimension
from tests.helpers.judges import CountingJudge


def pictures(count: int) -> list[Image.Image]:
    return [Image.new("RGB", (8, 8), (i, 0, 0)) for i in range(count)]


def test_what_was_judged_once_is_not_judged_again(tmp_path):
    judge = CountingJudge()
    reward = VisionReward(judge, "image", cache=tmp_path)
    once = reward.score(pictures(10), "a cat")
    again = VisionReward(judge, "image", cache=tmp_path).score(pictures(12), "a cat")
    assert judge.num_asked == 12
    np.testing.assert_array_equal(again.p_yes[:10], once.p_yes)
    reward.score(pictures(3), "a dog")
    assert judge.num_asked == 15
    other = CountingJudge()
    other.fingerprint = "other"
    VisionReward(other, "image", cache=tmp_path).score(pictures(2), "a cat")
    assert other.num_asked == 2


def test_new_weights_cost_no_judging_and_new_words_do(tmp_path):
    judge, checklist = CountingJudge(), load_checklist("image")
    VisionReward(judge, checklist, cache=tmp_path).score(pictures(3), "a cat")
    reweighted = checklist.weighted({"clarity_1": 2.0}, name="own")
    assert VisionReward(judge, reweighted, cache=tmp_path).score(pictures(3), "a cat").total[2] != 0
    assert judge.num_asked == 3
    VisionReward(judge, checklist.only(["clarity_1", "alignment"]), cache=tmp_path).score(pictures(3), "a cat")
    assert judge.num_asked == 6


def test_the_prompt_counts_even_where_no_question_names_it(tmp_path):
    """A judge may go by the prompt all the same, as the measured one does for its alignment."""
    question = Question(id="alignment", text="Does it show what was asked for?", continuous=True)
    sub = SubDimension(name="s", dimension="d", questions=(question,))
    checklist = Checklist(name="own", version=1, kind="image", subdimensions=(sub,))
    picture = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(picture).ellipse((16, 16, 48, 48), fill=(200, 20, 20))
    reward = VisionReward("measured", checklist, cache=tmp_path)
    assert reward.score([picture], "a red circle on a white background").p_yes[0, 0] > 0.9
    assert reward.score([picture], "a blue square on a white background").p_yes[0, 0] < 0.5


def test_failures_are_not_kept(tmp_path):
    judge = CountingJudge()
    reward = VisionReward(judge, "image", cache=tmp_path)
    scores = reward.score(pictures(3), ["a", "unanswerable", "b"], on_error="record")
    assert list(scores.failures) == [1]
    judge.num_asked = 0
    assert list(reward.score(pictures(3), ["a", "unanswerable", "b"], on_error="record").failures) == [1]
    assert judge.num_asked == 1


def test_threads_share_one_folder(tmp_path):
    cache = AnswerCache(tmp_path)
    rows = {answer_key(str(i), "p", "q", "j"): np.full(3, i / 100) for i in range(100)}
    items = list(rows.items())
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: AnswerCache(tmp_path).put(dict(items[i : i + 10])), range(0, 100, 10)))
    found = cache.get([*rows, b"absent"])
    assert found.keys() == rows.keys()
    for key, row in rows.items():
        np.testing.assert_array_equal(found[key], row)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.text(), st.text(), st.text(), st.text()), unique=True, min_size=2, max_size=6))
def test_keys_tell_parts_apart(parts):
    assert len({answer_key(*each) for each in parts}) == len(parts)


def test_a_cache_that_cannot_be_used_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match=r"file' cannot be created as a folder"):
        AnswerCache(tmp_path / "file")
    (tmp_path / "answers.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(CacheError, match=r"answers.sqlite' cannot be used .*remove it"):
        AnswerCache(tmp_path)
    (tmp_path / "late").mkdir()
    cache = AnswerCache(tmp_path / "late")
    cache.file.write_bytes(b"no database" * 100)  # damaged after it was opened
    for use in (lambda: cache.get([b"key"]), lambda: cache.put({b"key": np.ones(3)})):
        with pytest.raises(CacheError, match="cannot be used"):
            use()
