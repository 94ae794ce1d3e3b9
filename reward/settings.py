"""Settings as people write them: YAML in files, KEY=VALUE on a command line. Both are read the same way."""

import re
from typing import Any

import yaml

from reward.errors import RewardError

# YAML 1.1, which PyYAML reads, needs a point and a sign in 1.0e-5; YAML 1.2 and everybody else read 1e-5 as a number.
_FLOAT = re.compile(r"^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$")


_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's, eight times as fast, where PyYAML has it


class _Loader(_SafeLoader):
    pass


class _Dumper(yaml.SafeDumper):  # quotes the text "1e-5", which would otherwise be read back as a number
    pass


for _each in (_Loader, _Dumper):
    _each.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


def read_yaml(text: str) -> Any:
    """The value that a YAML text stands for; 1e-5 is a number. Raises yaml.YAMLError."""
    try:
        return yaml.load(text, Loader=_Loader)
    except ValueError as error:  # such as the date 2024-13-45
        raise yaml.YAMLError(str(error)) from error


def write_yaml(value: Any, *, flow: bool = False) -> str:
    """The YAML text that `read_yaml` reads as this value, keys in their order. flow: on one line."""
    layout: dict[str, Any] = {"default_flow_style": True, "width": float("inf")} if flow else {}
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, **layout)


def parse_setting(text: str, *, flag: str, example: str, error: type[Exception] = RewardError) -> tuple[str, Any]:
    """KEY=VALUE -> (key, value read as YAML). A dotted key stays one text.

    flag: the option that the text came with, such as "--set". example: a valid setting.
    Raises `error` with one line.

    >>> parse_setting("train.learning_rate=1e-5", flag="--set", example="seed=1")
    ('train.learning_rate', 1e-05)
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise error(f"{flag} {text!r} is not KEY=VALUE; for example {flag} {example}")
    try:
        return key.strip(), read_yaml(value)
    except yaml.YAMLError:
        raise error(f"{flag} {text!r}: the value is not YAML; quote it, as in {flag} '{key.strip()}=\"…\"'") from None
