"""Whether the Hugging Face hub can be reached: asked once per process, and the answer is kept."""

import os
import re
from functools import lru_cache
from pathlib import Path

import huggingface_hub
from huggingface_hub import constants

from mpo import MpoError

TIMEOUT_S = 5.0  # to connect and answer; a reachable hub takes well under one


class OfflineError(MpoError):
    """Something from the hub is needed, is not in the cache, and cannot be downloaded now."""

    @classmethod
    def of(cls, field: str, name: str) -> "OfflineError":
        return cls(
            f"{field}={name!r}: the hub cannot be reached (offline?) and {name} is not completely in the local cache; connect, or give a local path"
        )


@lru_cache(maxsize=1)
def is_offline() -> bool:
    """True in offline mode (HF_HUB_OFFLINE=1), or if the hub does not answer within TIMEOUT_S.

    In the second case offline mode is switched on for this process and those that it starts. Otherwise every requested
    file would be tried six times, 23 seconds in all (huggingface_hub, `http_backoff`), before the cache is used.
    """
    if constants.is_offline_mode():
        return True
    try:
        huggingface_hub.get_session().head(constants.ENDPOINT, timeout=TIMEOUT_S)
    except Exception:  # its HTTP library, and so the errors' base class, differs between versions
        constants.HF_HUB_OFFLINE = True
        os.environ["HF_HUB_OFFLINE"] = "1"
        return True
    return False


def is_hub_id(name: str) -> bool:
    """Whether a name that is not a local file or folder can be a hub id, such as "owner/name"."""
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", name) is not None and not Path(name).exists()
