"""One name, five places: class, file, test, page of docs/papers, and command."""

from __future__ import annotations

import ast
from pathlib import Path

from super_selfish.supervisors import all_supervisors


def test_one_name_five_places(root: Path) -> None:
    wrong = []
    for name, supervisor in all_supervisors().items():
        source = root / "super_selfish" / "supervisors" / f"{name}.py"
        classes = [node.name for node in ast.parse(source.read_text("utf-8")).body if isinstance(node, ast.ClassDef)]
        places = {
            "class": supervisor.__name__.lower() == f"{name.replace('_', '')}supervisor",
            "file": supervisor.__name__ in classes,
            "test": (root / "tests" / "supervisors" / f"test_{name}.py").is_file(),
            "page": (root / "docs" / "papers" / f"{name}.md").is_file(),
            "facts": all((supervisor.paper, supervisor.family, supervisor.learns_by, supervisor.use_when)),
        }
        wrong += [f"{name}: {place}" for place, right in places.items() if not right]
    assert wrong == []


def test_every_algorithm_file_is_listed(sources: dict[str, ast.Module]) -> None:
    named = set()
    for path, tree in sources.items():
        name = path.removesuffix(".py").removeprefix("super_selfish/supervisors/")
        classes = {node.name.lower() for node in tree.body if isinstance(node, ast.ClassDef)}
        if f"{name.replace('_', '')}supervisor" in classes:
            named.add(name)
    assert named - {"bank", "gan", "label"} == set(all_supervisors())
