import sys
from contextlib import ExitStack

import numpy as np
import pytest
from PIL import Image

from reward import Clip, JudgeError, JudgeUnavailableError, Question, VisionReward, load_checklist, load_judge
from reward.judges.server import ServerJudge
from tests.reward.judges.stand_in_server import StandInServer, probability_of_yes

QUESTIONS = load_checklist("image").questions[:6]
PROMPTS = ["a red cat", 'two "dogs" {x} [[prompt]]', "a tree"]


@pytest.fixture
def connect():
    """`connect(url, …)` makes a judge whose connections are closed at the test's end."""
    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(ServerJudge(*arguments, **options))


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (20 + i, 30, 3), dtype=np.uint8)) for i in range(3)]


def expected(pictures, questions=QUESTIONS) -> np.ndarray:
    """Of the stand-in's rule: of yes 0.9 p in all its spellings, of no 0.9 (1 - p)."""
    words = [[f"{q.ask(prompt)} Answer yes or no." for q in questions] for prompt in PROMPTS]
    return np.array(
        [[probability_of_yes(np.asarray(p)[None], w) for w in row] for p, row in zip(pictures, words, strict=True)]
    )


@pytest.mark.parametrize("by_id", [True, False])
def test_answers_are_the_first_token_s(pictures, by_id, connect):
    with StandInServer(by_id=by_id) as server:
        judge = connect(base_urls=server.url)
        np.testing.assert_allclose(judge.answer(pictures, PROMPTS, QUESTIONS), expected(pictures), atol=1e-6)
        assert bool(judge.endpoints[0].yes_ids) == by_id
        assert all(("logprob_token_ids" in body) == by_id for body in server.requests)


def test_connections_end_with_the_judge_that_nobody_closed(pictures):
    """A collection of garbage would find open sockets."""
    with StandInServer() as server:
        judge = ServerJudge(base_urls=server.url)
        judge.answer(pictures[:1], PROMPTS[:1], QUESTIONS[:1])
        client = judge.endpoints[0].client
        assert not client.is_closed()
        del judge
        assert client.is_closed()


def test_requests_under_way_are_bounded_and_prefixes_come_first(pictures, connect):
    with StandInServer(by_id=False) as server:
        judge = connect(server.url, "tiny", concurrency=3)
        judge.answer(pictures, PROMPTS, QUESTIONS)
        assert 1 < server.most_under_way <= 3
        firsts = {f"{QUESTIONS[0].ask(prompt)} Answer yes or no." for prompt in PROMPTS}
        assert {body["messages"][0]["content"][-1]["text"] for body in server.requests[:3]} == firsts
        assert len(server.requests) == len(QUESTIONS) * 3


def test_passing_faults_are_retried(pictures, connect):
    with StandInServer(by_id=False, faults=[429, 500, 503, "slow"]) as server:
        judge = connect(server.url, timeout_s=1.0, concurrency=2)
        np.testing.assert_allclose(judge.answer(pictures, PROMPTS, QUESTIONS), expected(pictures), atol=1e-6)
        assert len(server.requests) == 3 * len(QUESTIONS) + 4


def test_lasting_faults_are_not_a_no(pictures, connect):
    with StandInServer(by_id=False, always="neither") as server:
        judge = connect(server.url)
        with pytest.raises(JudgeError, match=r"'Perhaps'.*neither yes nor no"):
            judge.answer(pictures, PROMPTS, QUESTIONS)
    with StandInServer(by_id=False, always="narrow") as server:
        judge = connect(server.url)
        with pytest.raises(JudgeError, match="does not say how likely 'no' is"):
            judge.answer(pictures, PROMPTS, QUESTIONS)
    with StandInServer(by_id=False, always="one_sided") as server:
        judge = connect(server.url)
        assert (judge.answer(pictures, PROMPTS, QUESTIONS) > 0.99).all()
    with StandInServer(by_id=False, always="no_logprobs") as server:
        judge = connect(server.url)
        with pytest.raises(JudgeError, match=r"no logprobs.*transformers serve"):
            judge.answer(pictures, PROMPTS, QUESTIONS)
    with StandInServer(faults=[None], always="neither") as server:  # by id: the first request is the examination's
        judge = connect(server.url)
        with pytest.raises(JudgeError, match="not answering"):
            judge.answer(pictures, PROMPTS, QUESTIONS)


def test_a_refusal_names_the_item_and_spares_the_others(pictures, connect):
    with StandInServer(by_id=False) as server:
        reward = VisionReward(connect(server.url), load_checklist("image").only(["alignment"]))
        server.refused = PROMPTS[1]
        scores = reward.score(pictures, PROMPTS, on_error="record")
        assert list(scores.failures) == [1]
        assert "refused" in scores.failures[1]
        assert np.isfinite(scores.total[[0, 2]]).all()


def test_a_server_that_is_gone_stops_everything(pictures, connect):
    with StandInServer(by_id=False) as server:
        reward = VisionReward(connect(server.url, max_retries=0), load_checklist("image").only(["clarity_1"]))
        server.always = 500
        with pytest.raises(JudgeUnavailableError, match="does not answer"):
            reward.score(pictures, PROMPTS, on_error="record")
    with pytest.raises(JudgeUnavailableError, match="check that the server runs"):
        ServerJudge(server.url, max_retries=0)


