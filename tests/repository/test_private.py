"""The package uses no private parts of other packages, and leaves other objects' class and namespace alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

Sources = dict[str, ast.Module]

DOCUMENTED = {"_replace", "_asdict", "_fields", "_make", "_exit"}
"""Public names: methods of named tuples, os._exit."""

ALLOWED = {
    # torch 2.6 has no public function that changes a group's timeout
    ("distributed/group.py", "_set_pg_timeout"),
    # torch has no public way to the store of a group that the user's script has joined
    ("distributed/group.py", "_get_default_store"),
    # efficientnet_pytorch gives its layers no other names
    *(
        ("models/efficient.py", name)
        for name in ("_global_params", "_block_args", "_bn0", "_bn1", "_bn2", "_conv_stem", "_conv_head")
    ),
    ("models/efficient.py", "_swish"),
    # Python has no public name for it
    ("images/buffers.py", "_is_gil_enabled"),
}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def defined(sources: Sources) -> set[str]:
    """The names that the package itself gives to functions, classes, variables and attributes of ``self``."""
    found: set[str] = set()
    for node in (node for tree in sources.values() for node in ast.walk(tree)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            found.add(node.attr)
    return found


def private_uses(tree: ast.AST, own: set[str]) -> Iterator[tuple[str, int]]:
    """Each private name of another package that a file uses, and each namespace of another object."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Attribute):
            names = [node.attr]
            if node.attr in ("__class__", "__dict__") and ast.unparse(node.value) != "self":
                yield node.attr, node.lineno
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "setattr", "hasattr", "delattr"):
            name = node.args[1]
            names = [name.value] if isinstance(name, ast.Constant) and isinstance(name.value, str) else []
        elif isinstance(node, ast.Import | ast.ImportFrom):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            for module in modules:
                if any(is_private(part) for part in module.split(".")):
                    yield module, node.lineno
            names = [alias.name for alias in node.names if isinstance(node, ast.ImportFrom)]
        for name in names:
            if is_private(name) and name not in own | DOCUMENTED:
                yield name, node.lineno


def test_no_private_parts_of_other_packages(sources: Sources) -> None:
    own = defined(sources)
    found = [
        f"{path}:{line} {name}"
        for path, tree in sources.items()
        for name, line in private_uses(tree, own)
        if (path.removeprefix("super_selfish/"), name) not in ALLOWED
    ]
    assert found == []


def test_no_namespace_is_handed_over_and_no_global_is_changed(sources: Sources) -> None:
    allowed = {"super_selfish/distributed/group.py global _group"}  # the group that a process has joined
    found = set()
    for path, tree in sources.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("locals", "globals"):
                found.add(f"{path} {ast.unparse(node.func)}")
            if isinstance(node, ast.Global):
                found.add(f"{path} {ast.unparse(node)}")
    assert found - allowed == set()


@pytest.mark.parametrize(
    "code",
    [
        "from torch.nn.modules.batchnorm import _BatchNorm",
        "import torch._dynamo",
        "def f():\n    from torch._dynamo.exc import TorchDynamoException",
        "network._compiled_call_impl = None",
        "torch._C.f()",
        "getattr(network, '_is_replica', False)",
        "part.__class__ = Other",
        "norm.__dict__['forward'] = f",
    ],
)
def test_the_rule_finds_private_uses(code: str) -> None:
    assert list(private_uses(ast.parse(code), {"_own"}))


@pytest.mark.parametrize(
    "code", ["self._own", "pair._replace(a=1)", "self.__dict__", "from .a import _own", "f.__name__"]
)
def test_the_rule_allows_the_own(code: str) -> None:
    assert not list(private_uses(ast.parse(code), {"_own"}))
