"""What a memory bank costs as it grows: from ten thousand to a million images.

Banks of all sizes take turns, so that what else the machine does hits them alike; medians and quartiles. A step of the
bank is all that the bank adds to a training step: negatives drawn and read, logits, loss and gradient, rows written. A
training step has the network as well: one thread, 64 images of 32 px, embeddings of 128 numbers.

    python benchmarks/bank.py [--rounds 200]
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from networks import SmallNet
from timing import ratios, write
from torch.nn import functional as F

from super_selfish.supervisors import InstanceDiscriminationSupervisor

SIZES = (10_000, 100_000, 1_000_000)
BATCH, N = 64, 3136


def supervisor_of(size: int) -> InstanceDiscriminationSupervisor:
    images = np.broadcast_to(np.zeros((32, 32, 3), np.uint8), (size, 32, 32, 3))
    torch.manual_seed(0)
    return InstanceDiscriminationSupervisor(images, backbone=SmallNet(), n=N).train()


def bank_step(supervisor: InstanceDiscriminationSupervisor, indices: torch.Tensor) -> float:
    embeddings = F.normalize(torch.randn(BATCH, supervisor.embedding_size)).requires_grad_()
    begin = time.perf_counter()
    supervisor.contrast(embeddings, supervisor.memory, indices).backward()
    supervisor.remember((embeddings,), indices)
    supervisor._after_update()
    return time.perf_counter() - begin


def training_step(
    supervisor: InstanceDiscriminationSupervisor, optimizer: torch.optim.Optimizer, indices: torch.Tensor
) -> float:
    views = torch.rand(BATCH, 3, 32, 32)
    begin = time.perf_counter()
    supervisor._forward((views, indices)).backward()
    optimizer.step()
    optimizer.zero_grad()
    supervisor._after_update()
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=200)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    trained = {size: supervisor_of(size) for size in SIZES}
    optimizers = {size: torch.optim.Adam(each.trainable_parameters()) for size, each in trained.items()}
    seconds: dict[tuple[str, int], list[float]] = {}
    for number in range(rounds + 10):
        for size, supervisor in trained.items():
            supervisor.train_state.step = number
            indices = torch.randint(size, (BATCH,))
            alone = bank_step(supervisor, indices)
            whole = training_step(supervisor, optimizers[size], indices)
            if number >= 10:
                seconds.setdefault(("bank", size), []).append(alone)
                seconds.setdefault(("training step", size), []).append(whole)
    print(f"torch {torch.__version__}, 1 thread, {rounds} rounds, {N} shared negatives\n")
    print("| ms | " + " | ".join(f"{size:,} images" for size in SIZES) + " | last / first |")
    print("|---|" + "---|" * (len(SIZES) + 1))
    figures = {}
    for what in ("bank", "training step"):
        rows = [np.percentile(seconds[what, size], (50, 25, 75)) * 1e3 for size in SIZES]
        cells = [f"{median:.2f} ({low:.2f} – {high:.2f})" for median, low, high in rows]
        print(f"| {what} | {' | '.join(cells)} | {rows[-1][0] / rows[0][0]:.2f} |")
        figures[f"{what}, 10⁶ over 10⁴ rows"] = ratios(seconds[what, SIZES[-1]], seconds[what, SIZES[0]])
    figures["10⁶ over 10⁴ rows"] = figures["bank, 10⁶ over 10⁴ rows"]
    told = {f"{what}, {size:,} images": times for (what, size), times in seconds.items()}
    write("bank", figures, told)


if __name__ == "__main__":
    main()
