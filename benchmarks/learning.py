"""Do the thirteen learn? One small network and one number of images seen for all, beside floors and a ceiling.

A row is an algorithm with one seed. The pretext task is evaluated on held-out images, beside a trivial baseline
(`Supervisor.evaluate_pretext`). kNN (k = 20, t = .07) and a linear probe are fitted on all labelled training images and
tested on the test images. Beside them stand pixels, principal components, histograms of gradients, a frozen network
trained on ImageNet, each network before training (as it is, or with the statistics of 64 images, whichever is
better), and the same network trained with labels, on random crops and flips, for three times as many images. Rows are
appended to benchmarks/results; a run that was stopped goes on with those that are missing, or were made of other
images, by other settings or another torch.

With --validation, a fifth of the training images takes the place of the test images: settings are chosen there.

    python benchmarks/learning.py [--data cifar10_sub.npz] [--recipe auto] [--seeds 1] [--only pirl byol] [--table]
                                  [--validation] [--device cuda] [--one SEED]
"""

from __future__ import annotations

import argparse
import base64
import copy
import hashlib
import json
import math
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
from learning_floors import FLOORS, IMAGENET_PACKAGES
from learning_images import coloured, digest, read, with_validation
from learning_table import against, made_with, table
from networks import SmallNet, map_probe, scores
from peers import run_with
from torch import nn
from torch.utils.data import Dataset
from torchvision.transforms import v2

from super_selfish.data import CPCTransform, MoCoTransform, PIRLColours
from super_selfish.engine.core.identity import describe
from super_selfish.evaluation import Score
from super_selfish.evaluation.baseline import adapt_batch_norm
from super_selfish.losses import CPCLoss
from super_selfish.models import Classification, CombinedNet, LayerNorm2d, Upsampling
from super_selfish.supervisors import LabelSupervisor, Supervisor, all_supervisors

SHARED = Path(os.environ.get("SUPER_SELFISH_DATA", Path(__file__).parents[2] / "shared" / "data"))
KEPT = Path(__file__).parent / "results"
SUPERVISED = "supervised"
PROTOCOL = 4  # of the scores: rows of another one are measured again
CEILING_LENGTH = 3  # times as many images as the algorithms see
OWN_CLASSES = 2000
COLOURS = ("split_brain_net", "contrastive_multiview_coding")  # which need some


class Training(NamedTuple):
    """How one algorithm is trained here: ``arguments`` of the side of the images in px, batch size and network."""

    arguments: Callable[[int], Mapping[str, Any]] = lambda _: MappingProxyType({})
    batch_size: int = 64
    network: Callable[[], SmallNet] = SmallNet


class Budget(NamedTuple):
    """What every training gets: images to see, a recipe or None, a seed, and where it runs; scores are of a CPU."""

    images: int
    recipe: str | None
    seed: int
    device: str = "cpu"


def decoder(outputs: int = 3) -> nn.Module:
    return Upsampling([256, 96, 64, 32, outputs])


def centred() -> nn.Module:
    """A head whose embeddings have mean 0 in every batch: the age of a row of a bank then tells nothing."""
    return Classification([256, 512, 128], norm_type="layer", centred=True)


def patches(side: int) -> dict[str, Any]:
    """4×4 patches that overlap by half."""
    half = side * 3 // 16
    own = {"half_crop_size": half, "patch_size": 2 * half, "embedding_size": 64}
    return own | {"loss": CPCLoss(scale=1.0), "views": CPCTransform(1, elastic=0.0)}


SHARP = MoCoTransform(blur=0.0)  # as authors do for small images
BANK = {"n": 2048, "t": 0.1, "bank_init": "forward"}
MILD = PIRLColours((0.4, 0.4, 0.4, 0.1), photometric=0.0)
TRAININGS = {
    "exemplar_net": Training(lambda _: {"n_classes": OWN_CLASSES}),
    "rotate_net": Training(),
    "jigsaw_net": Training(),
    "denoise_net": Training(lambda _: {"predictor": decoder()}),
    "context_net": Training(lambda _: {"predictor": decoder()}),
    "split_brain_net": Training(),
    "bi_gan": Training(),
    "instance_discrimination": Training(lambda _: {**BANK, "views": SHARP, "predictor": centred()}, batch_size=32),
    # batch norm would let patches tell of each other
    "contrastive_predictive_coding": Training(patches, batch_size=32, network=partial(SmallNet, LayerNorm2d)),
    "momentum_contrast": Training(lambda _: {"queue_size": 2048, "m": 0.99, "views": SHARP}),
    "contrastive_multiview_coding": Training(lambda _: {**BANK, "memory_m": 1.0, "predictor": centred()}),
    "byol": Training(lambda _: {"m": 0.97, "hidden_size": 512, "views": (SHARP, SHARP)}, batch_size=32),
    "pirl": Training(
        lambda _: {**BANK, "views": SHARP, "patch_views": MILD, "predictor": centred(), "predictor_g": centred()},
        batch_size=32,
    ),
}


