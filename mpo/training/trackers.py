"""TensorBoard and wandb, through accelerate: training's metrics and validation's sample pictures or clips."""

import configparser
import importlib.util
import io
import json
import netrc
import os
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from accelerate import Accelerator
from jaxtyping import UInt8

from mpo import MpoError
from mpo.recipe import Recipe
from mpo.run_folder.files import write_text
from mpo.run_folder.media import kind_of, playable, read_pixels
from mpo.runtime.processes import is_main

INSTALL = {"tensorboard": "pip install 'mpo[tensorboard]'", "wandb": "pip install wandb"}
NUM_PICTURES = 8  # a validation: enough to see a trend; a run with 100 validations still uploads below 1 GB at 1024 px
WANDB_MODES = ("online", "offline", "disabled", "shared")
WANDB_HOST = "https://api.wandb.ai"  # unless WANDB_BASE_URL or wandb's settings name another server


def check_trackers(recipe: Recipe) -> None:
    """Raises MpoError if a tracker is not installed, or wandb is told to be online and has no key. Uses no network."""
    for name in recipe.tracking.trackers:
        if importlib.util.find_spec(name) is None:
            raise MpoError(
                f"tracking.trackers names {name!r}, which is not installed; {INSTALL[name]}, or leave it out"
            )
    if "wandb" in recipe.tracking.trackers:
        wandb_mode()


def start_trackers(accelerator: Accelerator, recipe: Recipe) -> None:
    """Start the recipe's trackers in RUN/trackers; wandb is offline unless the user has logged in. Raises MpoError."""
    settings = recipe.tracking
    if not settings.trackers:
        return
    folder = Path(accelerator.project_dir)
    options: dict[str, Any] = {}
    failures: tuple[type[Exception], ...] = ()
    if "wandb" in settings.trackers:
        import wandb

        failures = (wandb.Error,)
        mode = wandb_mode()
        options = {
            "name": settings.name or recipe.name,
            "entity": settings.entity,
            "tags": list(settings.tags),
            "id": settings.run_id or _kept_run_id(folder),
            "dir": str(folder),
            "mode": mode,
        }
        if mode == "online":  # offline, the runs of one id are joined by `wandb sync --append`
            options["resume"] = "allow"
    flat = {f"{section}.{key}" if section else key: value for section, key, value in _flatten(recipe)}
    try:
        accelerator.init_trackers(settings.project, config=flat, init_kwargs={"wandb": options})
    except failures as error:
        raise MpoError(
            f"tracking.trackers: wandb cannot start ({' '.join(str(error).split())}); set WANDB_MODE=offline, or renew the login with `wandb login --relogin`"
        ) from error


def log_pictures(accelerator: Accelerator, pictures: Sequence[tuple[str, Path]], step: int) -> None:
    """Show the first NUM_PICTURES of (caption, file) in every tracker, under the tag "pictures". Main process only."""
    if not accelerator.is_main_process:
        return
    shown = pictures[:NUM_PICTURES]
    for tracker in accelerator.trackers:
        if tracker.name == "tensorboard":
            for i, (caption, file) in enumerate(shown):  # one tag a picture: TensorBoard has no captions
                tracker.writer.add_image(f"pictures/{i} {caption}", in_a_row(file), step, dataformats="HWC")
            tracker.writer.flush()
        elif tracker.name == "wandb":
            import wandb

            show = wandb.Image if kind_of(shown[0][1]) == "image" else _wandb_clip
            tracker.log({"pictures": [show(str(file), caption=caption) for caption, file in shown]}, step=step)


def in_a_row(file: Path) -> UInt8[np.ndarray, "H row 3"]:
    """A picture, or a clip's frames side by side: TensorBoard shows no clips without another library."""
    pixels = read_pixels(file)
    return np.concatenate(pixels.reshape(-1, *pixels.shape[-3:]), axis=1)


def _wandb_clip(file: str, caption: str) -> Any:
    import wandb

    return wandb.Video(io.BytesIO(playable(Path(file))), caption=caption, format="mp4")


def wandb_mode() -> str:
    """WANDB_MODE, or what wandb's settings files say; "offline" if nothing asks for another mode and nobody has logged in.

    wandb itself would ask on the terminal for an account. Raises MpoError if "online" is asked for without a key.
    """
    asked = os.environ.get("WANDB_MODE") or _wandb_setting("mode")
    if asked == "dryrun":  # the older word
        return "offline"
    if asked is not None and asked not in WANDB_MODES:
        raise MpoError(f"WANDB_MODE={asked!r} is unknown; use one of {', '.join(WANDB_MODES)}")
    if asked in ("online", "shared") and not wandb_logged_in():
        raise MpoError(
            f"WANDB_MODE={asked!r}, but there is no key for {_wandb_server()}; run `wandb login`, set WANDB_API_KEY, or use WANDB_MODE=offline"
        )
    return asked or ("online" if wandb_logged_in() else "offline")


def wandb_logged_in() -> bool:
    """Whether there is a key in the environment, or one in the netrc file for wandb's server."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(_wandb_server()).netloc
    named = os.environ.get("NETRC")
    for file in [named] if named else ["~/.netrc", "~/_netrc"]:
        try:
            # A default entry is meant for other servers; wandb's own entries name the host.
            return host in netrc.netrc(Path(file).expanduser()).hosts
        except FileNotFoundError:
            continue
        except (OSError, netrc.NetrcParseError):
            return False
    return False


def _wandb_server() -> str:
    return (os.environ.get("WANDB_BASE_URL") or _wandb_setting("base_url") or WANDB_HOST).rstrip("/")


def _wandb_setting(name: str) -> str | None:
    """A value from wandb's settings files; the working directory's wins over the user's."""
    user = Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb").expanduser()
    local = Path(os.environ.get("WANDB_DIR") or ".") / "wandb"
    for folder in (local, user):
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(folder / "settings", encoding="utf-8")
        except (OSError, configparser.Error, UnicodeDecodeError):
            continue
        if value := parser.get("default", name, fallback=None):
            return value
    return None


def _kept_run_id(folder: Path) -> str:
    """The run's id, made once per run folder, so that a resumed run continues in the same wandb run."""
    file = folder / "wandb_run_id.txt"
    if not file.exists() and is_main():
        write_text(file, uuid.uuid4().hex[:8] + "\n")
    return file.read_text("utf-8").strip() if file.exists() else ""


def _flatten(recipe: Recipe) -> Iterator[tuple[str, str, Any]]:
    for name, value in recipe.model_dump(mode="json").items():
        for key, inner in value.items() if isinstance(value, dict) else ((None, value),):
            scalar = inner if isinstance(inner, (int, float, str, bool)) else json.dumps(inner)
            yield (name, key, scalar) if key else ("", name, scalar)
