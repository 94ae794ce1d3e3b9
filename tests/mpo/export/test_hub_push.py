from types import SimpleNamespace

import pytest
from huggingface_hub import ModelCard
from huggingface_hub.errors import LocalTokenNotFoundError
from huggingface_hub.utils import validate_repo_id

from mpo import MpoError
from mpo.export.hub_push import push
from tests.helpers.processes import mpo


class StandInHub:
    """Takes what `HfApi` is asked to send, by its own rules for names."""

    def __init__(self, refusal: str = ""):
        self.refusal, self.repositories = refusal, {}

    def create_repo(self, repo: str, *, repo_type: str, private: bool, exist_ok: bool) -> SimpleNamespace:
        validate_repo_id(repo)
        if self.refusal:
            raise LocalTokenNotFoundError(self.refusal)
        self.repositories[repo] = {"type": repo_type, "private": private, "files": {}}
        return SimpleNamespace(repo_id=repo)

    def upload_folder(self, *, repo_id: str, repo_type: str, folder_path, commit_message: str) -> None:
        files = {p.relative_to(folder_path).as_posix(): p.read_bytes() for p in folder_path.rglob("*") if p.is_file()}
        self.repositories[repo_id]["files"] = files


def test_a_runs_lora_goes_up_with_its_card_and_samples(finished):
    hub = StandInHub()
    push(finished / "lora", "somebody/tuned", kind="model", private=True, api=hub)
    held = hub.repositories["somebody/tuned"]
    assert (held["type"], held["private"]) == ("model", True)
    assert {
        "README.md",
        "pytorch_lora_weights.safetensors",
        "small-comfyui.safetensors",
        "samples/strengths.png",
    } <= held["files"].keys()
    assert ModelCard(held["files"]["README.md"].decode()).data.pipeline_tag == "text-to-image"


@pytest.mark.parametrize(
    ("repo", "refusal", "message"),
    [
        ("a/b/c", "", "'a/b/c' is no repository's name .*; give owner/name"),
        ("a/b", "Token is required", "the hub refused .Token is required.; log in with `hf auth login`"),
    ],
)
def test_what_the_hub_refuses_is_one_line(repo, refusal, message, finished):
    with pytest.raises(MpoError, match=message):
        push(finished / "lora", repo, kind="model", api=StandInHub(refusal))


def test_without_the_hub_the_command_says_so(finished, tmp_path, capsys):
    """The files are made; only the upload is left."""
    assert mpo("dataset", finished, "--output", tmp_path / "data", "--push-to-hub", "somebody/pairs") == 2
    assert "the hub cannot be reached (offline?)" in capsys.readouterr().out
    assert (tmp_path / "data" / "README.md").is_file()
