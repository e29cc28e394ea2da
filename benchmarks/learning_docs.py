"""Write the rows in benchmarks/results into the documents: the results page, the pages of the algorithms, the README.

python benchmarks/learning_figure.py && python benchmarks/learning_docs.py
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import NamedTuple

from learning import KEPT, TRAININGS, rows_of
from learning_table import (
    Rows,
    floor_table,
    gain_of,
    gain_table,
    made_with,
    of,
    pair,
    pretext_cells,
    pretext_table,
    verdict,
)  # fmt: skip

from super_selfish.supervisors import all_supervisors

ROOT = Path(__file__).parents[1]
OVERVIEW = "Gain of the linear probe"


class Set(NamedTuple):
    """A set of images of the results page, and the column of its gains in the table of the README."""

    short: str
    title: str
    file: str
    images: str
    column: int | None = None


SETS = (
    Set(
        "objects",
        "32 px, ten classes of objects",
        "cifar10_sub-100000",
        "10,000 training and 2,000 test images of CIFAR-10, which had been stored as JPEG files.",
        3,
    ),
    Set(
        "clothing",
        "48 px, ten classes of clothing",
        "clothing10_48-100000",
        "3,068 training and 713 test photographs of clothing-dataset-small.",
    ),
    Set(
        "fashion",
        "32 px, ten classes of fashion products",
        "fashion_sub-100000",
        "10,000 training and 2,000 test images of Fashion-MNIST, grey, enlarged from 28 px.",
    ),
    Set(
        "land",
        "64 px, seven classes of land",
        "rsscn7_64-50000",
        "2,100 training and 700 test images of RSSCN7, seen from above; 50,000 images seen.",
    ),
    Set(
        "blood cells",
        "50 px, two classes of blood cells",
        "malaria2_50-100000",
        "6,000 training images of the NIH malaria data, grey, and 2,000 test images of other patients.",
    ),
)


def measured() -> dict[Set, Rows]:
    """The rows of each set that has any."""
    found = {data: rows_of(KEPT / f"{data.file}-auto.jsonl") for data in SETS}
    return {data: rows for data, rows in found.items() if rows}


def gain(rows: Rows, name: str) -> str:
    """The gain of the probe of an algorithm, as in every table."""
    own = of(rows, name)
    return str(gain_of(own, "probe")) if own else "–"


def overview(found: dict[Set, Rows]) -> str:
    """The section that shows the gains on all sets."""
    lines = [f"| | {' | '.join(data.short for data in found)} |", "|---" * (len(found) + 1) + "|"]
    for name in TRAININGS:
        lines.append(f"| `{name}` | {' | '.join(gain(rows, name) for rows in found.values())} |")
    seeds = [len(of(rows, name)) for rows in found.values() for name in TRAININGS if of(rows, name)]
    numbers = f"{min(seeds)} to {max(seeds)} seeds" if min(seeds) < max(seeds) else f"seeds: {seeds[0]}"
    told = (
        "Percentage points over the untrained network, with 95 % intervals, **bold** where the interval is above zero; "
        f"{numbers}. –: not measured, or the images lack the colours that it needs."
    )
    return "\n\n".join([f"## {OVERVIEW}", "\n".join(lines), textwrap.fill(told, 120)]) + "\n\n"


def section(data: Set, rows: Rows) -> str:
    """The section of the results page about one set of images."""
    names = list(TRAININGS)
    return "\n\n".join([
        f"## {data.title}",
        f"![Gains of kNN and linear probe by algorithm](results/{data.file.rpartition('-')[0]}.png)",
        gain_table(rows, names),
        textwrap.fill(f"{data.images} {verdict(rows, names)}", 120),
        "Baselines, and the same network trained with labels:",
        floor_table(rows),
        "Pretext tasks on the test images:",
        pretext_table(rows, names),
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


def with_results(page: str, lines: dict[str, str]) -> str:
    """The page of an algorithm with other lines, by the title of their set, in the table of its results."""
    begin = page.index("## Results\n")
    head = re.compile(r"^\| images \|.*\n\|[-|]+\|\n", re.MULTILINE).search(page, begin)
    if head is None:
        raise SystemExit("A page of an algorithm has no table of results.")
    end = page.index("\n\n", head.end()) + 1
    present = {line.split(" | ")[0].strip("| "): line for line in page[head.end() : end].splitlines()}
    return page[: head.end()] + "".join(f"{line}\n" for line in (present | lines).values()) + page[end:]


def lines_of(name: str, found: dict[Set, Rows]) -> dict[str, str]:
    """The lines of the results on the page of an algorithm, by the title of their set."""
    lines = {}
    for data, rows in found.items():
        if own := of(rows, name):
            cells = [data.title, *pretext_cells(own), pair(own, "knn"), pair(own, "probe"), gain(rows, name)]
            lines[data.title] = f"| {' | '.join(cells)} |"
    return lines


def with_gains(readme: str, found: dict[Set, Rows]) -> str:
    """The README with other gains in its table of algorithms."""
    lines = readme.splitlines()
    for name, algorithm in all_supervisors().items():
        place = next(place for place, line in enumerate(lines) if line.startswith(f"| [`{algorithm.__name__}`]"))
        cells = lines[place].strip("| ").split(" | ")
        for data, rows in found.items():
            if data.column is not None:
                cells[data.column] = gain(rows, name).replace("**", "")
        lines[place] = f"| {' | '.join(cells)} |"
    return "\n".join(lines) + "\n"


def main() -> None:
    found = measured()
    path = ROOT / "docs" / "learning.md"
    results = path.read_text("utf-8")
    if len(found) > 1:
        results = with_section(results, OVERVIEW, overview(found))
    for data, rows in found.items():
        results = with_section(results, data.title, section(data, rows))
    path.write_text(results, "utf-8")
    for name in all_supervisors():
        page = ROOT / "docs" / "papers" / f"{name}.md"
        page.write_text(with_results(page.read_text("utf-8"), lines_of(name, found)), "utf-8")
    readme = ROOT / "README.md"
    readme.write_text(with_gains(readme.read_text("utf-8"), found), "utf-8")


if __name__ == "__main__":
    main()
