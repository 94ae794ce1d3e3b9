"""Several processes: who does what, and waiting for each other. One process alone is the case of one.

`accelerate launch -m mpo.cli run RECIPE` starts them; they share the run directory.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

T = TypeVar("T")


def _state() -> Any:
    from accelerate import PartialState  # late: it takes torch along, and the command line's help needs none

    return PartialState()


def is_main() -> bool:
    return _state().is_main_process


def wait() -> None:
    """Until every process has come here."""
    _state().wait_for_everyone()


def share(items: Sequence[T]) -> list[T]:
    """This process's part: every so-manieth item, so that long work is dealt out evenly."""
    state = _state()
    return list(items[state.process_index :: state.num_processes])
