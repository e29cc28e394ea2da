"""One total import order: a layer imports what stands left of it, and no algorithm imports another."""

from __future__ import annotations

import ast
from collections.abc import Iterator

LAYERS = [
    *["version", "errors", "files", "seeding", "distributed", "losses", "models", "data", "memory", "evaluation"],
    *["training", "supervisors", "saved", "transformer", "export", "reports", "cli", "utils", "efficientnet_pytorch"],
]
BASES = {"bank", "base", "gan", "label", "setup"}  # the files of supervisors/ that an algorithm may import
LOOP = {
    "averaging",
    "checkpoints",
    "engine",
    "exhibits",
    "identity",
    "loading",
    "performance",
    "persistence",
    "pretext_evaluation",
    "processes",
    "resumption",
    "trained",
    "tuning",
    "watching",
    "weights",
}  # the parts that the bases are made of


def imports(path: str, tree: ast.AST) -> Iterator[tuple[list[str], int]]:
    """Each module of the package that a file imports, as the parts after ``super_selfish``, with its line."""
    package = path.removesuffix(".py").split("/")[:-1]
    deferred = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "preview"]
    allowed = {id(inner) for node in deferred for inner in ast.walk(node)} if "supervisors" in package else set()
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            may_be_late = id(node) in allowed and parts[1:2] == ["reports"]
            if parts[0] == "super_selfish" and not may_be_late:
                yield parts[1:], node.lineno


def faults(path: str, tree: ast.AST) -> Iterator[str]:
    layer, *inner = path.removesuffix(".py").split("/")[1:]
    for target, line in imports(path, tree):
        seen = target[0] if target else "__init__"
        if seen not in LAYERS or LAYERS.index(seen) > LAYERS.index(layer):
            yield f"{path}:{line} {layer} may not import {seen}"
        if seen == layer == "supervisors" and inner != ["__init__"]:
            allowed = BASES | LOOP if inner[0] in BASES | LOOP else BASES
            if not set(target[1:2]) & allowed:
                yield f"{path}:{line} {'.'.join(inner)} may not import {'.'.join(target)}"


def test_import_order(sources: dict[str, ast.Module]) -> None:
    inner = {path: tree for path, tree in sources.items() if path.count("/") > 1 or "__" not in path}
    assert [fault for path, tree in inner.items() for fault in faults(path, tree)] == []


def test_every_file_belongs_to_a_layer(sources: dict[str, ast.Module]) -> None:
    tops = {path.removesuffix(".py").split("/")[1] for path in sources}
    assert tops - {"__init__", "__main__"} <= set(LAYERS)


def test_the_order_is_enforced() -> None:
    def check(path: str, code: str) -> list[str]:
        return list(faults(f"super_selfish/{path}", ast.parse(code)))

    assert check("models/heads.py", "from ..data import views")
    assert check("models/heads.py", "def f():\n    import super_selfish.cli")
    assert check("losses/nce.py", "from super_selfish import load")
    assert check("supervisors/byol.py", "from .momentum_contrast import Queue")
    assert check("supervisors/byol.py", "from .engine import Engine")
    assert check("supervisors/base.py", "from . import byol")
    assert check("supervisors/byol.py", "def other():\n    from ..reports import pictures")
    assert not check("supervisors/base.py", "def preview():\n    from ..reports import pictures")
    assert not check("supervisors/byol.py", "from .base import Supervisor\nfrom ..models import heads\nimport torch")
    assert not check("supervisors/base.py", "from .engine import Engine")
    assert not check("supervisors/__init__.py", "from .byol import BYOLSupervisor")
    assert not check("training/checkpoint.py", "from super_selfish.version import __version__")


def imports_root(node: ast.AST, path: str) -> bool:
    """Whether an import statement of a file of the package names the package itself."""
    if isinstance(node, ast.Import):
        return any(alias.name == "super_selfish" for alias in node.names)
    if not isinstance(node, ast.ImportFrom):
        return False
    return node.module == "super_selfish" if node.level == 0 else node.module is None and node.level == path.count("/")


def test_no_module_imports_the_root(sources: dict[str, ast.Module]) -> None:
    assert [
        f"{path}:{node.lineno}" for path, tree in sources.items() for node in ast.walk(tree) if imports_root(node, path)
    ] == []


def test_imports_of_the_root_are_found() -> None:
    def found(code: str, path: str = "super_selfish/data/images.py") -> bool:
        return any(imports_root(node, path) for node in ast.walk(ast.parse(code)))

    assert found("from super_selfish import files")
    assert found("def f():\n    import super_selfish")
    assert found("from .. import files")
    assert not found("from . import sources")
    assert not found("from ..files import replacing\nimport super_selfish.files as files")
