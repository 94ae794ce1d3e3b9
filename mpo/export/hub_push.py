"""A folder with its card to the Hugging Face hub."""

from pathlib import Path
from typing import Any, Literal

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled

from mpo import MpoError
from mpo.runtime.hub import is_offline
from reward.errors import first_line


def push(folder: Path, repo: str, *, kind: Literal["model", "dataset"], private: bool = False, api: Any = None) -> str:
    """Upload a folder to a repository, which is made if there is none, in one commit; returns its page.

    repo: "owner/name". private: of a new repository. api: an `HfApi`; None = one with the user's own login. Raises MpoError
    if the hub cannot be reached, or refuses.
    """
    if api is None:
        if is_offline():
            raise MpoError("--push-to-hub: the hub cannot be reached (offline?); connect, or upload the folder later")
        api = HfApi()
    try:
        url = api.create_repo(repo, repo_type=kind, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=url.repo_id, repo_type=kind, folder_path=folder, commit_message=f"Upload {kind} made with mpo"
        )
    except HFValidationError as error:
        raise MpoError(
            f"--push-to-hub={repo!r} is no repository's name ({first_line(error)}); give owner/name"
        ) from None
    except (LocalTokenNotFoundError, HfHubHTTPError, OfflineModeIsEnabled, ValueError) as error:
        raise MpoError(
            f"--push-to-hub={repo!r}: the hub refused ({first_line(error)}); log in with `hf auth login`, with a token that may write"
        ) from None
    return str(url)
