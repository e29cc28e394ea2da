"""What the loop and its checkpoints cost.

The loop: MoCo v2 by ``supervise()`` beside a bare loop in plain torch, without hooks, callbacks or protection, that
trains an equal network on the batches of an equal loader. They take turns step by step: the bare step is done, and its
time left out, whenever ``supervise()`` has told a callback that a step has ended. Each runs ahead half of the time.

Checkpoints: epochs over 10,000 images of 32 px in batches of 64, with a checkpoint after each and without, in turn.
Told are the seconds spent on writing as a share of the epoch, what the first step of a run costs besides (it tries
whether everything can be stored), and the ratio of whole epochs, which other work on the machine disturbs more. A
checkpoint holds network, key network, queue and AdamW's state.

    python benchmarks/overhead.py [--steps 150] [--rounds 3] [--images 10000]
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from networks import SmallNet
from timing import Spread, introduce, parser, ratios, table, take_turns, write
from torch import Tensor
from torch.nn import functional as F

from super_selfish.engine.checkpointer import Checkpointer
from super_selfish.models.norms import in_groups
from super_selfish.supervisors import MomentumContrastSupervisor
from super_selfish.training import Callback

UNTIMED = 10
CASES: dict[str, tuple[int, int, Callable[[], Any]]] = {
    "small network, 32 px, batches of 64": (32, 64, SmallNet),
    "ResNet-18, 96 px, batches of 16": (96, 16, lambda: "resnet18"),
}


def supervisor_of(images: np.ndarray, backbone: Any) -> MomentumContrastSupervisor:
    torch.manual_seed(0)
    return MomentumContrastSupervisor(images, backbone=backbone, queue_size=2048, m=0.99)


def noise(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)


def supervise(supervisor: MomentumContrastSupervisor, batch: int, folder: str, **settings: Any) -> None:
    optimizer = partial(torch.optim.AdamW, weight_decay=1e-4)
    supervisor.supervise(
        lr=1e-3, optimizer=optimizer, epochs=1, batch_size=batch, verbose=False, name=Path(folder, "base"), **settings
    )


def bare(supervisor: MomentumContrastSupervisor, batch: int) -> Iterator[None]:
    """The same steps in plain torch, one each time it is asked."""
    model, slow, place = supervisor.model, supervisor.ema, 0
    groups = supervisor._groups(batch)
    queue = F.normalize(torch.randn(2048, supervisor.embedding_size))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-4, fused=True)
    averaged, followed = list(slow.parameters()), list(model.parameters())

    def embed(network: Any, images: Tensor) -> Tensor:
        return F.normalize(in_groups(network, images, groups))

    supervisor.train()
    for first, second in supervisor.train_loader(batch, True, 0):
        query = embed(model, first)
        with torch.inference_mode():
            order = torch.randperm(batch)
            key = embed(slow, second[order])[order.argsort()]
        key = key.clone()
        logits = torch.cat([(query * key).sum(1, keepdim=True), query @ queue.T], 1) / supervisor.t
        F.cross_entropy(logits, torch.zeros(batch, dtype=torch.int64)).backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            torch._foreach_lerp_(averaged, followed, 1 - supervisor.m)
        queue[place : place + batch] = key
        place = (place + batch) % len(queue)
        yield


class Alternate(Callback):
    """Times each step of ``supervise()``, and the bare step that it does in between."""

    def __init__(self, other: Iterator[None]) -> None:
        self.other = other
        self.own: list[float] = []
        self.bare: list[float] = []
        self.since = 0.0

    def on_train_begin(self, run: Any) -> None:  # noqa: ARG002 - the protocol's
        self.since = time.perf_counter()

    def on_step_end(self, run: Any) -> None:  # noqa: ARG002
        begin = time.perf_counter()
        self.own.append(begin - self.since)
        next(self.other)
        self.since = time.perf_counter()
        self.bare.append(self.since - begin)


def loop_overhead(size: int, batch: int, backbone: Callable[[], Any], steps: int) -> Alternate:
    images = noise(batch * (steps + UNTIMED), size)
    own, other = supervisor_of(images, backbone()), supervisor_of(images, backbone())
    alternate = Alternate(bare(other, batch))
    with tempfile.TemporaryDirectory() as folder:
        supervise(own, batch, folder, callbacks=[alternate], checkpoint_every=0)
    return alternate


def timed(event: Callable[..., None], seconds: dict[str, float]) -> Callable[..., None]:
    """An event of a callback that adds up what it takes."""

    def call(keeper: Checkpointer, run: Any) -> None:
        begin = time.perf_counter()
        event(keeper, run)
        seconds[event.__name__] = seconds.get(event.__name__, 0.0) + time.perf_counter() - begin

    return call


def checkpoint_cost(count: int, rounds: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Percent of the epochs that were spent on writing, and seconds of whole epochs with checkpoints and without."""
    supervisor = supervisor_of(noise(count, 32), SmallNet())
    shares: dict[str, list[float]] = {"on_epoch_end": [], "on_step_end": []}

    def epoch(every: int | None) -> float:
        spent: dict[str, float] = {}
        events = {name: timed(getattr(Checkpointer, name), spent) for name in shares}
        with tempfile.TemporaryDirectory() as folder, mock.patch.multiple(Checkpointer, **events):
            begin = time.perf_counter()
            supervise(supervisor, 64, folder, checkpoint_every=every)
            seconds = time.perf_counter() - begin
        if every is None:
            for name, values in shares.items():
                values.append(100 * spent[name] / seconds)
        return seconds

    return shares, take_turns({"with": lambda: epoch(None), "without": lambda: epoch(0)}, rounds)


def main() -> None:
    options = parser(__doc__, 3)
    options.add_argument("--steps", type=int, default=150, help="of each loop")
    options.add_argument("--images", type=int, default=10_000, help="of an epoch with a checkpoint")
    chosen = options.parse_args()
    introduce()
    rows, figures, results = [], {}, {}
    for name, (size, batch, backbone) in CASES.items():
        steps = loop_overhead(size, batch, backbone, chosen.steps)
        own, other = steps.own[UNTIMED:], steps.bare[UNTIMED:]
        more = [100 * (ratio - 1) for ratio in ratios(own, other)]
        figures[f"loop: {name}"] = more
        results[name] = {"supervise": own, "bare": other}
        medians = (1e3 * Spread.of(values).median for values in (own, other))
        rows.append((f"loop: {name}", *(f"{value:.1f} ms" for value in medians), Spread.of(more).show()))
    shares, epochs = checkpoint_cost(chosen.images, chosen.rounds)
    figures["checkpoints: written each epoch"] = shares["on_epoch_end"]
    figures["checkpoints: once a run"] = shares["on_step_end"]
    figures["checkpoints: whole epochs"] = [100 * (ratio - 1) for ratio in ratios(epochs["with"], epochs["without"])]
    results["checkpoints"] = {"images": chosen.images, "seconds": epochs}
    medians = (Spread.of(epochs[name]).median for name in ("with", "without"))
    cells = [f"{value:.1f} s" for value in medians]
    rows += [(name, *cells, Spread.of(figures[name]).show()) for name in figures if name.startswith("checkpoints")]
    print(f"{chosen.steps} steps of each loop; {chosen.rounds} pairs of epochs of {chosen.images} images.\n")
    print(table(("", "with", "without", "% more, or share of the epoch"), rows))
    write("overhead", figures, results)


if __name__ == "__main__":
    main()
