"""The documents: that every page is on the site, and every link leads somewhere. Their blocks: tests/test_document_blocks.py."""

import importlib
import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests.helpers.documents import ROOT, anchors, links, pages, read


@pytest.fixture(scope="module", autouse=True)
def _importable() -> Iterator[None]:
    """The folder with what mkdocs calls, as mkdocs has it."""
    sys.path.insert(0, str(ROOT / "docs"))
    yield
    sys.path.remove(str(ROOT / "docs"))
    for name in ("hooks", "settings_page", "docstrings"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    """What mkdocs calls."""
    return importlib.import_module("hooks")


@pytest.fixture(scope="module")
def site() -> dict[str, Any]:
    return yaml.safe_load(read("mkdocs.yml"))


def pages_in(entry: Any) -> list[str]:
    """The pages of a part of the navigation, in order."""
    if isinstance(entry, str):
        return [entry]
    values = entry.values() if isinstance(entry, dict) else entry
    return [page for value in values for page in pages_in(value)]


def test_the_navigation_names_every_page_once(hooks, site):
    made = [*hooks.COPIES.values(), *hooks.LISTINGS, hooks.SETTINGS]
    missing = [path for path in hooks.COPIES if not (ROOT / path).is_file()]
    assert not missing, f"docs/hooks.py copies {missing}, which are not there"
    own = [path.removeprefix("docs/") for path in pages() if path.startswith("docs/")]
    assert sorted(pages_in(site["nav"])) == sorted([*made, *own])


@pytest.mark.parametrize("page", pages())
def test_links_lead_somewhere(page, hooks):
    for target in links(page):
        if re.match(r"https?://", target):
            continue
        file, _, anchor = target.partition("#")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page), file)) if file else page
        assert path == f"docs/{hooks.SETTINGS}" or (ROOT / path).exists(), (
            f"{page} links to {target}, which is not there"
        )
        made = path == f"docs/{hooks.SETTINGS}"
        on_site = made or path in hooks.places() or path in pages() or Path(path).suffix in (".png", ".svg")
        assert on_site, f"{page} links to {target}, which is no page of the site; docs/hooks.py could make it one"
        if anchor:
            assert anchor in anchors(path), f"{page} links to {target}, which is no heading there"


def test_a_link_of_the_repository_becomes_one_of_the_site(hooks):
    class Page:
        class file:  # noqa: N801
            src_uri = "new-family.md"

    text = "[a](../README.md#start) [b](../recipes/sdxl.yaml) [c](training.md#models) [d](https://x.org/a) [e](../nowhere.md)"
    assert hooks.on_page_markdown(text, Page) == (
        "[a](index.md#start) [b](recipes.md#sdxl) [c](training.md#models) [d](https://x.org/a) [e](../nowhere.md)"
    )


def test_what_asks_another_host_is_found(hooks, caplog):
    page = type("Page", (), {"file": type("File", (), {"src_uri": "x.md"})})
    hooks.on_post_page('<a href="https://arxiv.org">paper</a><script src="assets/a.js"></script>', page)
    assert not caplog.records
    for foreign in ('<img src="https://a.org/b.png">', '<link rel="stylesheet" href="https://fonts.org/a.css">'):
        hooks.on_post_page(foreign, page)
    assert len(caplog.records) == 2


def test_the_site_is_built_on_every_push_and_takes_no_fonts_from_elsewhere(site):
    jobs = yaml.safe_load(read(".github/workflows/test.yml"))["jobs"]
    assert "make docs PYTHON=python" in [step.get("run") for step in jobs["docs"]["steps"]]
    assert re.search(r"^MKDOCS \?= mkdocs build --strict$", read("Makefile"), re.MULTILINE)
    assert site["theme"]["font"] is False
    assert set(pages_in(site["validation"])) == {"warn"}


# The families of each row of the README's table, by their modules.
ROWS = {
    "embedded": ["stable_diffusion"],
    "embedded-video": ["animatediff"],
    "Stable Diffusion 1.x, 2.x": ["stable_diffusion"],
    "SDXL": ["stable_diffusion_xl"],
    "SD 3, 3.5": ["stable_diffusion_3"],
    "FLUX.1": ["flux"],
    "FLUX.2 dev, klein": ["flux2"],
    "Z-Image": ["z_image"],
    "Sana": ["sana"],
    "PixArt-Sigma": ["pixart_sigma"],
    "Qwen-Image, 2.1": ["qwen_image", "qwen_image_21"],
    "Chroma": ["chroma"],
    "Lumina 2": ["lumina2"],
    "HiDream-I1": ["hidream_image"],
    "CogView 4": ["cogview4"],
    "CogVideoX": ["cogvideox"],
    "Wan 2.1, 2.2": ["wan"],
    "LTX-Video": ["ltx"],
    "HunyuanVideo": ["hunyuan_video"],
    "AnimateDiff": ["animatediff"],
}


