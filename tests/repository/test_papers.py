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
    "What it learns from.",
    "Loss.",
    "How the loss behaves.",
    "Parameters.",
    "When to use it, and when not.",
    "Training.",
    "Departures from the paper.",
)
ALSO = {
    "exemplar_net": ("pretext/exemplar.py", "transforms/exemplar.py", "transforms/colour.py"),
    "contrastive_predictive_coding": ("transforms/cpc.py",),
}
"""Where an algorithm departs from its paper outside of its own file."""

ROWS = (ROOT / "docs" / "algorithms.md").read_text(encoding="utf-8")

pytestmark = pytest.mark.parametrize(
    "name", [name for name in all_supervisors() if f"[`{name}`](adding_an_algorithm.md)" not in ROWS]
)


def page(name: str) -> str:
    return (PAGES / f"{name}.md").read_text(encoding="utf-8")


def section(name: str, title: str) -> str:
    return page(name).split(f"**{title}**")[1].split("\n\n**")[0]


def test_the_form(name: str) -> None:
    text = page(name)
    assert [title for title in SECTIONS if text.count(f"**{title}**") != 1] == []
    assert f"(previews/{name}.png)" in text
    assert (PAGES / "previews" / f"{name}.png").is_file()
    assert "arxiv.org/abs/" in text or name == "denoise_net"


def test_every_parameter_with_its_default(name: str) -> None:
    told = section(name, "Parameters.")
    for parameter in inspect.signature(all_supervisors()[name]).parameters.values():
        if parameter.name == "dataset" or parameter.name in ImageOptions.__annotations__:
            continue
        assert re.search(rf"[`,(] ?{parameter.name}[`=]", told), parameter.name
        for default in re.findall(rf"`{parameter.name}=([^`]+)`", told)[:1]:
            assert ast.literal_eval(default) == parameter.default, parameter.name


def test_recipes_are_those_of_the_code(name: str) -> None:
    told = " ".join(section(name, "Training.").split())
    for recipe in ("paper", "auto"):
        found = all_supervisors()[name].training_recipe(recipe)
        assert found is not None
        optimizer, rest = found.words().split("; ", 1)
        assert f'`recipe="{recipe}"`: `{optimizer}`; {rest}.' in told


def test_what_the_defaults_lose_is_that_of_the_table(name: str) -> None:
    text = (ROOT / "docs" / "learning.md").read_text(encoding="utf-8").split("## Defaults and recipes")[1]
    found = re.search(rf"^\| `{name}`.* \| ([+-][\d.]+) \|$", text.split("\n## ")[0], re.MULTILINE)
    lost = float(found[1]) if found else 0.0
    assert found or "BiGAN was not measured" in text
    assert all_supervisors()[name].auto_gain == (lost if lost > 3 else None)
    assert len(re.findall(r"^\| `", text.split("\n## ")[0], re.MULTILINE)) == len(all_supervisors()) - 1


def test_departures_are_those_of_the_code(name: str) -> None:
    files = [f"supervisors/{name}.py", *ALSO.get(name, ())]
    code = "\n".join((ROOT / "super_selfish" / file).read_text(encoding="utf-8") for file in files)
    here = [line.strip().rstrip(".") for line in re.findall(r"# Differs from the paper: (.*)", code)]
    bullets = re.findall(r"^- (.*(?:\n  .*)*)", section(name, "Departures from the paper."), re.MULTILINE)
    there = [" ".join(bullet.split()) for bullet in bullets]
    assert len(there) == len(here)
    for line in here:
        assert any(bullet.lower().startswith(line.lower() + ".") for bullet in there), line
