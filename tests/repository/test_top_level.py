"""Public names of the package and its subpackages, imported when they are used."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import super_selfish
from super_selfish.supervisors import all_supervisors

SUBPACKAGES = [module.name for module in pkgutil.iter_modules(super_selfish.__path__) if module.ispkg]
Run = Callable[..., subprocess.CompletedProcess[str]]


def test_all_algorithms_are_top_level_names() -> None:
    for algorithm in all_supervisors().values():
        assert getattr(super_selfish, algorithm.__name__) is algorithm
        assert algorithm.__name__ in super_selfish.__all__
    assert {"load", "inspect", "all_supervisors", "Supervisor", "LabelSupervisor", "CombinedNet"} <= set(
        super_selfish.__all__
    )


def test_every_public_name_exists_and_nothing_else_is_listed() -> None:
    assert dir(super_selfish) == sorted(super_selfish.__all__)
    assert all(hasattr(super_selfish, name) for name in super_selfish.__all__)
    assert not {"Any", "TYPE_CHECKING", "annotations", "importlib"} & set(dir(super_selfish))
    names: dict[str, object] = {}
    exec("from super_selfish import *", names)
    assert set(super_selfish.__all__) <= set(names)


@pytest.mark.parametrize("name", ["CombinedNetwork", "UnknownSupervisor", "os", "__wrapped__"])
def test_an_unknown_name_is_an_attribute_error(name: str) -> None:
    with pytest.raises(AttributeError, match=name):
        getattr(super_selfish, name)


@pytest.mark.parametrize("name", SUBPACKAGES)
def test_packages_with_public_names_list_nothing_else(name: str) -> None:
    package = importlib.import_module(f"super_selfish.{name}")
    if not hasattr(package, "__all__"):
        return  # its modules are for this package alone
    assert dir(package) == sorted(package.__all__)
    assert all(hasattr(package, public) for public in package.__all__)


def test_submodules_can_be_imported() -> None:
    for module in pkgutil.walk_packages(super_selfish.__path__, "super_selfish."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def test_import_loads_torch_only_when_a_name_needs_it(run_python: Run) -> None:
    code = """
        import sys
        import super_selfish

        early = {"torch", "numpy"} & set(sys.modules)
        assert not hasattr(super_selfish, "__wrapped__")  # other unknown names get a suggestion
        early |= {"torch", "numpy"} & set(sys.modules)
        assert super_selfish.RotateNetSupervisor.__name__ == "RotateNetSupervisor"
        raise SystemExit(str(early) if early else 0)
    """
    run = run_python("-c", "\n".join(line.strip() for line in code.splitlines()))
    assert (run.returncode, run.stderr) == (0, "")


def test_type_checkers_see_every_algorithm_that_is_written_out(sources: dict[str, ast.Module]) -> None:
    """What is written out for them, imports and ``__all__``, agrees with what the scan finds."""
    tree = sources["super_selfish/supervisors/__init__.py"]
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    (written,) = [
        {element.value for element in node.value.elts if isinstance(element, ast.Constant)}
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.List)
    ]
    assert written <= set(importlib.import_module("super_selfish.supervisors").__all__)
    assert written - {"all_supervisors"} == imported - {"TYPE_CHECKING", "Any", "Iterable", "did_you_mean"}


def test_the_version_is_read_from_a_module_without_imports(root: Path, sources: dict[str, ast.Module]) -> None:
    tree = sources["super_selfish/version.py"]
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert 'attr = "super_selfish.version.__version__"' in (root / "pyproject.toml").read_text("utf-8")
