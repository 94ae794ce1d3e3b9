import math
import subprocess
import sys

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from reward import JudgeError, RewardError
from reward.settings import parse_setting, read_yaml, write_yaml

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x85\u2028\u2029"))  # PyYAML folds these
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(TEXT, SCALARS, max_size=3)


def same(a, b) -> bool:
    """Equal, and of equal types: 1 is not True, and not 1.0."""
    if isinstance(a, (list, dict)):
        pairs = zip(a.items(), b.items(), strict=True) if isinstance(a, dict) else zip(a, b, strict=True)
        return type(a) is type(b) and all(all(map(same, x, y)) if isinstance(a, dict) else same(x, y) for x, y in pairs)
    return type(a) is type(b) and a == b


@settings(max_examples=50, deadline=None)
@given(VALUES)
def test_what_is_written_is_read(value):
    assert same(read_yaml(write_yaml(value)), value)


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.booleans())
def test_numbers_as_python_writes_them(value):
    key, read = parse_setting(f"train.learning_rate={value}", flag="--set", example="seed=1")
    assert key == "train.learning_rate"
    assert same(read, value)


@given(st.text())
def test_any_text_in_quotes(value):
    quoted = yaml.safe_dump(value, default_style='"', width=math.inf)
    assert parse_setting(f"a.b={quoted}", flag="-o", example="seed=1") == ("a.b", value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5), ("1E5", 1e5), ("-.5e+3", -500.0), ("2000", 2000), ("null", None), ("", None), ("true", True),
        ("[1, 2]", [1, 2]), ("Qwen/Qwen2.5-VL-3B-Instruct", "Qwen/Qwen2.5-VL-3B-Instruct"), ("a=b", "a=b"), ("1e", "1e"),
        ('"1e5"', "1e5"), ("http://localhost:8000/v1", "http://localhost:8000/v1"),
    ],
)  # fmt: skip
def test_values_are_yaml_with_the_floats_that_people_write(text, value):
    assert same(parse_setting(f"key={text}", flag="-o", example="seed=1")[1], value)


@pytest.mark.parametrize("text", ["mode", "=packed", " =packed", ""])
def test_what_is_no_setting_is_said_in_one_line(text):
    with pytest.raises(RewardError, match=r"^--option .* is not KEY=VALUE; for example --option batch_size=4$"):
        parse_setting(text, flag="--option", example="batch_size=4")


@pytest.mark.parametrize("value", ["[1, 2", "2024-13-45", "{a", "\x00", "!!python/object:os.system x"])
def test_what_is_no_yaml_is_said_in_the_caller_s_error(value):
    with pytest.raises(JudgeError, match=r"^--set .*: the value is not YAML; quote it") as raised:
        parse_setting(f"a={value}", flag="--set", example="seed=1", error=JudgeError)
    assert len(str(raised.value).splitlines()) == 1


def test_reading_settings_and_options_leaves_the_heavy_libraries_out():
    heavy = "{'torch', 'transformers', 'openai'}"
    code = f"import reward.settings, reward.judges.options, sys; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
