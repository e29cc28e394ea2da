"""One process of a training in which something happens.

usage: python scenario.py WHAT FOLDER
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
from worker import Losses, train

from super_selfish.supervisors import RotateNetSupervisor
from super_selfish.training import Callback

RANK = int(os.environ.get("RANK", 0))


class At(Callback):
    """Does something once, after a step, in one process."""

    def __init__(self, step: int, do: Any, rank: int = 1) -> None:
        self.step, self.do, self.rank = step, do, rank

    def on_step_end(self, run: Any) -> None:
        if run.cursor.step == self.step and self.rank == RANK:
            self.do()


class Slow(Callback):
    """Tells the step in a file, and takes its time."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"step-{RANK}"

    def on_step_end(self, run: Any) -> None:
        self.path.write_text(str(run.cursor.step))
        time.sleep(0.02)


def interrupt() -> None:
    raise KeyboardInterrupt


def main() -> None:
    torch.set_num_threads(1)
    what, folder = sys.argv[1], Path(sys.argv[2])
    first = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
    long: dict[str, Any] = {"epochs": 1000, "checkpoint_every": 0}
    if what == "nan":
        forward, calls = RotateNetSupervisor._forward, []

        def broken(self: Any, data: Any) -> Any:
            calls.append(1)
            return forward(self, data) * (float("nan") if RANK == 1 and len(calls) == 3 else 1.0)

        RotateNetSupervisor._forward = broken
        train("rotate_net", "layer", folder)
    elif what == "killed":
        train("rotate_net", "layer", folder, **long, callbacks=[At(3, lambda: os.kill(os.getpid(), signal.SIGKILL))])
    elif what == "hangs":
        train("rotate_net", "layer", folder, **long, callbacks=[At(3, lambda: os.kill(os.getpid(), signal.SIGSTOP))])
    elif what == "signal":
        train("rotate_net", "layer", folder, epochs=1000, callbacks=[Slow(folder)])
    elif what == "uneven":
        train("rotate_net", "layer", folder, batch_size=15)
    elif what == "restart":
        die = [At(5, lambda: os.kill(os.getpid(), signal.SIGKILL))] if first else []
        supervisor, _ = train("momentum_contrast", "layer", folder, epochs=4, callbacks=die, checkpoint_every=2)
        torch.save(supervisor.state_dict(), folder / f"restarted-{RANK}.pt")
    elif what.startswith("part:"):
        _, name, part = what.split(":")
        told = Losses()
        stop = [At(3, interrupt, 0)] if part == "first" else []
        more: dict[str, Any] = {"epochs": 3, "checkpoint_every": 1, "callbacks": [told, *stop]}
        supervisor, _ = train(name, "layer", folder, **more, resume=part == "second")
        torch.save(supervisor.state_dict(), folder / f"{part}-{RANK}.pt")


if __name__ == "__main__":
    main()
