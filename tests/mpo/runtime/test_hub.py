import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import datasets
import pytest

from mpo.runtime.hub import is_hub_id

ASK = """
import json, sys, time
from mpo import MpoError
from mpo.data.prompts import embed
from mpo.data.readers import read_rows
from mpo.models.loading import load_index
from mpo.recipe import Model
import datasets, transformers, transformers.models.auto
outcomes, seconds = [], time.perf_counter()
for call in (
    lambda: load_index(Model(path="nobody/model")),
    lambda: load_index(Model(path="nobody/model")),
    lambda: embed(["a"], "nobody/encoder"),
    lambda: list(read_rows("nobody/prompts", split=None, revision=None, columns=["prompt"], field="prompts.train")),
    lambda: list(read_rows("nobody/colors", split=None, revision=None, columns=["prompt"], field="prompts.train")),
):
    try:
        outcomes.append(call())
    except MpoError as error:
        outcomes.append([type(error).__name__, str(error)])
print(json.dumps([outcomes, time.perf_counter() - seconds]))
"""


def run_online(program: str, **environment: str) -> str:
    """The last line that a new process prints which is not told to be offline."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_") and not k.lower().endswith("_proxy")}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=kept | environment, capture_output=True, text=True, check=True, timeout=120)
    return done.stdout.splitlines()[-1]


def cache_prompts(home: Path, tmp_path: Path) -> None:
    """A data set "nobody/colors" as `datasets` keeps those that it has loaded."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "red"}\n{"prompt": "blue"}\n')
    datasets.load_dataset("json", data_files=str(rows), cache_dir=str(tmp_path / "made"))
    (made,) = (tmp_path / "made" / "json").glob("*/*/*/dataset_info.json")
    kept = home / "datasets" / "nobody___colors" / "default" / "0.0.0" / made.parent.name
    kept.mkdir(parents=True)
    info = json.loads(made.read_text()) | {"config_name": "default", "dataset_name": "colors", "builder_name": "colors"}
    info["splits"]["train"]["dataset_name"] = "colors"
    (kept / "dataset_info.json").write_text(json.dumps(info))
    (kept / "colors-train.arrow").write_bytes((made.parent / "json-train.arrow").read_bytes())


def test_an_unreachable_hub_is_said_within_seconds_and_the_cache_still_serves(tmp_path):
    """Without being told to be offline, in a process of its own, since the answer is kept: 15 s, most of them imports.

    Each file that is asked for would otherwise take 23 s.
    """
    cache_prompts(tmp_path / "home", tmp_path)
    nobody = "http://127.0.0.1:9"  # nothing listens at this port
    outcomes, seconds = json.loads(run_online(ASK, HF_HOME=str(tmp_path / "home"), HF_ENDPOINT=nobody))
    places = [("model.path", "nobody/model")] * 2
    places += [("prompts.similarity", "nobody/encoder"), ("prompts.train", "nobody/prompts")]
    for (kind, message), (field, name) in zip(outcomes[:4], places, strict=True):
        assert kind == "OfflineError"
        assert message.startswith(f"{field}='{name}': the hub cannot be reached (offline?) and {name} is not")
    assert outcomes[4] == [{"prompt": "red"}, {"prompt": "blue"}]
    assert seconds < 10


def test_a_hub_that_answers_is_not_called_offline():
    """Whatever it answers; in a process of its own, since the answer is kept: 1 s."""

    class KnowsNothing(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), KnowsNothing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    program = "from mpo.runtime.hub import is_offline; print(is_offline())"
    try:
        assert run_online(program, HF_ENDPOINT=f"http://127.0.0.1:{server.server_port}") == "False"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("owner/name", True), ("name", True), ("./name", False), ("/a/b", False), ("a/b/c", False), ("a b", False)],
)
def test_what_can_be_an_id_of_the_hub(name, expected):
    assert is_hub_id(name) is expected
