"""README, AGENTS.md and llms.txt: their links lead somewhere, and their numbers are those of the documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import super_selfish
from super_selfish.supervisors import all_supervisors

FRONT_PAGES = ("README.md", "AGENTS.md", "llms.txt", "CONTRIBUTING.md", "CHANGELOG.md")
SETS = ("32 px, ten classes of objects",)


def anchors(page: Path) -> set[str]:
    """Anchors of the headings of a page, as GitHub and mkdocs derive them."""
    headings = re.findall(r"^#+ (.*)", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8"))
    broken = []
    for link in links:
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if link.startswith("https://"):
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", FRONT_PAGES)
def test_links_lead_somewhere(root: Path, page: str) -> None:
    assert broken_links(root / page) == []


def test_broken_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("# A title: here\n")
    text = "[a](page.md) [b](page.md#a-title-here) [c](page.md#other) [d](missing.md) ![e](https://example.org)"
    (tmp_path / "start.md").write_text(text)
    assert broken_links(tmp_path / "start.md") == ["page.md#other", "missing.md"]


def from_the_index(text: str) -> list[str]:
    """Commands that would install the release of 2020 from the package index."""
    return re.findall(r"""pip install (?:-\S+ )*[\\"']*super-selfish(?:\[\S*|[<>=]\S*|(?=\W*\n))""", text)


def test_nothing_is_installed_from_the_package_index(root: Path) -> None:
    """Until 0.2 is on the index: ``pip install "./super-selfish[extra]"`` in documents, examples and messages."""
    files = [root / name for name in ("README.md", "AGENTS.md", "llms.txt", "CONTRIBUTING.md")]
    for pattern in ("docs/**/*.md", "examples/*", "super_selfish/**/*.py"):
        files += root.glob(pattern)
    found = {str(file): wrong for file in files if (wrong := from_the_index(file.read_text("utf-8")))}
    assert found == {}
    assert from_the_index('pip install "super-selfish[wandb]"')
    assert from_the_index('%pip install -q \\"super-selfish>=0.2\\"')
    assert from_the_index("pip install super-selfish\n")
    assert not from_the_index('pip install "./super-selfish[wandb]"\n')
    assert not from_the_index("Do not `pip install super-selfish` yet")


def test_readme_is_short(root: Path) -> None:
    assert len((root / "README.md").read_text("utf-8").splitlines()) <= 140


def results(root: Path, title: str) -> dict[str, str]:
    """Gain of the linear probe by algorithm, from the first table of a section of the results page."""
    text = (root / "docs" / "learning.md").read_text("utf-8").split(f"\n## {title}\n")[1]
    table = text[text.index("\n|") + 1 :].partition("\n\n")[0]
    header, _, *rows = [line.strip("| ").split(" | ") for line in table.splitlines()]
    column = header.index("gain of the probe") - len(header)
    return {re.findall(r"`(\w+)`", row[0])[0]: row[column].replace("**", "") for row in rows}


def test_gains_in_the_readme_are_those_of_the_results(root: Path) -> None:
    expected = [results(root, title) for title in SETS]
    text = (root / "README.md").read_text("utf-8")
    measured = {name: algorithm for name, algorithm in all_supervisors().items() if name in expected[0]}
    assert len(measured) == len(expected[0]) >= 13
    for name, algorithm in measured.items():
        row = re.search(rf"^\| \[`{algorithm.__name__}`\]\(docs/papers/{name}\.md\) \|.*\|$", text, re.MULTILINE)
        assert row is not None, name
        family, _, *gains = (cell.strip() for cell in row[0].split("|")[2:-1])
        assert family == algorithm.family
        assert gains == [table[name] for table in expected], name
    best = max(float(re.findall(r"[+-][\d.]+", gain)[0]) for table in expected for gain in table.values())
    assert f"up to {best:.1f} percentage points" in " ".join(text.split())


def test_the_readme_counts_the_gains_on_every_set(root: Path) -> None:
    """A set whose table changes leaves no old count behind."""
    text = " ".join((root / "README.md").read_text("utf-8").split())
    found = re.findall(r"linear probe (\d+) of (\d+)", " ".join((root / "docs/learning.md").read_text("utf-8").split()))
    assert len(found) >= 5
    assert [counts for counts in found if "{} of {}".format(*counts) not in text] == []


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_the_set_with_the_fewest_gains_is_not_concealed(page: str, root: Path) -> None:
    found = re.findall(r"linear probe (\d+) of (\d+)", " ".join((root / "docs/learning.md").read_text("utf-8").split()))
    gained, algorithms = min(found, key=lambda counts: int(counts[0]) / int(counts[1]))
    assert f"{gained} of {algorithms}" in " ".join((root / page).read_text("utf-8").split())


def test_llms_txt_lists_every_page(root: Path) -> None:
    text = (root / "llms.txt").read_text("utf-8")
    pages = {f"docs/{page.name}" for page in (root / "docs").glob("*.md")} - {"docs/index.md", "docs/api.md"}
    assert pages - set(re.findall(r"\]\(([^)]+)\)", text)) == set()


def test_the_changelog_begins_with_the_present_version(root: Path) -> None:
    text = (root / "CHANGELOG.md").read_text("utf-8")
    assert re.findall(r"^## ([\d.]+)", text, re.MULTILINE)[0] == super_selfish.__version__
