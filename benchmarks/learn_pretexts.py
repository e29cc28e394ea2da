"""Do the pretext tasks learn? Five minutes each on two cores: 10,000 images of 32 px and one small network.

What a network answers is measured on images that it has not seen, beside a predictor that has learned nothing but an
average. Features are scored before and after training by kNN (k = 20, t = .07) and by a linear probe, both fitted on
the 10,000 labelled training images and tested on 2,000 others. One seed unless more are asked for.

    python benchmarks/learn_pretexts.py [--only jigsaw_net denoise_net] [--seeds 0] [--minutes 4.5] [--epochs N]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from networks import SmallNet, scores
from torch import Tensor
from torch.nn import functional as F
from torch.optim.lr_scheduler import OneCycleLR

from super_selfish.losses import masked_mse
from super_selfish.models.decoders import resized_to
from super_selfish.supervisors import all_supervisors
from super_selfish.supervisors.exhibits import few
from super_selfish.training import Callback

DATA = Path(os.environ.get("SUPER_SELFISH_DATA", Path(__file__).parents[2] / "shared" / "data")) / "cifar10_sub.npz"
CHUNK = 250


class Exam(NamedTuple):
    """How one algorithm is trained here, and what is measured on images that it has not seen.

    ``measure`` gives the network's value and that of the trivial predictor for a batch.
    """

    measure: Callable[[Any, Any, dict[str, Tensor]], tuple[float, float]]
    what: str
    trivial: str
    arguments: Mapping[str, Any] = MappingProxyType({})
    lr: float = 2e-3
    betas: tuple[float, float] = (0.9, 0.999)


def told_right(supervisor: Any, data: Any, _: dict[str, Tensor]) -> tuple[float, float]:
    images, labels = data
    logits = supervisor.model(images)
    return (logits.argmax(1) == labels).double().mean().item(), 1 / logits.shape[1]


def denoised(supervisor: Any, data: Any, known: dict[str, Tensor]) -> tuple[float, float]:
    corrupted, clean = data[0], data[1]
    guess = resized_to(supervisor.model(corrupted), clean.shape[-2:])
    trivial = min(F.mse_loss(other.expand_as(clean), clean).item() for other in (corrupted, known["mean"]))
    return F.mse_loss(guess, clean).item(), trivial


def painted(supervisor: Any, data: Any, known: dict[str, Tensor]) -> tuple[float, float]:
    corrupted, clean, mask = data
    guess = resized_to(supervisor.model(corrupted), clean.shape[-2:])
    trivial = min(masked_mse(other.expand_as(clean), clean, mask).item() for other in (corrupted, known["mean"]))
    return masked_mse(guess, clean, mask).item(), trivial


def bins_told(supervisor: Any, data: Any, _: dict[str, Tensor]) -> tuple[float, float]:
    """Cross entropy of both bins beside that of the best constant: the entropy of how often each bin occurs here."""
    lab, labels = data
    logits = resized_to(supervisor.model(lab), labels.shape[-2:])
    own = supervisor.loss(logits, labels).item()
    shares = [torch.bincount(part.flatten()).double() / part.numel() for part in labels.unbind(1)]
    return own, sum(-(share[share > 0] * share[share > 0].log()).sum().item() for share in shares)


def recognised(supervisor: Any, data: Any, _: dict[str, Tensor]) -> tuple[float, float]:
    """Is G(E(x)) nearer to x than G(E(y)) of another image y?"""
    images = data[1]
    there = resized_to(supervisor.model(images), images.shape[-2:])
    own = (there - images).square().mean((1, 2, 3))
    other = (there.roll(1, 0) - images).square().mean((1, 2, 3))
    return (own < other).double().mean().item(), 0.5


BI_GAN = {"rec_weight": 10.0, "d_lr": 1e-4}  # or the discriminator is far ahead within an epoch

EXAMS = {
    "rotate_net": Exam(told_right, "angles told right", "guess"),
    "exemplar_net": Exam(told_right, "new versions of its images told right", "guess", {"n_classes": 2000}),
    "jigsaw_net": Exam(told_right, "orders told right", "guess"),
    "denoise_net": Exam(denoised, "squared error", "best of mean image and input"),
    "context_net": Exam(painted, "squared error in the blocks", "best of mean image and mean colour"),
    "split_brain_net": Exam(bins_told, "cross entropy of L and ab bins", "how often each occurs"),
    "bi_gan": Exam(recognised, "G(E(x)) nearer to x than another's", "guess", BI_GAN, lr=1e-3, betas=(0.5, 0.999)),
}


def examine(supervisor: Any, exam: Exam, images: dict[str, np.ndarray]) -> tuple[float, float]:
    """Network and trivial predictor on images that were not trained on, mean over chunks."""
    mean = torch.from_numpy(images["x_train"].mean(0) / 255).float().permute(2, 0, 1)
    values = []
    supervisor.eval()
    with torch.no_grad():
        for first in range(0, len(images["x_test"]), CHUNK):
            part = images["x_test"][first : first + CHUNK]
            if supervisor.algorithm() == "exemplar_net":  # its classes are its images
                values.append(exam.measure(supervisor, few(supervisor, None, 2000, seed=1), {}))
                break
            values.append(exam.measure(supervisor, few(supervisor, part, CHUNK), {"mean": mean}))
    own, trivial = np.mean(values, axis=0)
    return float(own), float(trivial)


def epochs_in(minutes: float, name: str, images: dict[str, np.ndarray]) -> int:
    """As many as fit, by the time of one epoch of a supervisor that is thrown away."""
    supervisor = all_supervisors()[name](images["x_train"], backbone=SmallNet(), **EXAMS[name].arguments)
    clock = Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        supervisor.supervise(epochs=1, batch_size=64, name=Path(folder, name), callbacks=[clock], verbose=False)
    return max(1, int(60 * minutes / clock.step / (len(supervisor.dataset) // 64)))


class Stopwatch(Callback):
    """Seconds of a step; a whole epoch is timed, since all images are not alike."""

    step = 0.0

    def on_train_begin(self, run: Any) -> None:  # noqa: ARG002 - the protocol's
        self.begin = time.perf_counter()

    def on_step_end(self, run: Any) -> None:
        self.step = (time.perf_counter() - self.begin) / run.steps


def train(name: str, seed: int, epochs: int, images: dict[str, np.ndarray]) -> str:
    exam = EXAMS[name]
    torch.manual_seed(seed)
    supervisor = all_supervisors()[name](images["x_train"], backbone=SmallNet(), **exam.arguments)
    untrained, before = examine(supervisor, exam, images)[0], scores(supervisor.get_backbone(), images)
    steps = epochs * (len(supervisor.dataset) // 64)
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        supervisor.supervise(
            lr=exam.lr,
            optimizer=partial(torch.optim.Adam, betas=exam.betas),
            lr_scheduler=lambda made: OneCycleLR(made, exam.lr, total_steps=steps, cycle_momentum=False),
            epochs=epochs,
            batch_size=64,
            seed=seed,
            name=Path(folder, name),
        )
    minutes = (time.perf_counter() - begin) / 60
    (own, trivial), after = examine(supervisor, exam, images), scores(supervisor.get_backbone(), images)
    if os.environ.get("SUPER_SELFISH_PREVIEWS"):
        supervisor.preview(images["x_test"], path=Path(os.environ["SUPER_SELFISH_PREVIEWS"], f"{name}.png"))
    return (
        f"| `{name}` | {seed} | {exam.what} | {trivial:.3f} ({exam.trivial}) | {untrained:.3f} → **{own:.3f}** "
        f"| {before[0]:.3f} → {after[0]:.3f} | {before[1]:.3f} → {after[1]:.3f} | {epochs} | {minutes:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=sorted(EXAMS), default=list(EXAMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--minutes", type=float, default=4.5, help="of training, which set the epochs beforehand")
    parser.add_argument("--epochs", type=int, help="of training, whatever they take")
    options = parser.parse_args()
    if not DATA.is_file():
        sys.exit(f"Skipped: there is no {DATA}. Set SUPER_SELFISH_DATA to the folder that holds cifar10_sub.npz.")
    images = dict(np.load(DATA))
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}\n")
    print("| | seed | on 2,000 other images | trivial | untrained → trained | kNN | linear probe | epochs | minutes |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    for name in options.only:
        epochs = options.epochs or epochs_in(options.minutes, name, images)
        for seed in options.seeds:
            print(train(name, seed, epochs, images), flush=True)


if __name__ == "__main__":
    main()
