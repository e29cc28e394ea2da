"""Images per second on a GPU: default networks at 225 px, by precision, compiled or not.

python benchmarks/gpu.py [--batch 128] [--steps 30] [--compile] [--device cuda]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from super_selfish.supervisors import all_supervisors
from super_selfish.training import Callback

ROOT = Path(__file__).parents[1]
WARM_UP = 10


class Watch(Callback):
    """Seconds of the steps behind the first ones, and the share of them spent waiting for batches."""

    def on_step_end(self, run: Any) -> None:
        if run.steps == WARM_UP:
            self.begin, self.waited, self.first = self.now(run), run.clock.total_wait, run.train_state.samples
        self.run = run

    def on_train_end(self, run: Any) -> None:
        self.seconds = self.now(run) - self.begin
        self.speed = (run.train_state.samples - self.first) / self.seconds
        self.wait = (run.clock.total_wait - self.waited) / self.seconds

    @staticmethod
    def now(run: Any) -> float:
        if run.supervisor.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def measure(name: str, options: argparse.Namespace, precision: str, compile_: bool) -> dict[str, Any]:
    device = torch.device(options.device)
    count = options.batch * (options.steps + WARM_UP)
    images = np.random.default_rng(0).integers(0, 256, (count, options.side, options.side, 3), np.uint8)
    torch.manual_seed(0)
    supervisor = all_supervisors()[name](images).to(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        supervisor.supervise(
            epochs=1, batch_size=options.batch, precision=precision, compile=compile_,
            num_workers=options.workers, name=Path(folder, "run"), checkpoint_every=0, callbacks=[watch], verbose=False,
        )  # fmt: skip
    memory = torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else float("nan")
    return {"algorithm": name, "precision": precision, "compile": compile_, "images_per_second": watch.speed,
            "waiting": watch.wait, "gigabytes": memory}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--side", type=int, default=225)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--only", nargs="+", default=["rotate_net", "momentum_contrast", "byol"])
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("There is no GPU. On a CPU: python benchmarks/gpu.py --device cpu --batch 4 --side 64")
    machine = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    print(
        f"{machine}, torch {torch.__version__}, {options.side} px, batches of {options.batch}, {options.steps} steps\n"
    )
    print("| algorithm | precision | compiled | images/s | waiting for data | GB |")
    print("|---|---|---|---|---|---|")
    results = []
    for name in options.only:
        for precision in ("32", "bf16", "16"):
            for compile_ in (False, True) if options.compile else (False,):
                row = measure(name, options, precision, compile_)
                results.append(row)
                print(
                    f"| {name} | {precision} | {'yes' if compile_ else 'no'} | {row['images_per_second']:.1f} "
                    f"| {row['waiting']:.0%} | {row['gigabytes']:.1f} |",
                    flush=True,
                )
    target = ROOT / "build" / "benchmarks" / "gpu.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps({"machine": machine, "torch": torch.__version__, "results": results}, indent=1))


if __name__ == "__main__":
    main()
