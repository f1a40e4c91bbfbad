"""The rules of ARCHITECTURE.md that can be read from the source: who imports whom, lengths, names."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import ucseg

SOURCE = Path(ucseg.__file__).parent
FLOW = (
    ("errors", "randomness", "ranks"),
    ("types", "machine"),
    ("config",),
    ("scans", "networks", "method_parts"),
    ("dataset", "losses"),
    ("folder", "planning", "methods", "pictures"),
    ("catalogue", "soundness", "batches", "training"),
    ("inference", "recipes"),
    ("evaluation", "labelling"),
    ("comparison", "demonstration", "reporting", "serving"),
    ("cli",),
    ("__main__",),
)
"""Rooms in the order of the flow: each imports only from rows above its own, so that no two rooms form a circle."""
ROOM_LEVEL = {room: level for level, row in enumerate(FLOW) for room in row}
DATA = ("scans", "dataset", "folder", "planning", "pictures", "soundness", "batches", "catalogue")
MODELS = ("networks", "losses", "method_parts", "methods")
STRANGERS = {(one, other) for one in DATA for other in MODELS}
BANNED_NAMES = {"utils", "util", "misc", "helpers", "helper", "common"}
CONTRACT = ("methods.base", "methods.contract")
"""The files of `methods` that are no method."""
LINES, METHOD_LINES, TOLERANCE = 300, 150, 1.1  # "about"
REASON = "Longer than"  # a docstring at a file's top that holds these words gives the reason for its length


def modules(source: Path) -> dict[str, Path]:
    """Dotted name inside the package -> file; the package's own __init__ is ''."""
    named = {}
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return named


