"""Several processes: who does what, and waiting for each other. One process alone is the case of one.

`accelerate launch -m mpo.cli run RECIPE` starts them; they share the run directory.
"""

from collections.abc import Sequence
from typing import TypeVar

from accelerate import PartialState

T = TypeVar("T")


def is_main() -> bool:
    return PartialState().is_main_process


def wait() -> None:
    """Until every process has come here."""
    PartialState().wait_for_everyone()


def share(items: Sequence[T]) -> list[T]:
    """This process's part: every so-manieth item, so that long work is dealt out evenly."""
    state = PartialState()
    return list(items[state.process_index :: state.num_processes])
