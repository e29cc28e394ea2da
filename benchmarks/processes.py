"""How fast are two processes with a thread each beside one process with two threads? And does torchrun start again?

Trains MoCo and RotateNet on random images, in turn, with the same global batch; rounds alternate, medians are compared.
Then a training in two processes of which one kills itself is launched five times under torchrun.

    python benchmarks/processes.py [--rounds 3] [--launches 5]
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WORKER = """
import json, os, signal, sys, time
import numpy as np, torch
from super_selfish.supervisors import all_supervisors
from super_selfish.training import Callback

torch.set_num_threads(int(sys.argv[1]))
name, folder, dies = sys.argv[2], sys.argv[3], sys.argv[4] == "dies"
rank = int(os.environ.get("RANK", 0))

class Watch(Callback):
    def on_step_end(self, run):
        if run.steps == 5:
            self.begin = time.perf_counter()
        if dies and rank == 1 and run.steps == 12 and os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0":
            os.kill(os.getpid(), signal.SIGKILL)
        self.end = time.perf_counter()

count = 1280 if name == "momentum_contrast" and not dies else 320
images = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8)
more = {"queue_size": 512, "m": 0.9} if name == "momentum_contrast" else {}
torch.manual_seed(0)
supervisor = all_supervisors()[name](images, backbone="small_resnet", **more)
watch = Watch()
every = 5 if dies else 0
supervisor.supervise(lr=0.01, epochs=3 if dies else 4, batch_size=64, name=folder + "/run", callbacks=[watch],
                     verbose=False, checkpoint_every=every)
if rank == 0:
    steps = supervisor.train_state.step
    print(json.dumps({"steps": steps, "speed": 64 * (steps - 5) / (watch.end - watch.begin)}))
"""


def port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def speed(name: str, world: int, threads: int) -> float:
    """Images a second of the global batch."""
    with tempfile.TemporaryDirectory() as folder:
        place, running = port(), []
        for rank in range(world):
            own = {"OMP_NUM_THREADS": str(threads)}
            if world > 1:
                own |= {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank)}
                own |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": place}
            words = [sys.executable, "-c", WORKER, str(threads), name, folder, "lives"]
            running.append(subprocess.Popen(words, env=os.environ | own, stdout=subprocess.PIPE, text=True))
        said = [process.communicate()[0] for process in running]
    return float(json.loads(said[0].strip().splitlines()[-1])["speed"])


def restarted() -> tuple[bool, float]:
    """Whether a launch of two processes, one of which dies, comes to its end; and the seconds it took."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "train.py")
        script.write_text(WORKER)
        words = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node=2",
            "--max-restarts=2",
        ]
        words += [str(script), "1", "momentum_contrast", folder, "dies"]
        begin = time.perf_counter()
        run = subprocess.run(
            words, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
        )
        return run.returncode == 0 and '"steps": 15' in run.stdout, time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--launches", type=int, default=5)
    options = parser.parse_args()
    print("| | 1 process, 2 threads | 2 processes, 1 thread | ratio |\n|---|---|---|---|")
    for name in ("rotate_net", "momentum_contrast"):
        pairs = [(speed(name, 1, 2), speed(name, 2, 1)) for _ in range(options.rounds)]
        one, two = (statistics.median(values) for values in zip(*pairs, strict=True))
        ratios = [second / first for first, second in pairs]
        spread = f"{min(ratios):.2f} - {max(ratios):.2f}"
        print(
            f"| `{name}` | {one:.0f} images/s | {two:.0f} images/s | **{statistics.median(ratios):.2f}** ({spread}) |",
            flush=True,
        )
    launches = [restarted() for _ in range(options.launches)]
    seconds = statistics.median(took for _, took in launches)
    line = f"torchrun came to the end in {sum(done for done, _ in launches)} of {len(launches)} launches"
    print(f"\n{line}, {seconds:.0f} s each.")


if __name__ == "__main__":
    main()
