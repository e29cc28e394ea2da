"""The layout: one total order of folders, no import circle of any kind, and folders that can be read at a glance."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator

ORDER = [
    *[
        "version",
        "suggestions",
        "renamed",
        "errors",
        "files",
        "seeding",
        "distributed",
        "losses",
        "models",
        "memory",
        "storage",
        "images",
    ],
    *["datasets", "transforms", "pretext", "loading", "evaluation", "drawing", "engine.optim", "engine.core"],
    *[
        "engine.loop",
        "engine.callbacks",
        "engine",
        "supervisors",
        "saved",
        "transformer",
        "export",
        "report",
        "comparison",
        "studies",
        "cli",
    ],
]
"""Left may not import right."""

FACADES = {"", "data", "training", "reports", "utils", "efficientnet_pytorch", "efficientnet_pytorch.model"}
"""Names of earlier releases, for users: no file of the package imports them."""

MOST_FILES = 16
Sources = dict[str, ast.Module]


def module_of(path: str) -> str:
    """The dotted name of a file below the package; the package itself is empty."""
    return path.removeprefix("super_selfish/").removesuffix(".py").replace("/", ".").removesuffix("__init__").strip(".")


def imports(path: str, tree: ast.AST, modules: set[str]) -> Iterator[tuple[str, int]]:
    """Each module of the package that a file imports, deferred and type-checking imports included, with its line."""
    package = ["super_selfish", *path.split("/")[1:-1]]
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        for name in names:
            if name.split(".")[0] != "super_selfish":
                continue
            parts = name.split(".")[1:]
            while parts and ".".join(parts) not in modules:
                parts.pop()
            yield ".".join(parts), node.lineno


def layer_of(module: str) -> str | None:
    """The entry of the order that a module belongs to."""
    parts = module.split(".")
    return next((name for size in (2, 1) if (name := ".".join(parts[:size])) in ORDER), None)


def graph_of(sources: Sources) -> dict[str, set[str]]:
    modules = {module_of(path) for path in sources}
    return {
        module_of(path): {target for target, _ in imports(path, tree, modules)} - {module_of(path)}
        for path, tree in sources.items()
    }


def circle_in(graph: dict[str, set[str]]) -> list[str]:
    """The modules of all import circles: what is left when modules at either end are taken away."""
    left = set(graph)
    while left:
        imported = {target for module in left for target in graph[module] if target in left}
        ends = {module for module in left if module not in imported or not graph[module] & left}
        if not ends:
            break
        left -= ends
    return sorted(left)


def faults(path: str, tree: ast.AST, modules: set[str]) -> Iterator[str]:
    """Every import of a file that the layout forbids."""
    module = module_of(path)
    layer = layer_of(module)
    if module in FACADES or module == "__main__":
        return
    for target, line in imports(path, tree, modules):
        seen = layer_of(target)
        if target in FACADES:
            yield f"{path}:{line} no file imports {target or 'the root'}"
        elif layer is None or seen is None or ORDER.index(seen) > ORDER.index(layer):
            yield f"{path}:{line} {module} may not import {target}"
        elif seen == layer == "supervisors" and module != "supervisors" and target != module:
            yield f"{path}:{line} {module} may not import another algorithm, {target}"


def test_left_does_not_import_right(sources: Sources) -> None:
    modules = {module_of(path) for path in sources}
    assert [fault for path, tree in sources.items() for fault in faults(path, tree, modules)] == []


def test_no_import_circle(sources: Sources) -> None:
    assert circle_in(graph_of(sources)) == []


def test_small_folders(sources: Sources) -> None:
    sizes = Counter(path.rpartition("/")[0] for path in sources)
    assert {folder: size for folder, size in sizes.items() if size > MOST_FILES} == {}


def test_supervisors_holds_the_algorithms_alone(sources: Sources) -> None:
    found = {module_of(path) for path in sources if path.startswith("super_selfish/supervisors/")} - {"supervisors"}
    classes = {
        module_of(path)
        for path, tree in sources.items()
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name.endswith("Supervisor")
    }
    assert found <= classes


def test_the_rules_find_what_they_forbid() -> None:
    known = {"models.heads", "transforms", "pretext.views", "supervisors.byol", "supervisors.pirl", "engine.core.base"}
    known |= {"engine.supervisor", "engine.gan", "supervisors", "cli", "data", ""}

    def check(path: str, code: str) -> list[str]:
        return list(faults(f"super_selfish/{path}", ast.parse(code), known))

    assert check("models/heads.py", "from ..pretext import views")
    assert check("models/heads.py", "def f():\n    import super_selfish.cli")
    assert check("models/heads.py", "if TYPE_CHECKING:\n    from super_selfish.supervisors import Supervisor")
    assert check("models/heads.py", "from super_selfish import load")
    assert check("supervisors/byol.py", "from super_selfish.data import MoCoTransform")
    assert check("supervisors/byol.py", "from .pirl import PIRLSupervisor")
    assert check("engine/core/base.py", "from ..supervisor import Supervisor")
    assert not check("engine/supervisor.py", "from .core.base import SupervisorBase")
    assert not check("supervisors/byol.py", "from super_selfish.engine.supervisor import Supervisor\nimport torch")
    assert not check("supervisors/__init__.py", "from super_selfish.supervisors.byol import BYOLSupervisor")
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})
    assert not circle_in({"a": {"b", "c"}, "b": {"c"}, "c": set()})
