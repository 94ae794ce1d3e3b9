"""The service as a client meets it: the command in a process of its own, real sockets, faults among the requests."""

import base64
import io
import json
import re
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import psutil
import pytest
from PIL import Image

from tests.helpers.service import serving

JUDGE = '''
import numpy as np
from reward import JudgeError
from reward.judges import AnswersAnything
from reward.media import Sampling

class Redness(AnswersAnything):
    """The red of the first pixel; raises on some prompts."""
    kinds, sampling, batch_size, fingerprint = ("image",), Sampling(max_frames=1), 8, "redness-1"

    def answer(self, media, prompts, questions):
        if "raise" in prompts:
            raise RuntimeError("this judge has a bug")
        if "refuse" in prompts:
            raise JudgeError("it cannot be judged")
        if "wait" in prompts:
            import time
            time.sleep(3)
        return np.array([[np.asarray(m)[0, 0, 0] / 255] * len(questions) for m in media])
'''
CHECKLIST = """
name: red
version: 1
kind: image
subdimensions:
  - {name: red, dimension: colour, questions: [{id: red, text: "Is it red?", weight: 2.0, continuous: true}]}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("service")
    (folder / "redness.py").write_text(JUDGE, "utf-8")
    (folder / "red.yaml").write_text(CHECKLIST, "utf-8")
    (folder / "pictures").mkdir()
    (folder / "pictures" / "a.png").write_bytes(picture(51))
    (folder / "secret.png").write_bytes(picture(255))
    (folder / "pictures" / "link.png").symlink_to(folder / "secret.png")
    return folder


@pytest.fixture(scope="module")
def server(folder):
    """(url, process id)."""
    with serving(
        folder, "--judge", "redness:Redness", "--checklist", "red.yaml", "--root", "pictures", "--max-body-mb", "0.5",
        "--max-items", "20", "--timeout-s", "2",
    ) as found:  # fmt: skip
        yield found


def picture(red: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (red, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def item(red: int, prompt: str = "a cat") -> dict:
    return {"prompt": prompt, "data": base64.b64encode(picture(red)).decode()}


def post(url: str, content: object) -> tuple[int, dict]:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    try:
        with urlopen(Request(f"{url}/score", body, {"Content-Type": "application/json"}), timeout=60) as response:
            return response.status, json.load(response)
    except HTTPError as error:
        return error.code, json.load(error)


def test_items_are_scored_in_order(server):
    status, found = post(server[0], {"items": [item(255), item(0), {"prompt": "", "path": "a.png"}]})
    assert status == 200
    assert [row["total"] for row in found["results"]] == [2.0, 0.0, pytest.approx(0.4)]
    assert found["results"][0]["dimensions"] == {"colour": 2.0}
    assert (found["judge"], found["dimensions"], found["kind"]) == ("redness-1", ["colour"], "image")


def test_an_item_that_fails_has_an_error_and_no_score(server):
    broken = {"prompt": "a cat", "data": base64.b64encode(picture(9)[:40]).decode()}
    items = [item(255), broken, item(255, "raise"), item(102), item(1, "refuse"), {"prompt": "", "path": "none.png"}]
    status, found = post(server[0], {"items": items})
    assert status == 200
    good, bad = [found["results"][k] for k in (0, 3)], [found["results"][k] for k in (1, 2, 4, 5)]
    assert [row["total"] for row in good] == [2.0, pytest.approx(0.8)]
    assert all(row.keys() == {"error"} for row in bad)
    for row, words in zip(bad, ("cannot be decoded", "a bug", "cannot be judged", "none.png"), strict=True):
        assert re.search(words, row["error"])


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (b"not json", 400, "not JSON"),
        (b"[" * 100_000, 400, "not JSON"),
        ([1], 400, "not JSON"),
        ({"items": []}, 400, "0 items"),
        ({"items": [item(1)] * 21}, 413, "21 items; send 1 to 20"),
        ({"items": ["x" * 600_000]}, 413, "more than 0.5 MB"),
        ({"items": [{"prompt": "a cat"}]}, 400, "item 0 is not"),
        ({"items": [item(1) | {"colour": "red"}]}, 400, "item 0 is not"),
        ({"items": [{"prompt": 3, "data": ""}]}, 400, "item 0 is not"),
        ({"items": [{"frames": []}]}, 400, "item 0 is not"),
        ({"items": [{"frames": ["", 3]}]}, 400, "item 0: frames are not all base64"),
        ({"items": [{"frames": [""], "fps": 0}]}, 400, "item 0: fps=0 is not possible"),
        ({"items": [{"data": "no base64!"}]}, 400, "item 0: data is not base64"),
        ({"items": [{"path": "../secret.png"}]}, 403, "not under the service's root"),
        ({"items": [{"path": "/etc/passwd"}]}, 403, "not under the service's root"),
        ({"items": [{"path": "link.png"}]}, 403, "not under the service's root"),
        ({"items": [{"path": "a\0b"}]}, 403, "not under the service's root"),
        ({"items": [item(1, "wait")]}, 504, "no answer within 2 s"),
    ],
)
def test_what_cannot_be_served_is_refused_as_a_whole(server, content, status, words):
    assert post(server[0], content)[0] == status
    assert words in post(server[0], content)[1]["error"]


def test_health_and_metrics(server):
    with urlopen(f"{server[0]}/health", timeout=60) as response:
        assert json.load(response)["judge"] == "redness-1"
    with urlopen(f"{server[0]}/metrics", timeout=60) as response:
        text = response.read().decode()
    assert re.search(r'reward_requests_total\{status="200"\} \d', text)
    assert 'reward_items_total{outcome="scored"}' in text
    assert "reward_waiting_items 0.0" in text


def ask(url: str, k: int) -> None:
    """Request k, one in ten with a fault; raises if it is lost or answered wrong."""
    red = [(7 * k + j) % 256 for j in range(1 + k % 4)]
    items = [item(each) for each in red]
    match k % 50:
        case 3 | 13:
            items[0]["data"] = base64.b64encode(picture(red[0])[:40]).decode()
        case 23:
            items[0]["prompt"] = "raise"
        case 33:
            assert post(url, {"items": ["x" * 600_000]})[0] == 413
            return
        case 43:  # a slow client, which sends half of a request and hangs up
            host, port = url.removeprefix("http://").split(":")
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
                time.sleep(0.2)
            return
    status, found = post(url, {"items": items})
    assert status == 200
    faulty = k % 50 in (3, 13, 23)
    assert ("error" in found["results"][0]) == faulty
    expected = [2 * each / 255 for each in red][faulty:]
    np.testing.assert_allclose([row["total"] for row in found["results"][faulty:]], expected)


def test_a_thousand_requests_of_16_clients_with_faults_among_them(server):
    """None lost, none answered wrong, and memory is flat: the last 600 take no more than the first 400 left behind."""
    url, pid = server
    with ThreadPoolExecutor(16) as clients:
        list(clients.map(lambda k: ask(url, k), range(400)))
        before = psutil.Process(pid).memory_info().rss
        list(clients.map(lambda k: ask(url, k), range(400, 1000)))
    assert psutil.Process(pid).memory_info().rss < before + 20e6


def test_a_port_that_is_taken_is_one_line(folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = [sys.executable, "-m", "reward.cli", "serve", "--port", str(taken.getsockname()[1])]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "cannot be listened at; give another port" in done.stderr
