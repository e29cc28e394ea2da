"""A process that is killed by SIGKILL, and another that continues."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCRIPT = """
import os, signal, sys, time
started = time.monotonic()
import hashlib
import numpy as np
import torch
from super_selfish.supervisors import all_supervisors
from super_selfish.models import SmallResNet
from super_selfish.training import Callback

SMALL = {"contrastive_predictive_coding": {"embedding_size": 16, "patch_size": 8}}
algorithm, name, kill, workers, resume = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]

class Watch(Callback):
    def on_step_end(self, run):
        if not hasattr(self, "first"):
            self.first = time.monotonic() - started
        if run.train_state.step == kill:
            os.kill(os.getpid(), signal.SIGKILL)

def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), np.uint8)
    supervisor = all_supervisors()[algorithm](images, backbone=SmallResNet(width=4), **SMALL.get(algorithm, {}))
    watch, made = Watch(), []

    def optimizer(parameters, lr):
        made.append(torch.optim.AdamW(parameters, lr=lr))
        return made[0]

    supervisor.supervise(
        epochs=3, batch_size=8, optimizer=optimizer, name=name, checkpoint_every=1, num_workers=workers,
        resume={"no": False, "yes": True}[resume], callbacks=[watch], verbose=False,
    )
    total = hashlib.sha256()
    for key, value in sorted(supervisor.state_dict().items()):
        total.update(key.encode() + value.contiguous().numpy().tobytes())
    for index, moments in sorted(made[0].state_dict()["state"].items()):
        for key, value in sorted(moments.items()):
            total.update(f"{index}{key}".encode() + value.contiguous().numpy().tobytes())
    print(total.hexdigest(), supervisor.train_state, round(getattr(watch, "first", 0), 1))

if __name__ == "__main__":
    main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("step", "workers"), [(1, 0), (6, 2), (14, 0)])
def test_killed_and_continued(algorithm: str, run_python: Callable[..., Any], step: int, workers: int) -> None:
    Path("job.py").write_text(SCRIPT)
    straight = run_python("job.py", algorithm, "store/straight", "0", "0", "no")
    killed = run_python("job.py", algorithm, "store/killed", str(step), str(workers), "no")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = run_python("job.py", algorithm, "store/killed", "0", str(workers), "yes")
    assert straight.returncode == resumed.returncode == 0, straight.stderr + resumed.stderr
    assert straight.stdout.rsplit(maxsplit=1)[0] == resumed.stdout.rsplit(maxsplit=1)[0]
