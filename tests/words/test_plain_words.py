"""The words of every message, help text, docstring and page are tested here; other tests hold kinds and values."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

import ucseg

SOURCE = Path(ucseg.__file__).parent
REPOSITORY = Path(__file__).resolve().parents[2]
ROOMS = sorted(
    path.relative_to(SOURCE).as_posix()
    for path in SOURCE.iterdir()
    if path.suffix == ".py" or (path / "__init__.py").exists()
)
PAGES = sorted(
    path.relative_to(REPOSITORY).as_posix() for path in [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")]
)
HARD_WORDS = re.compile(
    r"\b(told|tells?|telling|anew|begun|mend(s|ed|ing)?|whoever|whosoever|of (its|his|their|our) own|lest|amiss|"
    r"nought|aught|thereof|whereof|hereby|thereby|wherein|henceforth|save for|for want of|it be|need be)\b",
    re.IGNORECASE,
)
"""What plain modern English does without: report, warn, fix, start, again."""
LONGEST = 28
"""Words of a sentence."""
CODE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
MESSAGES = ("UserError", "Lost", "Finding", "say")
"""Calls whose first argument is a kind."""


def text_of(node: ast.AST) -> str:
    """The words of a string, with X for each value that is filled in."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "X" for part in node.values)
    if isinstance(node, ast.BinOp):
        return text_of(node.left) + text_of(node.right)
    return ""


def sentences(text: str) -> Iterator[str]:
    """The sentences of a text; code, tables, and lists of settings are left out."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    for paragraph in re.split(r"\n\s*\n|\n(?=\s*([-*#|>]|\d+\.)\s)|\n(?=    )", text):
        if paragraph is None or paragraph.lstrip().startswith(("|", "    ")) or paragraph.startswith("    "):
            continue
        joined = re.sub(r"`[^`]*`", "X", " ".join(paragraph.split()))
        joined = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", joined)
        yield from re.split(r"(?<=[.:?!])\s+", joined)


def hard(text: str) -> Iterator[str]:
    """What is hard to read in a text: hard words, long sentences."""
    for sentence in sentences(text):
        if found := HARD_WORDS.search(sentence):
            yield f"'{found[0]}' in: {sentence[:120]}"
        if (count := len(re.findall(r"[A-Za-z][\w'-]*", sentence))) > LONGEST:
            yield f"{count} words in one sentence: {sentence[:120]}"


def files(room: str) -> list[Path]:
    """The sources of a room, a folder or a file of the package."""
    return [SOURCE / room] if room.endswith(".py") else sorted((SOURCE / room).rglob("*.py"))


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Calls with a message, by the name of what is called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name in MESSAGES:
                yield name, node


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Line and words of everything in a file that a person reads: docstrings, messages, help, comments."""
    source = path.read_text()
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            if doc := ast.get_docstring(node):
                yield getattr(node, "lineno", 1), doc
        elif isinstance(node, ast.Constant | ast.JoinedStr) and len(text_of(node).split()) > 3:
            yield node.lineno, text_of(node)
    for number, line in enumerate(source.splitlines(), 1):
        if found := re.search(r"(?:^|\s)#\s(?!noqa|type:|fmt:)(.+)$", line):
            yield number, found[1]


@pytest.mark.parametrize("room", ROOMS)
def test_the_source_is_in_plain_words(room: str) -> None:
    found = [
        f"{path.relative_to(SOURCE)}:{line}: {what}"
        for path in files(room)
        for line, text in texts(path)
        for what in hard(text)
    ]
    assert not found, "\n" + "\n".join(dict.fromkeys(found))


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_are_in_plain_words(page: str) -> None:
    found = list(hard((REPOSITORY / page).read_text()))
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("room", ROOMS)
def test_every_mistake_has_a_kind_and_ends_as_a_sentence(room: str) -> None:
    found = []
    for path in files(room):
        for name, call in calls(ast.parse(path.read_text())):
            where = f"{path.relative_to(SOURCE)}:{call.lineno}"
            kind = call.args[0] if call.args else None
            if isinstance(kind, ast.Constant) and not CODE.fullmatch(str(kind.value)):
                found.append(f"{where}: '{kind.value}' is no kind of mistake")
            if (
                name in ("UserError", "Lost")
                and len(call.args) > 1
                and isinstance(call.args[1], ast.Constant | ast.JoinedStr)
            ):
                text = text_of(call.args[1])
                if not text.endswith((".", "?", "X")):
                    found.append(f"{where}: no sentence: {text}")
    assert not found, "\n" + "\n".join(found)


def test_a_kind_of_mistake_belongs_to_one_file() -> None:
    """A kind that two files raise would not say where to look; a shared check belongs in one place."""
    homes = defaultdict(set)
    for path in files("."):
        for name, call in calls(ast.parse(path.read_text())):
            if name in ("UserError", "Question", "Lost") and call.args and isinstance(call.args[0], ast.Constant):
                homes[call.args[0].value].add(path.relative_to(SOURCE).as_posix())
    shared = {code: sorted(paths) for code, paths in homes.items() if len(paths) > 1}
    assert not shared


def test_hard_words_and_long_sentences_are_found() -> None:
    assert len(list(hard("What it was told is begun anew."))) == 1
    assert len(list(hard("word " * (LONGEST + 1)))) == 1
    assert not list(hard("`mend` is code. | told |"[:16]))
    assert not list(hard("Start again. Fix the file."))