def imported(tree: ast.AST, known: set[str]) -> Iterator[str]:
    """Modules of the package that a file imports anywhere in it, type-checking blocks and functions included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("ucseg."):
                    yield alias.name.removeprefix("ucseg.")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import; write the package's name"
            if node.module != "ucseg" and not (node.module or "").startswith("ucseg."):
                continue
            base = (node.module or "").removeprefix("ucseg").removeprefix(".")
            for alias in node.names:
                below = f"{base}.{alias.name}".removeprefix(".")
                verb = f"cli.{alias.name}"
                if below in known:
                    yield below
                elif not base and verb in known:
                    yield verb
                elif base:
                    yield base


def violations(source: Path) -> list[str]:
    """Every breach of the rules below `source`, one line each."""
    named = modules(source)
    found = []
    for name, path in named.items():
        text = path.read_text()
        tree = ast.parse(text)
        room = name.split(".", maxsplit=1)[0]
        where = path.relative_to(source)
        if room and room not in ROOM_LEVEL:
            found.append(f"{where}: '{room}' has no place in the flow; give it one in this test and in ARCHITECTURE.md")
            continue
        for target in imported(tree, set(named)):
            found += _import_breaches(name, room, target, str(where))
        found += _length_breaches(name, text, tree, str(where))
        found += _name_breaches(path, tree, str(where))
        if room == "training":
            found += _method_name_breaches(tree, named, str(where))
    for folder in {path.parent for path in named.values()}:
        if not (folder / "__init__.py").exists():
            found.append(f"{folder.relative_to(source)}: has no __init__.py, so a built wheel would leave it out")
    return found


def _import_breaches(name: str, room: str, target: str, where: str) -> Iterator[str]:
    into = target.split(".", maxsplit=1)[0]
    if not room:  # the package's face hands out the verbs and may know nothing else
        if into != "cli":
            yield f"{where}: imports {target}; only verbs (cli) may be imported there"
    elif into not in ROOM_LEVEL:
        yield f"{where}: imports unknown room {target}"
    elif (room, into) in STRANGERS or (into, room) in STRANGERS:
        yield f"{where}: imports {target}; {room} and {into} do not know each other"
    elif into != room and ROOM_LEVEL[into] >= ROOM_LEVEL[room]:
        yield f"{where}: imports {target}, which is further down the flow"
    sibling = name.startswith("methods.") and target.startswith("methods.")
    if sibling and target not in (*CONTRACT, name):
        yield f"{where}: imports {target}; methods are siblings, shared equations move to losses or method_parts"
    if room == "training" and into == "methods" and target not in ("methods", *CONTRACT):
        yield f"{where}: imports {target}; the trainer never names a method"


def _length_breaches(name: str, text: str, tree: ast.Module, where: str) -> Iterator[str]:
    lines = len(text.splitlines())
    limit = METHOD_LINES if name.startswith("methods.") and name not in CONTRACT else LINES
    if lines > limit * TOLERANCE and REASON not in (ast.get_docstring(tree) or ""):
        yield f"{where}: {lines} lines, about {limit} are allowed; split it or say at its top why ('{REASON} ...')"


def _name_breaches(path: Path, tree: ast.Module, where: str) -> Iterator[str]:
    if {path.stem, path.parent.name} & BANNED_NAMES:
        yield f"{where}: a name that says nothing of what is inside"
    defined = [n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    for thing in [path.stem, *defined]:
        if re.search(r"_?[23][dD]$", thing):
            yield f"{where}: '{thing}' is one of a 2D/3D pair; rank comes from the tensor or dims"


def _method_name_breaches(tree: ast.Module, named: dict[str, Path], where: str) -> Iterator[str]:
    methods = {n.removeprefix("methods.") for n in named if n.startswith("methods.") and n not in CONTRACT}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node.value in methods:
            yield f"{where}:{node.lineno}: names the method '{node.value}'; the trainer never names a method"


def test_the_source_keeps_the_rules() -> None:
    assert len(modules(SOURCE)) > 20, "the package was not found"
    assert not violations(SOURCE), "\n" + "\n".join(violations(SOURCE))


@pytest.mark.parametrize(
    ("file", "text", "complaint"),
    [
        ("batches/stream.py", "from ucseg.methods.base import Method", "do not know each other"),
        ("batches/stream.py", "from ucseg.networks.unet import UNet", "do not know each other"),
        ("methods/uc_seg.py", "from ucseg.planning import plan", "do not know each other"),
        ("folder/listing.py", "from ucseg.planning.plan import Plan", "further down the flow"),
        ("methods/uc_seg.py", "from ucseg.methods.supervised import Supervised", "methods are siblings"),
        ("methods/uc_seg.py", "from ucseg.methods import supervised", "methods are siblings"),
        ("training/trainer.py", "def f():\n    import ucseg.inference.predictor", "further down the flow"),
        ("training/trainer.py", "from ucseg.methods.supervised import Supervised", "never names a method"),
        ("training/trainer.py", "fast = method == 'supervised'", "names the method 'supervised'"),
        ("inference/predictor.py", "from ucseg import train", "imports cli.train"),
        ("errors.py", "from ucseg.planning.plan import Plan", "further down the flow"),
        ("networks/unet_3d.py", "", "2D/3D pair"),
        ("networks/unet.py", "class UNet2D: ...", "2D/3D pair"),
        ("folder/utils.py", "", "says nothing"),
        ("extras/thing.py", "", "no place in the flow"),
        ("losses/long.py", "x = 1\n" * 400, "400 lines"),
        ("methods/uc_seg.py", "x = 1\n" * 200, "200 lines"),
        ("__init__.py", "from ucseg.planning.plan import Plan", "only verbs"),
    ],
)
def test_a_breach_is_found(tmp_path: Path, file: str, text: str, complaint: str) -> None:
    for name in ("planning/plan", "methods/base", "methods/supervised", "methods/uc_seg", "cli/train"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.py").write_text("")
    (tmp_path / file).parent.mkdir(exist_ok=True)
    for folder in (p for p in tmp_path.iterdir() if p.is_dir()):
        (folder / "__init__.py").touch()
    (tmp_path / "__init__.py").touch()
    (tmp_path / file).write_text(text)
    found = violations(tmp_path)
    assert found
    assert all(complaint in line for line in found)


def test_a_folder_without_init_is_found(tmp_path: Path) -> None:
    (tmp_path / "planning").mkdir()
    (tmp_path / "__init__.py").touch()
    (tmp_path / "planning" / "plan.py").touch()
    assert violations(tmp_path) == ["planning: has no __init__.py, so a built wheel would leave it out"]
