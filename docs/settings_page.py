"""The page of all settings: fields of typed records with their types, defaults, and the comments beside them in the source.

Reads the source and imports none of it, so that the site is built without the libraries.
"""

import ast
import io
import json
import re
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

NAMES = {
    "str": "text", "int": "whole number", "float": "number", "bool": "true or false", "Any": "any", "Kind": "`image`, `video`",
    "Judging": "[judge](#judge)", "Size": "size",
}  # fmt: skip
BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


@dataclass(frozen=True)
class Setting:
    """One field of a record."""

    name: str
    type: str
    default: str  # "" = it must be given
    words: str


@dataclass(frozen=True)
class Record:
    """A class with fields."""

    name: str
    words: str  # its docstring
    settings: tuple[Setting, ...]


def records(source: str) -> dict[str, Record]:
    """The classes of a module that have fields, by name."""
    tree, lines = ast.parse(source), comments(source)
    aliases = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    names = {node.name for node in classes}
    found = {}
    for node in classes:
        fields = list(fields_of(node, lines, aliases, names))
        if fields:
            found[node.name] = Record(node.name, ast.get_docstring(node) or "", tuple(fields))
    return found


def comments(source: str) -> dict[int, str]:
    """Line -> its comment."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT and "fmt:" not in t.string}


def fields_of(
    node: ast.ClassDef, lines: dict[int, str], aliases: dict[str, ast.expr], sections: set[str]
) -> Iterator[Setting]:
    """A comment between two fields is the second's if that has none of its own, and is no section; else the first's."""
    last, fields = node.lineno, [each for each in node.body if isinstance(each, ast.AnnAssign)]
    starts = [body.lineno for body in node.body] + [(node.end_lineno or node.lineno) + 2]
    for place, field in enumerate(fields):
        assert isinstance(field.target, ast.Name)
        end = field.end_lineno or field.lineno
        own = [lines[k] for k in range(field.lineno, end + 1) if k in lines]
        before = [lines[k] for k in range(last + 1, field.lineno) if k in lines] if not own else []
        after = min((start for start in starts if start > end), default=end + 1)
        following = fields[place + 1] if place + 1 < len(fields) and fields[place + 1].lineno == after else None
        theirs = following is not None and not any(
            k in lines for k in range(following.lineno, (following.end_lineno or following.lineno) + 1)
        )
        is_section = following is not None and bool(sections & names_in(following.annotation))
        more = [lines[k] for k in range(end + 1, after) if k in lines] if not theirs or is_section else []
        last = end if not more else after
        type_, default = words_of(field.annotation, aliases), default_of(field.value, aliases)
        if field.target.id != "model_config":
            yield Setting(field.target.id, type_, default, " ".join([*before, *own, *more]))


def names_in(node: ast.expr) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def words_of(node: ast.expr, aliases: dict[str, ast.expr]) -> str:
    """A type as a reader of YAML needs it: "int, at least 1", "a, b or null"."""
    if isinstance(node, ast.Name) and node.id in aliases:
        return words_of(aliases[node.id], aliases)
    if isinstance(node, ast.BinOp):
        return f"{words_of(node.left, aliases)} or {words_of(node.right, aliases)}"
    if isinstance(node, ast.Constant):
        return "null" if node.value is None else str(node.value)
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        match node.value.id:
            case "Annotated":
                bounds = [
                    f"{BOUNDS[word.arg]} {ast.unparse(word.value)}"
                    for call in inner[1:]
                    if isinstance(call, ast.Call)
                    for word in call.keywords
                    if word.arg in BOUNDS
                ]
                return ", ".join([words_of(inner[0], aliases), *bounds])
            case "Literal":
                return ", ".join(f"`{each.value}`" for each in inner if isinstance(each, ast.Constant))
            case "tuple" if len(inner) == 2 and ast.unparse(inner[1]) == "...":
                return f"list of {words_of(inner[0], aliases)}"
            case "tuple":
                return f"list of {len(inner)} {words_of(inner[0], aliases)}"
            case "dict":
                return "mapping"
    return NAMES.get(ast.unparse(node), ast.unparse(node))


def default_of(node: ast.expr | None, aliases: dict[str, ast.expr]) -> str:
    """As YAML has it."""
    if node is None:
        return ""
    if isinstance(node, ast.Call):  # Field(default_factory=…)
        return "{}"
    value = ast.literal_eval(aliases.get(node.id, node) if isinstance(node, ast.Name) else node)
    return value if isinstance(value, str) else json.dumps(value)


def table(record: Record) -> str:
    rows = [
        f"| `{s.name}` | {s.type} | {f'`{s.default}`' if s.default else ''} | {escaped(s.words)} |"
        for s in record.settings
    ]
    return "\n".join(["| field | is | default | what |", "|---|---|---|---|", *rows])


def escaped(text: str) -> str:
    """Words of Python's as YAML's, and nothing that Markdown takes for its own."""
    return re.sub(r"([|<*])", r"\\\1", re.sub(r"\bNone\b", "null", text))


def title(name: str) -> str:
    """PromptSource -> Prompt source."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).capitalize()


def linked(text: str, sections: Iterable[str]) -> str:
    """A section's name in a type, as a link to it."""
    for name in sections:
        text = re.sub(rf"\b{name}\b", f"[{title(name).lower()}](#{title(name).lower().replace(' ', '-')})", text)
    return text


def settings_page(root: Path) -> str:
    """The page: a recipe's sections in order, one judge, and the options of each judge."""
    recipe = records((root / "mpo/recipe.py").read_text("utf-8"))
    judging = records((root / "reward/judging.py").read_text("utf-8"))["Judging"]
    options = records((root / "reward/judges/options.py").read_text("utf-8"))
    whole = recipe.pop("Recipe")
    parts = [
        "# All settings",
        "Each field of a recipe, from the source. A field without a default must be given; a section that is not there is `null`. "
        "`mpo show RECIPE` prints a recipe with every value, and any of them is a setting: `--set train.beta=500`.",
        "## Recipe",
        whole.words,
        linked(table(whole), recipe),
    ]
    for name, record in recipe.items():
        parts += [f"## {title(name)}", record.words, linked(table(record), ["PromptSource"])]
    parts += ["## Judge", judging.words, table(judging), "## Options of judges", "What a judge's `options` may hold."]
    for name, record in options.items():
        parts += [f"### {name.removesuffix('Options')}", record.words, table(record)]
    return "\n\n".join(part for part in parts if part) + "\n"
