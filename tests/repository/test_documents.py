"""Documents cannot drift: their code blocks, the docstrings' examples and the example files all run.

Before a block of a document, ``<!-- setup: code -->`` runs hidden lines and ``<!-- skip: reason -->`` leaves it out. A
block with a title is a file, and is not run.
"""

from __future__ import annotations

import doctest
import importlib
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from super_selfish.supervisors import Supervisor

pytestmark = pytest.mark.docs
ROOT = Path(__file__).parents[2]
TRACKING = ROOT / "docs" / "tracking.md"
DOCUMENTS = [
    file.relative_to(ROOT).as_posix()
    for file in [ROOT / "README.md", ROOT / "AGENTS.md", *sorted(ROOT.glob("docs/**/*.md"))]
    if file != TRACKING
]
PACKAGE = [file for file in sorted(ROOT.glob("super_selfish/**/*.py")) if file.stem != "__main__"]
MODULES = [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in PACKAGE]
NOTEBOOKS = sorted(file.name for file in ROOT.glob("examples/*.ipynb"))
EXAMPLES = sorted(file.name for file in ROOT.glob("examples/*.py"))
PIECE = re.compile(
    r"<!--\s*(?P<comment>setup|skip):(?P<hidden>.*?)-->"
    r"|^ *(?P<fence>`{3,})(?P<language>\w*)(?P<options>[^\n]*)\n(?P<shown>.*?)^ *(?P=fence)[ \t]*$",
    re.DOTALL | re.MULTILINE,
)


def blocks(text: str) -> Iterator[str]:
    """The code to run, each piece moved to its line in the document so that an error names that line."""
    skip = False
    for piece in PIECE.finditer(text):
        if piece["comment"] == "skip":
            skip = True
            continue
        is_code = piece["language"] == "python" and "title=" not in piece["options"]
        group = "hidden" if piece["comment"] else "shown"
        if group == "hidden" or (is_code and not skip):
            yield "\n" * text.count("\n", 0, piece.start(group)) + textwrap.dedent(piece[group]).strip(" ")
        skip = skip and not is_code


@pytest.fixture
def _folder_of_photos(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders photos/ and labelled/ with two classes each, and trainings cut to one epoch."""
    for number in range(16):
        place = Path("photos" if number < 8 else "labelled", "ab"[number % 2])
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (64, 64, 3), np.uint8)).save(
            place / f"{number}.png"
        )
    supervise = Supervisor.supervise
    short = {"epochs": 1, "batch_size": 4, "verbose": False}
    monkeypatch.setattr(Supervisor, "supervise", lambda self, **settings: supervise(self, **(settings | short)))


@pytest.mark.usefixtures("_folder_of_photos")
@pytest.mark.parametrize("document", DOCUMENTS)
def test_code_blocks(document: str) -> None:
    run_blocks(ROOT / document)


def run_blocks(document: Path, containing: str = "") -> None:
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(document.read_text("utf-8")):
        if containing in block:
            exec(compile(block, str(document), "exec"), names)


class MlflowStub(ModuleType):
    """Records what the callback of the documentation logs."""

    def __init__(self) -> None:
        super().__init__("mlflow")
        self.parameters: dict[str, str] = {}
        self.metrics: list[tuple[int, dict[str, float]]] = []
        self.status = ""

    def set_experiment(self, name: str) -> None:
        assert name

    def start_run(self, run_name: str) -> None:
        assert run_name

    def log_params(self, values: dict[str, str]) -> None:
        self.parameters |= values

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        self.metrics.append((step, values))

    def end_run(self, status: str) -> None:
        self.status = status


@pytest.mark.usefixtures("_folder_of_photos")
def test_code_blocks_of_tracking(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("wandb", "tensorboard"):
        pytest.importorskip(package)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setitem(sys.modules, "mlflow", MlflowStub())
    run_blocks(TRACKING)


@pytest.mark.usefixtures("_folder_of_photos")
def test_mlflow_callback_of_tracking(monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = MlflowStub()
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    run_blocks(TRACKING, containing="mlflow")
    assert mlflow.parameters["algorithm"] == "momentum_contrast"
    assert mlflow.parameters["lr"] == "0.001"
    assert [step for step, _ in mlflow.metrics] == [2]
    assert mlflow.metrics[0][1]["loss"] > 0
    assert mlflow.status == "FINISHED"


def test_blocks_are_found() -> None:
    text = "<!-- setup: a = 1 -->\n```python\nb = a\n```\n<!-- skip: why -->\n```python\n1 / 0\n```\n"
    text += "  ```python\n  c = b\n  ```\n"
    text += '````markdown\n```python\n1 / 0\n```\n````\n```python title="a.py"\n1 / 0\n```\n'
    assert [block.strip() for block in blocks(text)] == ["a = 1", "b = a", "c = b"]
    assert [block.count("\n", 0, len(block) - len(block.lstrip())) for block in blocks(text)] == [0, 2, 9]


@pytest.mark.parametrize("module", MODULES)
def test_docstrings(module: str) -> None:
    options = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    assert doctest.testmod(importlib.import_module(module), optionflags=options).failed == 0


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples(example: str, run_python: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    run = run_python(str(ROOT / "examples" / example), "--smoke")
    assert run.returncode == 0, run.stderr


EXECUTE = """
import sys, nbclient, nbformat
book = nbformat.read(sys.argv[1], as_version=4)
assert all(cell.get("outputs") for cell in book.cells if cell.cell_type == "code"), "it is stored as it ran"
nbclient.NotebookClient(book, timeout=600, kernel_name="python3").execute()
outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
print([kind for output in outputs for kind in output.get("data", {})])
print([output.name for output in outputs if output.output_type == "stream"])
print([output.data["text/html"] for output in outputs if "<progress" in output.get("data", {}).get("text/html", "")])
"""


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_notebooks(notebook: str, run_python: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    pytest.importorskip("nbclient")
    run = run_python("-c", EXECUTE, str(ROOT / "examples" / notebook), timeout=900)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("image/png") == 5
    assert run.stdout.count("'stderr'") <= 1, "only a warning of few images; progress is displayed"
    assert run.stdout.count('<progress value="') == 1
    assert run.stdout.count("<tr>") > 5, "a row for each epoch"


def test_the_site_builds(
    root: Path, tmp_path: Path, run_python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    pytest.importorskip("mkdocs")
    run = run_python("-m", "mkdocs", "build", "--strict", "-f", str(root / "mkdocs.yml"), "-d", str(tmp_path / "site"))
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "site" / "choose" / "index.html").is_file()
    reference = (tmp_path / "site" / "api" / "rotate_net" / "index.html").read_text("utf-8")
    assert re.search(
        r'<a [^>]*href="[^"]*#super_selfish\.engine\.core\.setup\.ImageOptions"><code>ImageOptions', reference
    )
    assert re.search(r":(class|func|meth|attr|data|mod):<code", reference) is None