def supervise(supervisor: Supervisor, how: Training, budget: Budget) -> tuple[int, float]:
    """Train for a budget; gives the epochs and the minutes."""
    batches = len(supervisor.dataset) // how.batch_size
    epochs = max(1, round(budget.images / (batches * how.batch_size)))
    begin = time.perf_counter()
    supervisor.to(budget.device)
    with tempfile.TemporaryDirectory() as folder:
        supervisor.supervise(
            epochs=epochs,
            batch_size=how.batch_size,
            recipe=budget.recipe,
            seed=budget.seed,
            name=Path(folder, "run"),
            verbose=False,
        )
    supervisor.to("cpu")
    return epochs, (time.perf_counter() - begin) / 60


def trained(name: str, images: dict[str, np.ndarray], budget: Budget) -> dict[str, Any]:
    """The row of an algorithm."""
    how = TRAININGS[name]
    torch.manual_seed(budget.seed)
    own = dict(how.arguments(images["x_train"].shape[1]))
    if "n_classes" in own:
        own["n_classes"] = min(own["n_classes"], len(images["x_train"]))
    supervisor = all_supervisors()[name](images["x_train"], backbone=how.network(), **own)
    untrained = supervisor.evaluate_pretext(images["x_test"])
    before = untrained_scores(supervisor, images)
    epochs, minutes = supervise(supervisor, how, budget)
    score, after = supervisor.evaluate_pretext(images["x_test"]), measured(supervisor.get_backbone(), images)
    losses = [entry["loss"] for entry in supervisor.history]
    row = {"metric": score.name, "baseline": score.baseline, "higher_is_better": score.higher_is_better}
    row |= {"value": score.value, "trivial": score.trivial, "untrained": untrained.value}
    row |= {"better_than_trivial": score.better_than_trivial, "epochs": epochs, "minutes": minutes}
    row |= {"losses": losses, "finite": all(map(math.isfinite, losses))}
    return row | columns(after) | columns(before, "_before")


def untrained_scores(supervisor: Supervisor, images: dict[str, np.ndarray]) -> dict[str, Score]:
    """The better scores of the untrained backbone: as it is, or with the batch statistics of some images."""
    backbone = copy.deepcopy(supervisor.get_backbone())
    as_it_is = measured(backbone, images)
    adapt_batch_norm(backbone, supervisor.dataset.images)
    adapted = measured(backbone, images)
    return {key: max(as_it_is[key], adapted[key], key=float) for key in adapted}


def measured(backbone: nn.Module, images: dict[str, np.ndarray]) -> dict[str, Score]:
    """KNN and probe of the pooled features, and a probe of the map, averaged to 2×2 positions."""
    return named(scores(backbone, images)) | {"map_probe": map_probe(backbone, images)}


def named(pair: tuple[Score, Score]) -> dict[str, Score]:
    return dict(zip(("knn", "probe"), pair, strict=True))


def columns(found: Mapping[str, Score], suffix: str = "") -> dict[str, Any]:
    """Scores, and which test images they got right: one bit an image, in base64."""
    row: dict[str, Any] = {}
    for key, score in found.items():
        bits = np.packbits(np.asarray(score.correct, bool)).tobytes()
        row |= {key + suffix: round(float(score), 5), f"{key}{suffix}_correct": base64.b64encode(bits).decode()}
    return row


