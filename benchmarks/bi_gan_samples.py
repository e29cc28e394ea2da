"""What does BiGAN generate? Its default discriminator beside that of 0.1.0, on a validation set of 32 px objects.

Prints, for each discriminator, the loss of the last epoch, the fraction of images that are nearer to their own
reconstruction, the roughness of generated images and the linear probe, and draws images, reconstructions and generated
images into docs/results/bi_gan.png.

    python benchmarks/bi_gan_samples.py [--data cifar10_sub.npz] [--images 100000] [--seed 0] [--only dcgan]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from learning import SHARED
from learning_images import read, with_validation
from matplotlib import pyplot
from networks import SmallNet, scores
from torch import Tensor

from super_selfish.supervisors import BiGanSupervisor

FIGURE = Path(__file__).parents[1] / "docs" / "results" / "bi_gan.png"
RATES = {"backbone": 5e-5, "dcgan": None}  # of the discriminator; None: that of the recipe
TITLES = {"backbone": "discriminator like the backbone (0.1.0)", "dcgan": "discriminator of DCGAN"}
SHOWN = 8


def roughness(images: Tensor) -> float:
    """Mean absolute difference of neighbouring pixels of images (count, channels, height, width)."""
    across, down = images.diff(dim=-1).abs().mean(), images.diff(dim=-2).abs().mean()
    return float(across + down)


def trained(images: dict[str, np.ndarray], kind: str, seen: int, seed: int) -> tuple[str, list[Tensor]]:
    """The line of a discriminator, and images, reconstructions and generated images."""
    torch.manual_seed(seed)
    supervisor = BiGanSupervisor(images["x_train"], backbone=SmallNet(), discriminator_type=kind, d_lr=RATES[kind])
    before = float(scores(supervisor.get_backbone(), images)[1])
    epochs = max(1, round(seen / len(images["x_train"])))
    with tempfile.TemporaryDirectory() as folder:
        name = Path(folder, "run")
        supervisor.supervise(recipe="auto", epochs=epochs, batch_size=64, seed=seed, name=name, verbose=False)
    photographs = torch.as_tensor(images["x_test"][:500]).permute(0, 3, 1, 2).float() / 255
    supervisor.eval()
    with torch.no_grad():
        codes = torch.rand(500, *supervisor.dataset[0][0].shape) * 2 - 1
        generated = supervisor.model.predict(codes)
        reconstructed = supervisor.model.predict(supervisor.model.features(photographs[:SHOWN]))
    after = float(scores(supervisor.get_backbone(), images)[1])
    nearer = supervisor.evaluate_pretext(images["x_test"]).value
    ratio = roughness(generated) / roughness(photographs)
    line = f"| {TITLES[kind]} | {seed} | {supervisor.history[-1]['loss']:.2f} | {nearer:.3f} | {ratio:.1f} "
    line += f"| {before:.3f} → {after:.3f} |"
    return line, [photographs[:SHOWN], reconstructed, generated[:SHOWN]]


def draw(found: dict[str, list[Tensor]]) -> None:
    """Draw rows of images: photographs, then reconstructions and generated images of each discriminator."""
    rows = [("image x", next(iter(found.values()))[0])]
    for kind, (_, reconstructed, generated) in found.items():
        rows += [(f"G(E(x)), {TITLES[kind]}", reconstructed), (f"G(z), {TITLES[kind]}", generated)]
    figure, axes = pyplot.subplots(len(rows), 1, figsize=(6, 1.0 * len(rows)), layout="constrained")
    for axis, (title, images) in zip(axes, rows, strict=True):
        axis.imshow(torch.cat(list(images.permute(0, 2, 3, 1)), dim=1).numpy())
        axis.set_title(title, fontsize=8, loc="left")
        axis.axis("off")
    figure.savefig(FIGURE, dpi=110, pil_kwargs={"optimize": True})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, default=SHARED / "cifar10_sub.npz", help="labelled images (%(default)s)")
    parser.add_argument("--images", type=int, default=100_000, help="that each training sees (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=RATES, help="this discriminator, without a figure")
    options = parser.parse_args()
    images = with_validation(read(options.data))
    found = {}
    for kind in [options.only] if options.only else RATES:
        line, found[kind] = trained(images, kind, options.images, options.seed)
        print(line, flush=True)
    if not options.only:
        draw(found)


if __name__ == "__main__":
    main()
