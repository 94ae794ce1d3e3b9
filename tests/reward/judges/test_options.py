import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reward import JudgeError, load_judge
from reward.judges import find_judge
from reward.judges.options import JUDGES, OPTIONS, VlmOptions, check_options

NEEDED: dict[str, dict[str, Any]] = {
    "measured": {},
    "vlm": {"model": "a/b"},
    "cogvlm2": {"trust_remote_code": True},
    "server": {"base_urls": "http://localhost:8000/v1"},
    **{scorer: {} for scorer in ("clip-score", "pickscore", "hpsv3", "imagereward", "videoreward", "vqascore")},
}
OBJECTS = {("vlm", "processor")}  # parameters that take what neither a recipe nor a command line can write
SCORERS = JUDGES[4:]


@pytest.mark.parametrize("judge", JUDGES)
def test_every_parameter_is_an_option_with_the_same_default(judge):
    parameters = inspect.signature(find_judge(judge, NEEDED[judge])).parameters
    defaults = {name: each.default for name, each in parameters.items() if (judge, name) not in OBJECTS}
    required = {name for name, default in defaults.items() if default is inspect.Parameter.empty}
    fields = OPTIONS[judge].model_fields
    assert list(fields) == list(defaults)
    assert {name for name, each in fields.items() if each.is_required()} == required
    for name in set(defaults) - required:
        assert (fields[name].default, type(fields[name].default)) == (defaults[name], type(defaults[name])), name


WRONG = [
    *(("vlm", name, value) for name in ("batch_size", "max_packed_tokens", "num_frames") for value in ("two", 0, 1.5, True, None)),
    *(("vlm", name, "paked") for name in ("mode", "dtype", "quantization")),
    *(("vlm", name, 3) for name in ("model", "mode", "template", "dtype", "attn_implementation", "revision")),
    *(("vlm", "trust_remote_code", value) for value in ("yes", 1, None)),
    *(("vlm", "device_map", value) for value in (1.5, True, [0], {"model": None}, {0: "cpu"})),
    ("vlm", "model", ""),
    ("vlm", "template", "Well?"),
    *(("cogvlm2", name, "paked") for name in ("mode", "dtype", "quantization", "kind")),
    ("cogvlm2", "trust_remote_code", False),
    *(("server", "base_urls", value) for value in ([], 3, [1], None)),
    *(("server", name, value) for name in ("concurrency", "num_frames", "batch_size") for value in (0, "two")),
    *(("server", "timeout_s", value) for value in (0, -1.0, "2 min", float("nan"), float("inf"))),
    *(("server", "max_retries", value) for value in (-1, 0.5)),
    ("server", "model", 7),
    ("server", "template", "Well?"),
    *((scorer, name, value) for scorer in SCORERS for name, value in (("model", ""), ("processor", 3), ("revision", 3), ("dtype", "half"), ("device_map", 1.5), ("batch_size", 0))),
    *((scorer, "quantization", "2bit") for scorer in ("hpsv3", "vqascore")),
    ("vqascore", "num_frames", 0),
]  # fmt: skip


@pytest.mark.parametrize(("judge", "name", "value"), WRONG)
def test_a_wrong_value_is_refused_in_one_line(judge, name, value):
    with pytest.raises(JudgeError) as raised:
        check_options(judge, {**NEEDED[judge], name: value})
    message = str(raised.value)
    assert message.startswith(f"judge {judge!r}: {name}={value!r} is not possible; ")
    assert len(message.splitlines()) == 1
    assert not message.endswith("; ")


def test_every_option_of_every_judge_has_a_wrong_value_above():
    refused = {(judge, name) for judge, name, _ in WRONG} | {("cogvlm2", name) for name in VlmOptions.model_fields}
    known = {(judge, name) for judge in JUDGES for name in OPTIONS[judge].model_fields}
    assert known - refused == {("server", "api_key")}  # whose value no message may repeat


def test_a_key_is_not_repeated():
    with pytest.raises(JudgeError, match="api_key=… is not possible; give text"):
        check_options("server", {**NEEDED["server"], "api_key": 123456})
    assert "secret" not in repr(check_options("server", {**NEEDED["server"], "api_key": "secret"}))


@pytest.mark.parametrize(
    ("judge", "options", "message"),
    [
        ("vlm", {"model": "x", "mode": "paked"}, "did you mean 'packed'?"),
        ("vlm", {"modle": "x"}, "judge 'vlm' has no option 'modle'; .*did you mean 'model'?"),
        ("vlm", {"model": "x", "batchsize": 2}, "did you mean 'batch_size'?"),
        ("server", {"base_url": "x"}, "did you mean 'base_urls'?"),
        ("vlm", {}, "judge 'vlm' needs the option 'model'; its options: model, mode"),
        (
            "vlm",
            {"model": "x", "kind": "image"},
            r"judge 'vlm' has no option 'kind' \(an option of cogvlm2\); its options: ",
        ),
        (
            "measured",
            {"model": "x"},
            r"'measured' has no option 'model' \(an option of vlm, cogvlm2, server, .*\); its options: none$",
        ),
        ("mesured", {}, "judge='mesured' is unknown; judges: measured, vlm, .*did you mean 'measured'?"),
    ],
)
def test_a_misspelling_is_answered_with_a_guess(judge, options, message):
    for refuse in (check_options, find_judge, lambda name, given: load_judge(name, **given)):
        with pytest.raises(JudgeError, match=message.replace("?", "\\?")):
            refuse(judge, options)


def test_paths_and_several_addresses_do(tmp_path):
    assert check_options("vlm", {"model": Path(tmp_path)}).model == str(tmp_path)  # type: ignore[attr-defined]
    for given in (["http://a/v1", "http://b/v1"], ("http://a/v1", "http://b/v1")):
        assert check_options("server", {"base_urls": given}).base_urls == ("http://a/v1", "http://b/v1")  # type: ignore[attr-defined]
    for place in ("auto", 0, {"": 0}, {"model.visual": "cpu", "lm_head": "disk"}, None):
        check_options("vlm", {"model": "x", "device_map": place})


def test_a_mistake_is_found_before_any_model_library_is_loaded():
    code = """
import sys
from reward import JudgeError
from reward.judges import load_judge
try:
    load_judge("vlm", model="a/b", mode="paked")
except JudgeError as error:
    print(error)
sys.exit(bool({"torch", "transformers", "openai"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "mode='paked'" in done.stdout
