"""The server judge against a real vLLM: `make test-vllm`. $VLLM names the executable."""

import os
import subprocess
import time
import urllib.request

import numpy as np
import pytest
from PIL import Image

from reward import JudgeError, load_checklist
from reward.judges.server import ServerJudge
from reward.judges.vlm import VLMJudge
from tests.reward.judges.small_vlms import qwen2_5_vl

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]
PORT = 8419
STARTUP_S = 600
# vLLM refuses attention heads narrower than 32.
TEXT = {
    "hidden_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2,
    "rope_parameters": {"rope_type": "default", "mrope_section": [8, 12, 12], "rope_theta": 10000.0},
}  # fmt: skip
VISION = {"hidden_size": 128, "num_heads": 4, "intermediate_size": 128, "out_hidden_size": 256}
QUESTIONS = load_checklist("image").questions
PROMPTS = ["a red cat", 'two "dogs" {x} [[prompt]]', "a tree", "the sea"]


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> tuple[VLMJudge, str]:
    model, processor = qwen2_5_vl("sdpa", text=TEXT, vision=VISION)
    folder = str(tmp_path_factory.mktemp("vllm") / "model")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return VLMJudge(model, processor=processor, mode="sequential"), folder


@pytest.fixture(scope="module")
def server(local, tmp_path_factory):
    log = tmp_path_factory.mktemp("log") / "vllm.log"
    command = [
        os.environ.get("VLLM", "vllm"), "serve", local[1], "--host", "127.0.0.1", "--port", str(PORT), "--dtype", "float32",
        "--served-model-name", "small", "--max-model-len", "2048", "--limit-mm-per-prompt", '{"image": 8}',
    ]  # fmt: skip
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
    try:
        deadline = time.monotonic() + STARTUP_S
        while True:
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health").close()
                break
            except OSError:
                time.sleep(1)
        yield f"http://127.0.0.1:{PORT}/v1"
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    sizes = [(70, 130), (150, 150), (100, 60), (200, 84)]
    return [Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]


def test_vllm_answers_as_transformers_does(local, server, pictures):
    judge = ServerJudge(server)
    assert judge.endpoints[0].yes_ids
    expected = local[0].answer(pictures, PROMPTS, QUESTIONS)
    start = time.perf_counter()
    first = judge.answer(pictures, PROMPTS, QUESTIONS)
    between = time.perf_counter()
    again = judge.answer(pictures, PROMPTS, QUESTIONS)  # from the server's prefix cache
    print(
        f"vLLM against transformers: {abs(first - expected).max():.1e}; again: {abs(again - first).max():.1e};"
        f" {first.size / (between - start):.0f}, then {again.size / (time.perf_counter() - between):.0f} questions a second"
    )
    np.testing.assert_allclose(first, expected, atol=1e-4)
    np.testing.assert_allclose(again, expected, atol=1e-4)
    alone = ServerJudge(server, concurrency=1).answer(pictures[:1], PROMPTS[:1], QUESTIONS)
    np.testing.assert_allclose(alone, expected[:1], atol=1e-4)


def test_asked_for_its_likeliest_tokens_vllm_does_not_make_up_an_answer(server, pictures):
    """To a model with random weights neither yes nor no comes to mind first."""
    judge = ServerJudge(server)
    endpoint = judge.endpoints[0]
    judge.endpoints = [type(endpoint)(endpoint.url, endpoint.client, (), ())]
    with pytest.raises(JudgeError, match=r"yes|no"):
        judge.answer(pictures[:1], PROMPTS[:1], QUESTIONS)


def test_vllm_refuses_by_name(server, pictures):
    with pytest.raises(JudgeError, match="does not serve model='huge'; it serves: small"):
        ServerJudge(server, "huge")
    with pytest.raises(JudgeError, match="context length"):
        ServerJudge(server).answer(pictures[:1], ["long " * 3000], QUESTIONS[:1])
