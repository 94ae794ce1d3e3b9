"""The documents: that every page is on the site, and every link leads somewhere. Their blocks: tests/test_document_blocks.py."""

import importlib
import importlib.util
import posixpath
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests.helpers.documents import ROOT, anchors, links, pages, read


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    """What mkdocs calls."""
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
    made = [*hooks.COPIES.values(), *hooks.LISTINGS]
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
        assert (ROOT / path).exists(), f"{page} links to {target}, which is not there"
        on_site = path in hooks.places() or path in pages() or Path(path).suffix in (".png", ".svg")
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
    import diffusers

    from mpo.export import comfyui, kohya
    from mpo.export.diffusers import has_loader
    from mpo.models.families import FAMILIES
    from mpo.models.noise import flow_noise

    classes: dict[str, list[Any]] = {}
    for name, module in FAMILIES.items():
        classes.setdefault(module.rpartition(".")[2], []).append(getattr(diffusers, name))
    table = read("README.md").split("\n## Models\n")[1].split("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\|.*\|$", table, re.MULTILINE)
    ]
    assert [row[0] for row in rows[2:]] == list(ROWS)
    assert set(classes) == {family for families in ROWS.values() for family in families}
    recipes = []
    for model, _, kind, memory, _, exports in rows[2:]:
        for family in ROWS[model]:
            module = importlib.import_module(f"mpo.models.families.{family}")
            assert (kind == "flow") == (module.add_noise is flow_noise), model
            assert ("ComfyUI" in exports) == (family in comfyui.NAMINGS), model
            assert ("A1111" in exports) == (family in kohya.NAMINGS), model
            assert ("diffusers" in exports) == all(map(has_loader, classes[family])), model
        for name, size in re.findall(r"`([\w.-]+)`(?: (\d+) GB)?", memory):
            recipes.append(name)
            head = read(f"recipes/{name}.yaml")
            assert (f"about {size} GB of GPU memory in training" in head) == bool(size), name
    assert sorted(recipes) == sorted(file.stem for file in (ROOT / "recipes").glob("*.yaml"))
