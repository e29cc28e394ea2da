"""What is installed is what is in the repository, and says the same about itself."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
from pathlib import Path

import pytest

import super_selfish

installed = pytest.mark.skipif(
    os.environ.get("SUPER_SELFISH_INSTALLED") != "1", reason="for the installed library: make test"
)


def files_of(package: Path) -> set[str]:
    files = (file for file in package.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return {file.relative_to(package).as_posix() for file in files}


@installed
def test_tests_run_against_the_installed_library() -> None:
    assert "site-packages" in Path(super_selfish.__file__).parts


@installed
def test_the_wheel_holds_the_whole_package_and_nothing_else(root: Path) -> None:
    assert files_of(Path(super_selfish.__file__).parent) == files_of(root / "super_selfish")
    files = importlib.metadata.files("super-selfish") or []
    tops = {file.parts[0] for file in files if not file.parts[0].startswith("..")}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"super_selfish"}
    assert any(file.name == "LICENSE" for file in files)


@installed
def test_the_installed_version_is_the_one_in_the_source() -> None:
    assert importlib.metadata.version("super-selfish") == super_selfish.__version__


def test_every_folder_of_the_package_is_importable(sources: dict[str, ast.Module]) -> None:
    folders = {path.rpartition("/")[0] for path in sources}
    assert {folder for folder in folders if f"{folder}/__init__.py" not in sources} == set()


def test_citations_agree(root: Path) -> None:
    card, entry = (root / "CITATION.cff").read_text("utf-8"), (root / "CITATION.bib").read_text("utf-8")
    assert f"\nversion: {super_selfish.__version__}\n" in card
    said = dict(re.findall(r"^  (\w+) += \{(.*)\},?$", entry, re.MULTILINE))
    assert f'title: "{said["title"].replace("{", "").replace("}", "")}"' in card
    assert f"year: {said['year']}\n" in card
    assert f"doi: {said['doi']}\n" in card
    assert f"arXiv:{said['eprint']}\n" in card
    for author in said["author"].split(" and "):
        family, given = author.split(", ")
        assert f"- given-names: {given}\n      family-names: {family}\n" in card


def test_make_help_lists_every_command(root: Path) -> None:
    text = (root / "Makefile").read_text("utf-8")
    commands = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert commands is not None
    assert re.findall(r"^([a-z-]+):.*## ", text, re.MULTILINE) == commands[1].split()
