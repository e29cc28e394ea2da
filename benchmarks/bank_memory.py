"""How much memory a bank takes beside its table: the peak of a process that trains with a million rows.

Instance Discrimination is made and trained for some steps, once with a thousand images and once with a million,
each in a process of its own. Told is the difference of the two peaks over the difference of the two tables.

    python benchmarks/bank_memory.py [--rounds 2] [--rows 1000000]
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from networks import SmallNet
from timing import Spread, introduce, parser, ratios, table, take_turns, write

from super_selfish.supervisors import InstanceDiscriminationSupervisor
from super_selfish.training import Callback

FEW, STEPS, DIMENSIONS, BATCH = 1000, 5, 128, 64
UNIT = 1 if sys.platform == "darwin" else 1024  # of what the system tells about memory, in bytes


class Enough(Exception):
    """Ends a training in the middle."""


class Peak(Callback):
    """Ends the training after some steps."""

    def on_step_end(self, run: Any) -> None:
        if run.steps == STEPS:
            raise Enough


def peak(rows: int) -> float:
    """MiB that this process has had at most, after training with a bank of a number of rows."""
    images = np.broadcast_to(np.zeros((32, 32, 3), np.uint8), (rows, 32, 32, 3))
    torch.manual_seed(0)
    supervisor = InstanceDiscriminationSupervisor(images, backbone=SmallNet(), n=1024, embedding_size=DIMENSIONS)
    with tempfile.TemporaryDirectory() as folder:
        name = Path(folder, "base")
        try:
            supervisor.supervise(batch_size=BATCH, callbacks=[Peak()], checkpoint_every=0, verbose=False, name=name)
        except Enough:
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT / 2**20
    raise RuntimeError("The training ended before its last step.")


def in_a_process(rows: int) -> float:
    """The same in a fresh process."""
    command = [sys.executable, __file__, "--alone", str(rows)]
    run = subprocess.run(command, env=os.environ, check=True, capture_output=True, text=True)
    return float(run.stdout.split()[-1])


def compare(options: argparse.Namespace) -> None:
    introduce()
    sizes = (FEW, options.rows)
    peaks = take_turns({str(rows): lambda rows=rows: in_a_process(rows) for rows in sizes}, options.rounds)
    tables = [rows * DIMENSIONS * 4 / 2**20 for rows in sizes]
    grown = [large - small for small, large in zip(*peaks.values(), strict=True)]
    over = ratios(grown, [tables[1] - tables[0]] * options.rounds)
    cells = [
        (rows, f"{size:.0f}", Spread.of(peaks[str(rows)]).show(0)) for rows, size in zip(sizes, tables, strict=True)
    ]
    print(table(("rows", "table, MiB", "peak of the process, MiB"), cells))
    print(f"\nGrown by {Spread.of(over).show()} of what the table has grown by.")
    write("bank_memory", {"memory of a bank": over}, {"peaks": peaks})


def main() -> None:
    options = parser(__doc__, 2)
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--alone", type=int, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.alone:
        print(peak(chosen.alone))
    else:
        compare(chosen)


if __name__ == "__main__":
    main()
