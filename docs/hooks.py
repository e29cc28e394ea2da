"""Built into the site: the table of algorithms, an API page for each algorithm, and the contributing guide."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from super_selfish.supervisors import all_supervisors

MARKER = "<!-- algorithms -->"
ROLE = re.compile(r":(?:class|func|meth|attr|data|mod):<code>(~?)([\w.]+)</code>")
CONTRIBUTING = Path(__file__).parents[1] / "CONTRIBUTING.md"
REFERENCE = """---
search:
  boost: 0.3
---
What it learns, results and training recipes: [the page of the algorithm](../papers/{name}.md).

::: super_selfish.supervisors.{class_name}
    options:
      heading_level: 1
      show_if_no_docstring: true
"""


def table() -> str:
    """A row for each algorithm."""
    rows = [
        "| name | class | family | learns by | use it when | paper | time per image |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, cls in all_supervisors().items():
        paper = "" if cls.paper is None else f"[{cls.paper.authors}, {cls.paper.year}]({cls.paper.link})"
        cost = "" if cls.relative_cost is None else f"{cls.relative_cost:g}"
        reference = f"[`{cls.__name__}`](api/{name}.md)"
        cells = [f"[`{name}`](papers/{name}.md)", reference, cls.family or "", cls.learns_by, cls.use_when]
        rows.append(f"| {' | '.join([*cells, paper, cost])} |")
    return "\n".join(rows)


def on_config(config: Any) -> Any:
    """Add the pages of each algorithm to the navigation."""
    groups = {title: pages for entry in config["nav"] for title, pages in entry.items()}
    groups["Algorithms"] += [f"papers/{name}.md" for name in all_supervisors()]
    groups["API"] += [{cls.__name__: f"api/{name}.md"} for name, cls in all_supervisors().items()]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that have no file in this folder."""
    pages = {
        f"api/{name}.md": REFERENCE.format(name=name, class_name=cls.__name__)
        for name, cls in all_supervisors().items()
    }
    pages["contributing.md"] = CONTRIBUTING.read_text("utf-8").replace("](docs/", "](")
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Put the table in its place, and link the page of an algorithm to the API page of its class."""
    path = Path(page.file.src_uri)
    if path.parent.name == "papers":
        markdown = markdown.replace("](../api.md)", f"](../api/{path.name})")
    return markdown.replace(MARKER, table())


def link(role: re.Match[str]) -> str:
    """HTML of a Sphinx role in a docstring: a link to the object if it has an entry, otherwise its name."""
    name = role[2].rpartition(".")[2] if role[1] else role[2]
    return f'<autoref identifier="{role[2]}" optional><code>{name}</code></autoref>'


def on_page_content(html: str, **_: Any) -> str:
    """Turn Sphinx roles of docstrings into links."""
    return ROLE.sub(link, html)
