"""Which model a path stands for now: folders are edited, and a branch of the hub moves."""

import hashlib
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from mpo.models import SHIPPED
from mpo.recipe import Model

BLOCK, NUM_BLOCKS = 2**16, 16  # bytes, and how many blocks of a large file are read
UNREAD = (".md", ".png", ".jpg", ".jpeg", ".webp", ".gif", ".mp4", ".pdf")  # what no pipeline reads: cards, previews


def model_identity(model: Model) -> str:
    """A digest of a folder or file: of each file its name, its size and evenly spaced blocks; of the hub, the commit.

    Cards, licences, previews and hidden files do not count. "unknown" if the hub's copy is not in the cache yet.
    """
    path = SHIPPED.get(model.path) or Path(model.path)
    if not path.exists():
        cached = try_to_load_from_cache(model.path, "model_index.json", revision=model.revision)
        return Path(cached).parent.name if isinstance(cached, str) else "unknown"
    sha = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file() and not _is_unread(file):
            size = file.stat().st_size
            sha.update(f"{file.relative_to(path)} {size}\n".encode())
            with file.open("rb") as opened:
                for k in range(NUM_BLOCKS):
                    opened.seek(k * max(size - BLOCK, 0) // (NUM_BLOCKS - 1))
                    sha.update(opened.read(BLOCK))
                    if size <= BLOCK:
                        break
    return sha.hexdigest()[:16]


def _is_unread(file: Path) -> bool:
    return file.name.startswith((".", "LICENSE")) or file.suffix.lower() in UNREAD
