"""What the code imports is what pyproject.toml declares, deferred imports included."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

GUARDS = {"importorskip", "run_with"}  # skip the test without a module; install it into another environment
Modules = dict[str, str]


def literals(node: ast.AST) -> Iterator[str]:
    """The strings that are written out in a piece of code."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            yield inner.value


def called(node: ast.AST) -> str:
    """The name of the function that a node calls, without what stands before it; empty if it is no call."""
    return ast.unparse(node.func).rpartition(".")[2] if isinstance(node, ast.Call) else ""


def imported(tree: ast.AST) -> Iterator[str]:
    """The modules that a file imports by their dotted names, by statements and by ``import_module("name")``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
            yield node.module
        elif called(node) == "import_module" and isinstance(node.args[0], ast.Constant):
            yield str(node.args[0].value)


def guarded(tree: ast.AST) -> set[str]:
    """The modules that a file can do without: it skips a test, or installs them elsewhere."""
    calls = (node for node in ast.walk(tree) if called(node) in GUARDS)
    return {name.partition(".")[0] for call in calls for name in literals(call)}


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", name)[0]).lower()


@functools.cache
def installed() -> Mapping[str, list[str]]:
    """The distributions of each installed module; it takes seconds."""
    return importlib.metadata.packages_distributions()


def distributions(module: str) -> set[str]:
    """The distributions that bring a module; one that is not installed has the module's name."""
    return {normalised(name) for name in installed().get(module, [module])}


def third_party(trees: dict[str, ast.Module]) -> Modules:
    """Imported modules that are neither of the standard library nor of the repository, with a file of each."""
    own = {"super_selfish", *(Path(path).stem for path in trees)}
    found = {name.partition(".")[0]: path for path, tree in trees.items() for name in imported(tree)}
    return {name: path for name, path in found.items() if name not in own | sys.stdlib_module_names}


def undeclared(modules: Modules, declared: set[str]) -> dict[str, str]:
    return {name: path for name, path in modules.items() if not distributions(name) & declared}


def unused(declared: set[str], modules: set[str]) -> set[str]:
    """Declared distributions of which no module is among those."""
    return declared - {name for module in modules for name in distributions(module)}


def trees_of(root: Path, folder: str) -> dict[str, ast.Module]:
    files = [*(root / folder).rglob("*.py")]
    return {path.relative_to(root).as_posix(): ast.parse(path.read_text("utf-8")) for path in files}


@pytest.fixture(scope="module")
def project(root: Path) -> dict[str, Any]:
    tomllib = pytest.importorskip("tomllib")
    return tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]


@pytest.fixture(scope="module")
def required(project: dict[str, Any]) -> set[str]:
    return {normalised(name) for name in project["dependencies"]}


@pytest.fixture(scope="module")
def extras(project: dict[str, Any]) -> dict[str, set[str]]:
    return {extra: {*map(normalised, names)} for extra, names in project["optional-dependencies"].items()}


def test_the_package_imports_what_it_declares(
    sources: dict[str, ast.Module], required: set[str], extras: dict[str, set[str]]
) -> None:
    modules = third_party(sources)
    assert undeclared(modules, required.union(*extras.values())) == {}
    assert unused(required, set(modules)) == set()


def test_a_module_of_an_extra_is_imported_only_where_it_is_needed(
    sources: dict[str, ast.Module], required: set[str]
) -> None:
    at_import = {
        path: ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
        for path, tree in sources.items()
    }
    assert undeclared(third_party(at_import), required) == {}


def test_every_extra_of_the_package_is_used(sources: dict[str, ast.Module], extras: dict[str, set[str]]) -> None:
    """A module may also be one of another library (``torch.utils.tensorboard``), or named to import it later."""
    parts = {part for tree in sources.values() for name in imported(tree) for part in name.split(".")}
    parts |= {name for tree in sources.values() for name in literals(tree) if name.isidentifier()}
    development = {"docs", "test", "dev"}
    assert unused(set().union(*(names for extra, names in extras.items() if extra not in development)), parts) == set()


def test_the_tests_import_what_the_test_extra_declares(
    root: Path, required: set[str], extras: dict[str, set[str]]
) -> None:
    trees = trees_of(root, "tests")
    anywhere = required.union(*extras.values())
    for path, tree in trees.items():
        modules = third_party({**dict.fromkeys(trees, ast.Module([], [])), path: tree})
        kept = {name: where for name, where in modules.items() if name not in guarded(tree)}
        assert undeclared(kept, required | extras["test"]) == {}
        assert undeclared(dict.fromkeys(guarded(tree) - sys.stdlib_module_names, path), anywhere) == {}


@pytest.mark.parametrize("folder", ["examples", "benchmarks", "docs"])
def test_scripts_import_what_is_declared_or_installed_by_themselves(
    folder: str, root: Path, required: set[str], extras: dict[str, set[str]]
) -> None:
    trees = trees_of(root, folder)
    brought = {name for tree in trees.values() for name in guarded(tree)}
    modules = {name: path for name, path in third_party(trees).items() if name not in brought}
    assert undeclared(modules, required.union(*extras.values())) == {}


def test_the_rules_find_what_they_forbid() -> None:
    code = "def f():\n    import tifffile\n    importlib.import_module('pydicom')\nimport os, super_selfish.data"
    modules = third_party({"super_selfish/example.py": ast.parse(code)})
    assert set(modules) == {"tifffile", "pydicom"}
    assert set(undeclared(modules, {"pydicom"})) == {"tifffile"}
    assert unused({"scipy", "tifffile"}, set(modules)) == {"scipy"}
    assert distributions("sklearn") == {"scikit-learn"}
    assert guarded(ast.parse("pytest.importorskip('selenium.webdriver')")) == {"selenium"}
    assert normalised("efficientnet_pytorch>=0.7") == "efficientnet-pytorch"
