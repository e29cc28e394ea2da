"""Rules that every file of the package keeps: size, documentation, and what is never used."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

Sources = dict[str, ast.Module]
Function = ast.FunctionDef | ast.AsyncFunctionDef
UNSAFE_MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}


def unsafe(node: ast.AST) -> bool:
    """Whether the node could run code that comes out of a file."""
    if isinstance(node, ast.Import):
        return any(alias.name.split(".")[0] in UNSAFE_MODULES for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        return (node.module or "").split(".")[0] in UNSAFE_MODULES
    if not isinstance(node, ast.Call):
        return False
    name = ast.unparse(node.func)
    said = {word.arg: ast.unparse(word.value) for word in node.keywords}
    return (
        name in {"eval", "exec", "yaml.load"}
        or (name == "torch.load" and said.get("weights_only") != "True")
        or said.get("weights_only") == "False"
        or said.get("allow_pickle") == "True"
    )


def talks(node: ast.AST) -> bool:
    """Whether the node prints, or checks with a statement that ``python -O`` removes."""
    return isinstance(node, ast.Assert) or (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    )


def imports_cv2(node: ast.AST) -> bool:
    names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
    names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
    return any(name.split(".")[0] == "cv2" for name in names)


def length(function: Function) -> int:
    """Lines of a function from its ``def`` on, the docstring not counted."""
    first = function.body[0]
    documentation = first.end_lineno - first.lineno + 1 if ast.get_docstring(function) is not None else 0
    return function.end_lineno - function.lineno + 1 - documentation


def public(tree: ast.Module) -> Iterator[tuple[str, ast.ClassDef | Function]]:
    """The classes, functions and methods that a user can reach, with their dotted names."""

    def visit(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, ast.ClassDef | Function]]:
        for node in body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield prefix + node.name, node
                yield from visit(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, Function) and (not node.name.startswith("_") or node.name == "__init__"):
                yield prefix + node.name, node

    return visit(tree.body, "")


def undocumented(node: ast.ClassDef | Function) -> bool:
    decorators = {ast.unparse(decorator).split(".")[-1] for decorator in node.decorator_list}
    exempt = decorators & {"override", "overload", "setter"} or node.name == "__init__"
    return not exempt and not ast.get_docstring(node)


def unannotated(node: ast.ClassDef | Function) -> bool:
    if isinstance(node, ast.ClassDef):
        return False
    given = node.args
    arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    missing = [word for word in arguments if word and word.arg not in {"self", "cls"} and word.annotation is None]
    return node.returns is None or bool(missing)


def lines(sources: Sources, wrong: object) -> list[str]:
    assert callable(wrong)
    return [f"{path}:{node.lineno}" for path, tree in sources.items() for node in ast.walk(tree) if wrong(node)]


def test_nothing_unsafe(sources: Sources) -> None:
    assert lines(sources, unsafe) == []


def test_no_print_and_no_assert(sources: Sources) -> None:
    assert lines(sources, talks) == []


def test_opencv_is_imported_in_one_file(sources: Sources) -> None:
    assert {line.split(":")[0] for line in lines(sources, imports_cv2)} == {"super_selfish/images/functional.py"}


def test_short_files(root: Path, sources: Sources) -> None:
    sizes = {path: len((root / path).read_text("utf-8").splitlines()) for path in sources}
    assert {path: size for path, size in sizes.items() if size > 300} == {}


def test_short_functions(sources: Sources) -> None:
    assert lines(sources, lambda node: isinstance(node, Function) and length(node) > 50) == []


@pytest.mark.parametrize("wrong", [undocumented, unannotated])
def test_public_names(sources: Sources, wrong: object) -> None:
    assert callable(wrong)
    assert [f"{path} {name}" for path, tree in sources.items() for name, node in public(tree) if wrong(node)] == []


def test_every_file_says_what_it_is_for(sources: Sources) -> None:
    assert [path for path, tree in sources.items() if not ast.get_docstring(tree)] == []


def test_the_rules_find_what_they_forbid() -> None:
    def found(rule: object, code: str) -> bool:
        return bool(lines({"example.py": ast.parse(inspect.cleandoc(code))}, rule))

    for code in (
        "import pickle",
        "from joblib import load",
        "eval('1')",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text)",
    ):
        assert found(unsafe, code), code
    assert not found(unsafe, "model.eval()\ntorch.load(path, weights_only=True)\n'pickle'")
    assert found(talks, "print(1)")
    assert found(talks, "assert x")
    assert found(imports_cv2, "from cv2 import resize")
    assert length(ast.parse('def f():\n    """One.\n\n    Two.\n    """\n    return 1').body[0]) == 2
    names = [
        name for name, _ in public(ast.parse("class A:\n    def b(self): ...\n    def _c(self): ...\ndef d(): ..."))
    ]
    assert names == ["A", "A.b", "d"]
    function = ast.parse("def f(a: int, *, b) -> int: ...").body[0]
    assert isinstance(function, Function)
    assert undocumented(function)
    assert unannotated(function)