def test_several_endpoints_share_items_and_stand_in_for_each_other(pictures, connect):
    with StandInServer() as one, StandInServer() as two:
        judge = connect([one.url, two.url], max_retries=0)
        np.testing.assert_allclose(judge.answer(pictures, PROMPTS, QUESTIONS), expected(pictures), atol=1e-6)
        assert len(set(one.pictures_by_place())) == 3  # items 0 and 2, and the examination
        assert len(set(two.pictures_by_place())) == 2  # item 1, and the examination
        one.always = 500
        one.requests.clear()
        np.testing.assert_allclose(judge.answer(pictures, PROMPTS, QUESTIONS), expected(pictures), atol=1e-6)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)


def test_a_clip_is_sent_as_its_frames_each_after_its_time(connect):
    frames, times_s = noise(5, 16, 16, 3), np.array([2.0, 2.125, 3.0, 3.0, 14.5])
    question = Question(id="q", text="Does anything move?")
    with StandInServer() as server:
        judge = connect(server.url)
        p = judge.answer([Clip(frames, times_s)], [""], [question])
        assert p[0, 0] == pytest.approx(probability_of_yes(frames, "Does anything move? Answer yes or no."))
        *parts, words = server.requests[-1]["messages"][0]["content"]
        assert [part["type"] for part in parts] == ["text", "image_url"] * 5
        assert [part["text"] for part in parts[::2]] == [f"Frame at {t} s:" for t in ("0", "0.12", "1", "1", "12.5")]
        assert words["text"] == "Does anything move? Answer yes or no."
        judge.answer([Image.new("RGB", (16, 16))], [""], [question])
        assert [part["type"] for part in server.requests[-1]["messages"][0]["content"]] == ["image_url", "text"]


def test_num_frames_says_how_many_frames_are_sent(connect):
    """64 frames at 8 Hz, from first to last: of 3, those at 0, 31.5 (32) and 63 frames of 0.125 s."""
    with StandInServer() as server:
        judge = connect(server.url, num_frames=3)
        reward = VisionReward(judge, "video", questions=["object_motion_4"])
        reward.score([noise(64, 3, 8, 8)], "", fps=8.0)
        *parts, _ = server.requests[-1]["messages"][0]["content"]
        assert [part["text"] for part in parts[::2]] == ["Frame at 0 s:", "Frame at 4 s:", "Frame at 7.88 s:"]


def test_every_question_about_a_clip_is_answered(connect):
    frames, questions = noise(5, 16, 16, 3), load_checklist("video").questions
    with StandInServer() as server:
        p = connect(server.url).answer([Clip(frames, np.arange(5) / 4)], ["a red cat"], questions)
        prefixes = server.pictures_by_place()[-len(questions) :]
    expected = [probability_of_yes(frames, f"{q.ask('a red cat')} Answer yes or no.") for q in questions]
    np.testing.assert_allclose(p, [expected], atol=1e-6)
    assert len(set(prefixes)) == 1  # so that the server computes the frames once


def test_a_server_that_takes_fewer_pictures_says_how_to_send_fewer(connect):
    clip, question = Clip(noise(8, 16, 16, 3), np.arange(8.0)), Question(id="q", text="Does anything move?")
    with StandInServer(max_pictures=4) as server:
        told = r"refuses .*At most 4 image\(s\) may be provided.*; correct what it names, or send fewer than 8 frames: num_frames=4$"
        with pytest.raises(JudgeError, match=told):
            connect(server.url).answer([clip], [""], [question])
        reward = VisionReward(connect(server.url, num_frames=4), "video", questions=["object_motion_4"])
        assert not reward.score([clip], "").failures
        server.refused = "Does anything move?"
        with pytest.raises(JudgeError, match=r"correct what it names$"):  # a picture is not told about frames
            connect(server.url).answer([Image.new("RGB", (16, 16))], [""], [question])


def test_what_is_served_is_checked():
    with StandInServer() as server:
        with pytest.raises(JudgeError, match="does not serve model='huge'; it serves: tiny"):
            ServerJudge(server.url, "huge")
        with load_judge("server", base_urls=server.url) as judge:  # type: ignore[attr-defined]
            assert judge.fingerprint == "server:tiny:{question} Answer yes or no.:8:Frame at {:g} s:"
        with pytest.raises(JudgeError, match="no place for the question"):
            ServerJudge(server.url, template="Well?")
    with pytest.raises(JudgeError, match=r"base_urls=\[\] is not possible; give at least one address"):
        ServerJudge([])


def test_an_endpoint_that_is_down_is_gone_without(pictures, connect, caplog):
    with StandInServer() as server:
        judge = connect(["http://127.0.0.1:9/v1", server.url], max_retries=0)
        assert [endpoint.url for endpoint in judge.endpoints] == [server.url]
        assert "continuing without it" in caplog.text
        np.testing.assert_allclose(judge.answer(pictures, PROMPTS, QUESTIONS), expected(pictures), atol=1e-6)
    caplog.clear()
    with pytest.raises(JudgeUnavailableError):
        connect(["http://127.0.0.1:9/v1", "http://127.0.0.1:9/v1"], max_retries=0)
    assert "continuing" not in caplog.text


def test_an_endpoint_that_fails_rests(pictures, connect):
    with StandInServer() as one, StandInServer() as two:
        judge = connect([one.url, two.url], max_retries=0, concurrency=1)
        one.always = 500
        one.requests.clear()
        judge.answer(pictures, PROMPTS, QUESTIONS)
        assert len(one.requests) == 1


def test_counts_are_counts():
    with pytest.raises(JudgeError, match="concurrency=0"):
        ServerJudge("http://127.0.0.1:9/v1", concurrency=0)


def test_a_server_judge_without_its_library_is_said_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "reward.judges.server", raising=False)
    with pytest.raises(JudgeError, match=r"judge='server' needs openai; pip install 'mpo\[server\]'"):
        load_judge("server", base_urls="http://localhost:1")
