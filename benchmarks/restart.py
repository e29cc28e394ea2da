"""How long does a killed training take to go on? Seconds from SIGKILL to the first new step, a new process included.

Each algorithm trains SmallNet on 256 random images of 32 px with a checkpoint every step, is killed by SIGKILL behind
its fifth step, and started again with ``resume="auto"``.

    python benchmarks/restart.py [--rounds 3] [--only NAME ...]
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time

from timing import Spread, introduce, parser, table, write

from super_selfish.supervisors import all_supervisors

STEPS = 5
TRAINING = """
import sys
import numpy as np
import torch
from networks import SmallNet
from super_selfish.supervisors import all_supervisors
from super_selfish.training import Callback

class Tell(Callback):
    def on_step_end(self, run):
        print(run.train_state.step, flush=True)

images = np.random.default_rng(0).integers(0, 256, (256, 32, 32, 3), np.uint8)
options = {"contrastive_predictive_coding": {"patch_size": 16}, "exemplar_net": {"n_classes": 64, "n_trans": 1}}
torch.manual_seed(0)
supervisor = all_supervisors()[sys.argv[1]](images, backbone=SmallNet(), **options.get(sys.argv[1], {}))
supervisor.supervise(epochs=50, batch_size=32, checkpoint_every=1, name=sys.argv[2], resume="auto", verbose=False,
                     callbacks=[Tell()])
"""


def start(algorithm: str, name: str) -> subprocess.Popen[str]:
    folder = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", TRAINING, algorithm, name]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)


def step(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        sys.exit(f"The training ended by itself with status {process.wait()}.")
    return int(line)


def seconds(algorithm: str) -> float:
    """From the kill to the first new step."""
    with tempfile.TemporaryDirectory() as folder:
        first = start(algorithm, f"{folder}/run")
        while step(first) < STEPS:
            pass
        first.send_signal(signal.SIGKILL)
        began = time.monotonic()
        first.wait()
        second = start(algorithm, f"{folder}/run")
        reached = step(second)
        taken = time.monotonic() - began
        second.kill()
        second.wait()
        if not STEPS <= reached <= STEPS + 2:
            sys.exit(f"{algorithm} went on at step {reached}.")
        return taken


def main() -> None:
    options = parser(__doc__, 3)
    options.add_argument("--only", nargs="+", choices=sorted(all_supervisors()), default=sorted(all_supervisors()))
    chosen = options.parse_args()
    introduce()
    figures = {name: [seconds(name) for _ in range(chosen.rounds)] for name in chosen.only}
    rows = [(name, Spread.of(values).show()) for name, values in figures.items()]
    print(table(("algorithm", "seconds from SIGKILL to the first new step"), rows))
    write("restart", figures, {})


if __name__ == "__main__":
    main()
