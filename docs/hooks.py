"""Built into the site from the classes: the table of algorithms, and their pages in the navigation."""

from __future__ import annotations

from typing import Any

from super_selfish.supervisors import all_supervisors

MARKER = "<!-- algorithms -->"


def table() -> str:
    """A row for each algorithm."""
    rows = [
        "| name | class | family | learns by | use it when | paper | time per image |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, cls in all_supervisors().items():
        paper = "" if cls.paper is None else f"[{cls.paper.authors}, {cls.paper.year}]({cls.paper.link})"
        cost = "" if cls.relative_cost is None else f"{cls.relative_cost:g}"
        cells = [f"[`{name}`](papers/{name}.md)", f"`{cls.__name__}`", cls.family or "", cls.learns_by, cls.use_when]
        rows.append(f"| {' | '.join([*cells, paper, cost])} |")
    return "\n".join(rows)


def on_config(config: Any) -> Any:
    """Add the page of each algorithm to the navigation."""
    for entry in config["nav"]:
        if "Algorithms" in entry:
            entry["Algorithms"] += [f"papers/{name}.md" for name in all_supervisors()]
    return config


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the table in its place."""
    return markdown.replace(MARKER, table())
