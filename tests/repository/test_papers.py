"""The page of every algorithm: one form, parameters as in the code, departures from the paper as in the code."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

from super_selfish.engine.core.setup import ImageOptions
from super_selfish.supervisors import all_supervisors

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "papers"
SECTIONS = (
    "What it learns",
    "When to use it",
    "Example",
    "Results",
    "Parameters",
    "Loss",
    "Expected loss curve",
    "Training recipes",
    "Departures from the paper",
)
PACKAGE = ROOT / "super_selfish"
SHARED = [path for folder in ("pretext", "transforms") for path in sorted((PACKAGE / folder).glob("*.py"))]

ALL = pytest.mark.parametrize("name", list(all_supervisors()))


def page(name: str) -> str:
    return (PAGES / f"{name}.md").read_text(encoding="utf-8")


def section(name: str, title: str) -> str:
    return page(name).split(f"\n## {title}\n")[1].split("\n## ")[0]


@ALL
def test_the_form(name: str) -> None:
    text = page(name)
    titles = re.findall(r"^## (.*)", text, re.MULTILINE)
    assert [title for title in titles if title in SECTIONS] == list(SECTIONS)
    assert f"(previews/{name}.png)" in text
    assert (PAGES / "previews" / f"{name}.png").is_file()
    assert "arxiv.org/abs/" in text or name == "denoise_net"


@ALL
def test_results_are_those_of_the_results_page(name: str) -> None:
    rows = re.findall(r"^\| (.*?) \| (.*) \|$", section(name, "Results"), re.MULTILINE)[1:]
    if not rows:
        assert "Not measured." in section(name, "Results")
        return
    tables = re.split(r"^## ", (ROOT / "docs" / "learning.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    for title, cells in rows:
        (text,) = [text for text in tables if text.startswith(f"{title}\n")]
        lines = re.findall(rf"^\| `{name}`[^|]*\| (.*) \|$", text, re.MULTILINE)
        assert set(cells.split(" | ")) <= {cell for line in lines for cell in line.split(" | ")}, title


@ALL
def test_every_parameter_with_its_default(name: str) -> None:
    text = section(name, "Parameters")
    for parameter in inspect.signature(all_supervisors()[name]).parameters.values():
        if parameter.name == "dataset" or parameter.name in ImageOptions.__annotations__:
            continue
        assert re.search(rf"[`,(] ?{parameter.name}[`=]", text), parameter.name
        for default in re.findall(rf"`{parameter.name}=([^`]+)`", text)[:1]:
            assert ast.literal_eval(default) == parameter.default, parameter.name


@ALL
def test_recipes_are_those_of_the_code(name: str) -> None:
    text = " ".join(section(name, "Training recipes").split())
    for recipe in ("paper", "auto"):
        found = all_supervisors()[name].training_recipe(recipe)
        assert found is not None
        optimizer, rest = found.describe().split("; ", 1)
        assert f'`recipe="{recipe}"`: `{optimizer}`; {rest}.' in text


@ALL
def test_the_settings_of_the_paper_fit_the_constructor(name: str) -> None:
    text = " ".join(section(name, "Training recipes").split())
    kind = all_supervisors()[name]
    (call,) = re.findall(rf"The paper's constructor arguments are `({kind.__name__}\(images.*?\))`;", text)
    parsed = ast.parse(call, mode="eval").body
    assert isinstance(parsed, ast.Call)
    inspect.signature(kind).bind(None, **{str(keyword.arg): None for keyword in parsed.keywords})


def departures_in(*files: Path) -> list[str]:
    """The departures that source files name."""
    code = "\n".join(file.read_text(encoding="utf-8") for file in files)
    return [line.strip().rstrip(".").lower() for line in re.findall(r"# Differs from the paper: (.*)", code)]


def departures_on(name: str) -> list[str]:
    """The departures that a page names."""
    bullets = re.findall(r"^- (.*(?:\n  .*)*)", section(name, "Departures from the paper"), re.MULTILINE)
    return [" ".join(bullet.split()).lower() for bullet in bullets]


@ALL
def test_departures_are_those_of_the_code(name: str) -> None:
    own, page_has = departures_in(PACKAGE / "supervisors" / f"{name}.py"), departures_on(name)
    assert [line for line in own if not any(bullet.startswith(line + ".") for bullet in page_has)] == []
    known = own + departures_in(*SHARED)
    assert [bullet for bullet in page_has if not any(bullet.startswith(line + ".") for line in known)] == []


@pytest.mark.parametrize("line", departures_in(*SHARED))
def test_departures_of_shared_files_are_on_a_page(line: str) -> None:
    assert any(bullet.startswith(line + ".") for name in all_supervisors() for bullet in departures_on(name))
