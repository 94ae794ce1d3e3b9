"""The project's documents: their blocks, links and headings, as GitHub and the site read them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^(`{3,})([\w.-]*)[^\n]*\n(.*?)^\1`*[ ]*$", re.DOTALL | re.MULTILINE)
COMMENT = re.compile(r"<!--((?:(?!-->).)*)-->\s*\Z", re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} (.+?)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: str  # relative to the repository
    line: int  # of the fence, from 1
    language: str
    text: str
    remark: str  # the HTML comment right before it, which may say why it is not run

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """All documents for users, relative to the repository."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [page.relative_to(ROOT).as_posix() for page in found]


def read(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


def blocks(page: str) -> Iterator[Block]:
    text = read(page)
    for match in FENCE.finditer(text):
        before = text[: match.start()]
        comment = COMMENT.search(before)
        remark = " ".join(comment[1].split()) if comment else ""
        yield Block(page, before.count("\n") + 1, match[2], match[3], remark)


def section(page: str, title: str) -> str:
    """The text below a heading of the second level."""
    return read(page).split(f"\n## {title}\n")[1].split("\n## ")[0]


def links(page: str) -> list[str]:
    """Targets outside of code."""
    prose = re.sub(r"`[^`\n]*`", "", FENCE.sub("", read(page)))
    return LINK.findall(prose)


def anchors(page: str) -> set[str]:
    """What a link to the page may name after #, by GitHub's rule and the site's, which agree for these headings."""
    return {slug(title) for title in HEADING.findall(FENCE.sub("", read(page)))}


def slug(title: str) -> str:
    words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", words).strip())