def test_the_readmes_table_is_what_the_code_and_the_recipes_say():
    """Which pipelines have a LoRA loader in diffusers, the tests of every family find: all but one."""
    from mpo.export import comfyui, kohya
    from mpo.models.families import FAMILIES

    table = read("README.md").split("\n## Models\n")[1].split("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\|.*\|$", table, re.MULTILINE)
    ]
    assert [row[0] for row in rows[2:]] == list(ROWS)
    assert {module.rpartition(".")[2] for module in FAMILIES.values()} == {
        f for families in ROWS.values() for f in families
    }
    recipes = []
    for model, _, kind, memory, _, exports in rows[2:]:
        for family in ROWS[model]:
            source = read(f"mpo/models/families/{family}.py")  # importing all of them takes most of a minute
            assert (kind == "flow") == ("import flow_noise as add_noise" in source), model
            assert ("ComfyUI" in exports) == (family in comfyui.NAMINGS), model
            assert ("Forge" in exports) == (family in kohya.NAMINGS), model
            assert ("A1111" in exports) == ("Forge" in exports and family != "flux"), model  # it has no Flux
            assert ("diffusers" in exports) != ("peft" in exports) == (family == "pixart_sigma"), model
        for name, size in re.findall(r"`([\w.-]+)`(?: (\d+) GB)?", memory):
            recipes.append(name)
            head = read(f"recipes/{name}.yaml")
            assert (f"about {size} GB of GPU memory in training" in head) == bool(size), name
    assert sorted(recipes) == sorted(file.stem for file in (ROOT / "recipes").glob("*.yaml"))


def records_of(module: Any) -> dict[str, Any]:
    return {
        name: each
        for name, each in vars(module).items()
        if isinstance(each, type) and each.__module__ == module.__name__ and hasattr(each, "model_fields")
    }


def test_the_page_of_settings_has_every_field_with_its_words():
    """Against what pydantic itself knows of the records."""
    from settings_page import records, settings_page  # type: ignore[import-not-found]

    from mpo import recipe
    from reward import judging
    from reward.judges import options

    page = settings_page(ROOT)
    for module in (recipe, judging, options):
        found = records(Path(str(module.__file__)).read_text("utf-8"))
        known = {name: record.model_fields for name, record in records_of(module).items() if record.model_fields}
        assert {name: [s.name for s in record.settings] for name, record in found.items()} == {
            n: list(f) for n, f in known.items()
        }
        for name, fields in known.items():
            for setting in found[name].settings:
                assert bool(setting.default) != fields[setting.name].is_required(), f"{name}.{setting.name}"
                is_section = any(other in setting.type for other in known)
                assert setting.words or is_section or setting.name in ("judge", "questions"), (
                    f"{name}.{setting.name} has no comment"
                )
                # Told once, and not among the words of a neighbour.
                assert setting.words.count("None =") == (setting.default == "null"), f"{name}.{setting.name}"
    rows = {
        "| `num_candidates` | whole number, at least 2 |  | a prompt |",
        "| `granularity` | `dimension`, `subdimension`, `question` | `dimension` | dominance only |",
        "| `vae_tiling` | true or false | `false` | large pictures and clips go through the autoencoder in tiles: less memory, almost equal |",
        "| `sizes` | list of size or null | `null` | [width, height] in pixels, of clips [width, height, frames, frames a second]; null = the pipeline's own size |",
        "| `timestep_range` | list of 2 number | `[0.0, 1.0]` | shares of the schedule, 0 = no noise; the rest is not trained |",
        "| `heldout` | [prompt source](#prompt-source) |  | what tuned and base are compared on |",
    }
    assert rows <= set(page.splitlines())


def test_a_docstring_becomes_markdown():
    from docstrings import as_markdown  # type: ignore[import-not-found]

    text = "Scores N items.\n\nmedia: files, or\narrays. fps: a second.\nRaises MediaError.\n\n>>> score(x)\n>>> 1"
    assert as_markdown(text, ["media", "fps"]) == (
        "Scores N items.\n\n- **media**: files, or\narrays. \n\n- **fps**: a second.\n\nRaises MediaError.\n\n```python\nscore(x)\n1\n```"
    )
    assert as_markdown("In a word: no.", ["word"]) == "In a word: no."


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "api").glob("*.md")), ids=lambda page: page.stem)
def test_the_reference_names_what_is_there(page):
    for path, options in re.findall(r"^::: ([\w.]+)\n((?:    .*\n)*)", page.read_text("utf-8") + "\n", re.MULTILINE):
        try:
            held: Any = importlib.import_module(path)
        except ModuleNotFoundError:
            module, _, name = path.rpartition(".")
            held = getattr(importlib.import_module(module), name)
        for member in (yaml.safe_load(options) or {}).get("options", {}).get("members", []):
            assert hasattr(held, member) or member in getattr(held, "model_fields", {}), f"{path} has no {member}"
