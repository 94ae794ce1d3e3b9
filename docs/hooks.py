"""What mkdocs calls while it builds the site: pages from the repository's other files, links to them, formulas as MathML.

The README, the recipes and the examples stay where they are, and links between pages are those that work in the repository.
A link to a file that the site has not is left as it is, and mkdocs refuses it.
"""

import html
import json
import logging
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from settings_page import settings_page  # beside this file

ROOT = Path(__file__).parents[1]
log = logging.getLogger("mkdocs.hooks")

# Files that are a page of the site each: by their place in the repository.
COPIES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "docs/quickstart.ipynb": "quickstart.md",
    "mpo/embedded/model/README.md": "embedded/model.md",
    "mpo/embedded/clip_model/README.md": "embedded/clip-model.md",
    "mpo/embedded/oracle/README.md": "embedded/oracle.md",
}
# Files that are a section each of one page: the page -> its head, and which files.
LISTINGS = {
    "recipes.md": (
        "# Recipes\n\nAs `mpo run NAME` takes them; `mpo show NAME` fills in every value. For several GPUs there are "
        "[configurations of accelerate](guides/many-machines.md).",
        ("recipes/*.yaml", "recipes/accelerate/*.yaml"),
    ),
    "examples.md": ("# Examples\n\nTests run them as they stand.", ("examples/*.py",)),
    "checklists.md": ("# Checklists\n\nWhat a checklist may hold: [reward.md](reward.md#checklists).", ("reward/checklists/*",)),
}  # fmt: skip
SETTINGS = "settings.md"  # the page of all settings, from the source
LANGUAGES = {".py": "python", ".yaml": "yaml", ".json": "json"}
LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
FOREIGN = re.compile(
    r"<(?:script|img|iframe|source|video)\b[^>]*\bsrc=.?(?:https?:)?//|<link\b[^>]*stylesheet[^>]*\bhref=.?(?:https?:)?//"
)


def listed(page: str) -> Iterator[Path]:
    """The files of one listing."""
    for pattern in LISTINGS[page][1]:
        yield from sorted(file for file in ROOT.glob(pattern) if file.suffix in LANGUAGES)


def places() -> dict[str, str]:
    """A path in the repository -> where the site has it, with an anchor if it is a part of a page."""
    found = {path: page for path, page in COPIES.items() if (ROOT / path).exists()}
    for page in LISTINGS:
        for file in listed(page):
            path = file.relative_to(ROOT).as_posix()
            found[path] = f"{page}#{file.stem}"
            found.setdefault(posixpath.dirname(path), page)
    return found


def listing(page: str) -> str:
    """A page with a section for each file: its text, whole."""
    parts = [LISTINGS[page][0]]
    for file in listed(page):
        parts.append(f"## {file.name} {{ #{file.stem} }}")
        parts.append(f"````{LANGUAGES[file.suffix]}\n{file.read_text('utf-8').rstrip()}\n````")
    return "\n\n".join(parts) + "\n"


def notebook(file: Path) -> str:
    """A notebook's cells as a page, without what they printed."""
    parts = []
    for cell in json.loads(file.read_text("utf-8"))["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
    return "\n\n".join(parts) + "\n"


def on_files(files: Any, config: Any) -> Any:
    """mkdocs: adds the pages that come from elsewhere, and the pictures beside them."""
    from mkdocs.structure.files import File  # late: the tests need no mkdocs

    for path, page in COPIES.items():
        file = ROOT / path
        if file.exists():
            text = notebook(file) if file.suffix == ".ipynb" else file.read_text("utf-8")
            files.append(File.generated(config, page, content=text))
    for page in LISTINGS:
        files.append(File.generated(config, page, content=listing(page)))
    files.append(File.generated(config, SETTINGS, content=settings_page(ROOT)))
    sheet = "mpo/embedded/clip_model/contact_sheet.png"
    files.append(File.generated(config, "embedded/contact_sheet.png", abs_src_path=str(ROOT / sheet)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """mkdocs: links as they work in the repository become links as they work on the site."""
    here = page.file.src_uri
    sources = {site: path for path, site in places().items()}
    folder = posixpath.dirname(sources.get(here, f"docs/{here}"))
    found = places()

    def site_link(match: re.Match[str]) -> str:
        start, target, anchor, end = match.groups()
        path = posixpath.normpath(posixpath.join(folder, target))
        place = found.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
        if ":" in target or place is None:
            return match[0]
        name, _, part = place.partition("#")
        anchor = anchor or (f"#{part}" if part else "")
        return f"{start}{posixpath.relpath(name, posixpath.dirname(here) or '.')}{anchor}{end}"

    return LINK.sub(site_link, markdown)


def on_page_content(html_text: str, **_: Any) -> str:
    """mkdocs: formulas become MathML, which browsers show without a library."""
    from latex2mathml.converter import convert

    def mathml(match: re.Match[str]) -> str:
        return convert(html.unescape(match[3]).strip(), display="inline" if match[2] == "(" else "block")

    return FORMULA.sub(mathml, html_text)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """mkdocs: a page that would ask another host for something is refused (by `--strict`)."""
    for found in FOREIGN.findall(output):
        log.warning("%s asks another host: %s", page.file.src_uri, found)
    return output
