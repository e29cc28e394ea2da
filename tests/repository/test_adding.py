"""docs/adding_an_algorithm.md adds an algorithm; here its walk is done in a copy of the project."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.docs, pytest.mark.slow]
FILE = re.compile(r'^(`{3,})\w+ title="(\S+)"\n(.*?)^\1$', re.DOTALL | re.MULTILINE)


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    """The project as it is, with what the document adds."""
    ignored = shutil.ignore_patterns("__pycache__", ".venv", ".git", ".*_cache", "build", "store", "*.egg-info")
    shutil.copytree(root, tmp_path / "copy", ignore=ignored)
    added = FILE.findall((root / "docs/adding_an_algorithm.md").read_text("utf-8"))
    assert [name for _, name, _ in added] == [
        "super_selfish/supervisors/sim_clr.py",
        "tests/supervisors/test_sim_clr.py",
        "docs/papers/sim_clr.md",
    ]
    for _, name, text in added:
        (tmp_path / "copy" / name).write_text(text, "utf-8")
    return tmp_path / "copy"


def run(copy: Path, *arguments: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "SUPER_SELFISH_INSTALLED"}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=copy, env=environment | {"PYTHONPATH": str(copy)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    return done.stdout


def test_the_walk(copy: Path) -> None:
    assert "'sim_clr'" in run(
        copy, "-c", "from super_selfish.supervisors import all_supervisors as a; print(list(a()))"
    )
    assert "Chen, Kornblith" in run(copy, "-m", "super_selfish", "list")
    run(copy, "docs/draw_previews.py", "sim_clr")
    assert "4 passed" in run(copy, "-m", "pytest", "-q", "tests/supervisors/test_sim_clr.py")
    output = run(copy, "-m", "pytest", "-q", "-m", "not learn and not faults", "tests/contract", "-k", "sim_clr")
    assert int(re.findall(r"(\d+) passed", output)[-1]) > 40
    run(copy, "-m", "pytest", "-q", "tests/repository", "-m", "not docs and not slow")