class Augmented(Dataset):  # type: ignore[type-arg]
    """Labelled images, randomly cropped and flipped, as a user would train with them."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images, self.labels = images, labels
        self.view = v2.Compose([
            v2.ToImage(),
            v2.RandomResizedCrop(images.shape[1], (0.5, 1.0), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ToPILImage(),
        ])  # fmt: skip

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.view(self.images[index]), int(self.labels[index])


def labelled(images: dict[str, np.ndarray], seed: int) -> LabelSupervisor:
    """The network, not yet trained, that learns from labels."""
    torch.manual_seed(seed)
    net = CombinedNet(SmallNet(), Classification([256, int(images["y_train"].max()) + 1]))
    return LabelSupervisor(net, Augmented(images["x_train"], images["y_train"]), finetune=True)


def ceiling(images: dict[str, np.ndarray], budget: Budget) -> dict[str, Any]:
    """The row of the network that is trained with labels."""
    supervisor = labelled(images, budget.seed)
    before = untrained_scores(supervisor, images)
    longer = budget._replace(recipe="auto", images=CEILING_LENGTH * budget.images)
    epochs, minutes = supervise(supervisor, Training(), longer)
    after = measured(supervisor.get_backbone(), images)
    return {"epochs": epochs, "minutes": minutes} | columns(after) | columns(before, "_before")


def floor(name: str, images: dict[str, np.ndarray]) -> dict[str, Any]:
    """The row of what needs no training."""
    return columns(named(FLOORS[name](images)))


def class_of(name: str) -> type[Supervisor]:
    """The class that a row is trained by."""
    return all_supervisors().get(name, LabelSupervisor)


def origin(name: str, images: dict[str, np.ndarray], seen: str, budget: Budget) -> str:
    """What a row depends on: images, of which ``seen`` is the digest, settings, recipe and torch."""
    how, side = TRAININGS.get(name, Training()), images["x_train"].shape[1]
    own = {
        key: value if isinstance(value, int | float) else describe(value) for key, value in how.arguments(side).items()
    }
    recipe = "auto" if name == SUPERVISED else budget.recipe
    found = (
        None
        if recipe is None
        else repr(class_of(name).training_recipe(recipe, budget.images // len(images["x_train"])))
    )
    what = [seen, own, how.batch_size, describe(how.network), found, torch.__version__]
    what += [PROTOCOL] if name not in FLOORS else []
    return hashlib.sha256(json.dumps(what, default=str).encode()).hexdigest()[:12]


def rows_of(path: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """Complete rows by name and seed; of two the later."""
    rows = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        rows[row["name"], row["seed"]] = row
    return rows


def at_least_one(word: str) -> int:
    if (number := int(word)) < 1:
        raise argparse.ArgumentTypeError(f"{word} is less than 1")
    return number


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    names = [*FLOORS, SUPERVISED, *TRAININGS]
    parser.add_argument("--data", default="cifar10_sub.npz", help="x_train, y_train, x_test, y_test (%(default)s)")
    parser.add_argument("--images", type=at_least_one, default=100_000, help="that each training sees (%(default)s)")
    parser.add_argument("--seeds", type=at_least_one, default=1, help="how many (%(default)s)")
    parser.add_argument("--one", type=int, help="only this seed, to share the work out")
    parser.add_argument("--recipe", default="auto", choices=["auto", "paper", "plain"], help="%(default)s")
    parser.add_argument("--device", default="cpu", help="where networks are trained (%(default)s)")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--validation", action="store_true", help="test on a fifth of the training images instead")
    parser.add_argument("--table", action="store_true", help="print the tables of what is there, and train nothing")
    options = parser.parse_args()
    file = Path(options.data) if Path(options.data).is_file() else SHARED / options.data
    if not file.is_file() and SHARED.is_dir():
        parser.error(f"there is no {options.data}, neither here nor in {SHARED}")
    if not file.is_file():
        print(f"Skipped: there is no {file}. Set SUPER_SELFISH_DATA to the folder that holds it, or pass --data.")
        return
    kind = "-validation" if options.validation else ""
    path, auto = (KEPT / f"{file.stem}-{options.images}-{recipe}{kind}.jsonl" for recipe in (options.recipe, "auto"))
    if not options.table:
        if "imagenet" in options.only:
            run_with(*IMAGENET_PACKAGES)
        fill(path, file, options)
    rows = rows_of(path)
    how = "defaults" if options.recipe == "plain" else f'recipe="{options.recipe}"'
    print(f"{file.name}, {how}, {options.images:,} images seen; {made_with(rows)}\n")
    print(table(rows, list(TRAININGS)))
    if options.recipe == "plain" and auto.exists():
        print(f"\n{against(rows, rows_of(auto), list(TRAININGS))}")


def fill(path: Path, file: Path, options: argparse.Namespace) -> None:
    """Add the rows that are missing, those of the first seed first."""
    images = with_validation(read(file)) if options.validation else read(file)
    seen, has_colours = digest(images), coloured(images)
    recipe = None if options.recipe == "plain" else options.recipe
    machine = {"device": options.device, "threads": torch.get_num_threads(), "torch": torch.__version__}
    size = {"test_images": len(images["x_test"])}
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.read_bytes().endswith(b"\n"):  # a line that was cut off
        path.write_bytes(path.read_bytes() + b"\n")
    for seed in range(options.seeds) if options.one is None else [options.one]:
        budget = Budget(options.images, recipe, seed, options.device)
        for name in options.only:
            made = origin(name, images, seen, budget)
            known = rows_of(path).get((name, seed))
            if (known and known.get("made") == made) or (seed and name in FLOORS):
                continue
            if name in COLOURS and not has_colours:
                print(f"{name}: left out, because {file.name} has no colours.", file=sys.stderr, flush=True)
                continue
            if known:
                print(f"{name}, seed {seed}: its row is of other images or settings.", file=sys.stderr, flush=True)
            if name in FLOORS:
                row = floor(name, images)
            elif name == SUPERVISED:
                row = ceiling(images, budget)
            else:
                row = trained(name, images, budget)
            with path.open("a") as lines:
                lines.write(json.dumps({"name": name, "seed": seed, "made": made, **machine, **size} | row) + "\n")
            print(f"{name}, seed {seed}: kNN {row['knn']:.3f}, probe {row['probe']:.3f}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
