"""Write the rows in benchmarks/results into the documents: the results page, the pages of the algorithms, the README.

python benchmarks/learning_figure.py && python benchmarks/learning_docs.py
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import NamedTuple

from learning import KEPT, TRAININGS, rows_of
from learning_table import Rows, algorithm_table, floor_table, made_with, map_table, verdict

from super_selfish.supervisors import all_supervisors

ROOT = Path(__file__).parents[1]
PAGE_CELLS = 6  # of a line of the results, from the pretext task to the gain of the probe


class Set(NamedTuple):
    """A set of images of the results page."""

    title: str
    file: str
    images: str
    column: int | None = None  # of its gains in the table of the README


SETS = (
    Set(
        "32 px, ten classes of objects",
        "cifar10_sub",
        "10,000 training and 2,000 test images of CIFAR-10, which had been stored as JPEG files.",
        3,
    ),
    Set(
        "48 px, ten classes of clothing",
        "clothing10_48",
        "3,068 training and 713 test photographs of clothing-dataset-small.",
        4,
    ),
    Set(
        "32 px, ten classes of fashion products",
        "fashion_sub",
        "10,000 training and 2,000 test images of Fashion-MNIST, grey, enlarged from 28 px.",
    ),
    Set(
        "64 px, seven classes of land",
        "rsscn7_64",
        "2,100 training and 700 test images of RSSCN7, seen from above.",
    ),
    Set(
        "50 px, two classes of blood cells",
        "malaria2_50",
        "6,000 training and 2,000 test images of the NIH malaria data, grey, of other patients.",
    ),
)


def section(data: Set, rows: Rows) -> str:
    """The section of the results page about one set of images."""
    names = list(TRAININGS)
    missing = [f"`{name}`" for name in names if (name, 0) not in rows]
    told = f"{data.images} {verdict(rows, names)}"
    if missing:
        told += f" Not measured, or not applicable: {', '.join(missing)}."
    return "\n\n".join([
        f"## {data.title}",
        algorithm_table(rows, names),
        textwrap.fill(told, 120),
        f"![Gains of kNN and linear probe by algorithm](results/{data.file}.png)",
        "Baselines, and the same network trained with labels:",
        floor_table(rows),
        "Probes of the feature map:",
        map_table(rows, [*names, "supervised"]),
        f"Trained on: {made_with(rows)}.",
    ]) + "\n\n"  # fmt: skip


def with_section(page: str, title: str, text: str) -> str:
    """A page in which a section is replaced, or added before the conclusions."""
    begin = page.find(f"## {title}\n")
    if begin < 0:
        begin = end = page.index("## Conclusions\n")
    else:
        end = page.index("\n## ", begin) + 1
    return page[:begin] + text + page[end:]


def cells_of(results: str, title: str, name: str) -> list[str] | None:
    """The cells of an algorithm in the section of a set of images."""
    if f"## {title}\n" not in results:
        return None
    text = results.split(f"## {title}\n")[1].split("\n## ")[0]
    found = re.search(rf"^\| `{name}`[^|]*\| (.*) \|$", text, re.MULTILINE)
    return found and found[1].split(" | ")


def with_results(page: str, lines: list[str]) -> str:
    """The page of an algorithm with other lines in the table of its results."""
    begin = page.index("## Results\n")
    head = re.compile(r"^\| images \|.*\n\|[-|]+\|\n", re.MULTILINE).search(page, begin)
    if head is None:
        raise SystemExit("A page of an algorithm has no table of results.")
    end = page.index("\n\n", head.end()) + 1
    return page[: head.end()] + "".join(f"{line}\n" for line in lines) + page[end:]


def main() -> None:
    path = ROOT / "docs" / "learning.md"
    results = path.read_text("utf-8")
    for data in SETS:
        rows = rows_of(KEPT / f"{data.file}-100000-auto.jsonl") or rows_of(KEPT / f"{data.file}-50000-auto.jsonl")
        if rows:
            results = with_section(results, data.title, section(data, rows))
    path.write_text(results, "utf-8")
    readme_path = ROOT / "README.md"
    readme = readme_path.read_text("utf-8").splitlines()
    for name, algorithm in all_supervisors().items():
        found = {data: cells for data in SETS if (cells := cells_of(results, data.title, name))}
        lines = [f"| {data.title} | {' | '.join(cells[:PAGE_CELLS])} |" for data, cells in found.items()]
        page = ROOT / "docs" / "papers" / f"{name}.md"
        page.write_text(with_results(page.read_text("utf-8"), lines), "utf-8")
        number = next(place for place, line in enumerate(readme) if line.startswith(f"| [`{algorithm.__name__}`]"))
        row = readme[number].strip("| ").split(" | ")
        for data, cells in found.items():
            if data.column is not None:
                row[data.column] = cells[PAGE_CELLS - 1].replace("**", "")
        readme[number] = f"| {' | '.join(row)} |"
    readme_path.write_text("\n".join(readme) + "\n", "utf-8")


if __name__ == "__main__":
    main()
