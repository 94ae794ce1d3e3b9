"""Freeing models: the hooks of offloading, and layers in fewer bits, hold themselves, so that Python would free them late or never."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from accelerate.utils.memory import clear_device_cache


def before_loading() -> None:
    """What is there now is not looked at by `free_dropped`, which then takes milliseconds in place of most of a second."""
    gc.freeze()


def free_dropped() -> None:
    """Free what nobody can reach any more, on the GPU, too."""
    clear_device_cache(garbage_collection=True)
    gc.unfreeze()


@contextmanager
def freed_afterwards() -> Iterator[None]:
    """As a decorator: what a function loads is freed when it returns."""
    before_loading()
    try:
        yield
    finally:
        free_dropped()
