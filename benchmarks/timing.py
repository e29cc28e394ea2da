"""What the speed benchmarks share: contestants that take turns, medians and quartiles, one table, one file of results.

Machines are shared and noisy, so what counts is the ratio of two things that were done in turn: one ratio a round, and
of these the median. ``figures`` in a file of results are such ratios by name; ``report.py`` knows what they should be.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import super_selfish

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "build" / "benchmarks"
DATA = Path(os.environ.get("SUPER_SELFISH_DATA", ROOT.parent / "shared" / "data"))
LOAD = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None  # of others, before this one begins


class Spread(NamedTuple):
    """The median of some numbers, and their quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        method = "linear" if np.isfinite(values).all() else "nearest"  # infinite: what was never reached
        low, high = np.percentile(values, (25, 75), method=method)
        return cls(statistics.median(values), float(low), float(high))

    def show(self, digits: int = 2) -> str:
        return f"{self.median:.{digits}f} ({self.low:.{digits}f} – {self.high:.{digits}f})"


def take_turns(contestants: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What each contestant measures in each round; every second round goes backwards, so that neighbours change."""
    measured: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds):
        for name in list(contestants)[:: -1 if number % 2 else 1]:
            measured[name].append(contestants[name]())
        say(f"round {number + 1} of {rounds}: " + ", ".join(f"{k} {v[-1]:.4g}" for k, v in measured.items()))
    return measured


def ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """One ratio a round."""
    return [a / b for a, b in zip(over, under, strict=True)]


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    return "\n".join(map(table_row, (header, ["---"] * len(header), *rows)))


def table_row(cells: Sequence[object]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(map(str, cells))} |"


def say(text: str) -> None:
    """Tell how far it has come, on stderr: the table alone is the output."""
    print(text, file=sys.stderr, flush=True)


def machine() -> dict[str, Any]:
    """What was measured on."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": name, "cores": cores, "torch_threads": torch.get_num_threads(), "load_before": LOAD}


def versions(*packages: str) -> dict[str, str]:
    """Of this library, of what is always in play, and of the packages that were compared with."""
    own = {"super_selfish": super_selfish.__version__, "python": platform.python_version()}
    names = ("torch", "torchvision", "opencv-python-headless", *packages)
    return own | {name: importlib.metadata.version(name) for name in names}


def parser(text: str | None, rounds: int) -> argparse.ArgumentParser:
    """The command line of a benchmark, which begins with ``--rounds``."""
    made = argparse.ArgumentParser(description=(text or "").partition("\n")[0])
    made.add_argument("--rounds", type=int, default=rounds)
    return made


def introduce(*packages: str) -> None:
    """Print what is measured on and with."""
    on = machine()
    begin = f"{on['cpu']}, {on['cores']} cores, {on['torch_threads']} torch threads, load before {on['load_before']}. "
    print(begin + ", ".join(f"{name} {version}" for name, version in versions(*packages).items()) + "\n", flush=True)


def write(name: str, figures: Mapping[str, Sequence[float]], results: Any, *packages: str) -> None:
    """Write ``build/benchmarks/<name>.json``.

    Args:
        name: Of the benchmark.
        figures: Numbers that there are goals for: one a round, by name.
        results: What they were made of.
        *packages: That were compared with.
    """
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    told = {"command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]), "machine": machine()}
    told |= {"versions": versions(*packages), "figures": dict(figures), "results": results}
    path.write_text(json.dumps(told, indent=1) + "\n", "utf-8")
    say(f"Each round is in {path.relative_to(ROOT)}.")
