"""``super-selfish demo``: train on images that come with the dependencies, then evaluate the features."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from super_selfish.cli.output import echo
from super_selfish.drawing.curves import loss_curve
from super_selfish.drawing.figures import save
from super_selfish.drawing.maps import feature_map
from super_selfish.drawing.neighbours import nearest, neighbours
from super_selfish.engine.callbacks.losses import Steps
from super_selfish.engine.core.callback import Callback
from super_selfish.errors import ConfigurationError
from super_selfish.evaluation import extract_features, knn, linear_probe
from super_selfish.files import check_writable
from super_selfish.images.functional import resize
from super_selfish.models.combined import in_eval_mode
from super_selfish.pretext.rotation import RotateDataset
from super_selfish.seeding import KeyedGenerator
from super_selfish.supervisors import RotateNetSupervisor

SIDE, BATCH, LEARNING_RATE = 32, 32, 4e-3
DRAWS, NEIGHBOURS, SHOWN = 5, 5, 8
SECONDS_PER_EPOCH = 40  # on one core of a small machine

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Features = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]  # of training images, and of test images


class Part(NamedTuple):
    """Images (count, 32, 32, 3) and the digit on each; the digits are used for the evaluation only."""

    images: Images
    labels: Labels


def demo(folder: str, *, seconds: float | None = None, seed: int = 0, smoke: bool = False) -> None:
    """Train, evaluate, and write figures and weights.

    Args:
        folder: Output folder.
        seconds: Approximate training time, which sets the number of epochs; None: three epochs.
        seed: Random seed of the initial weights and the training; the images are always the same.
        smoke: Use few images and one epoch.

    Raises:
        ConfigurationError: If the time is not positive or the folder cannot be written.
        CheckpointError: If a file cannot be written.
    """
    if seconds is not None and not (seconds > 0 and math.isfinite(seconds)):
        raise ConfigurationError("`--seconds` must be positive.", received=f"{seconds:g}")
    check_writable(Path(folder) / "rotate_net")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums then have one order on every machine, and a busy machine is not slowed down
    try:
        if smoke:
            run(Path(folder), scattered(1, digits=240), copies=1, epochs=1, per_class=5, seed=seed)
        else:
            epochs = 3 if seconds is None else max(1, round(seconds / SECONDS_PER_EPOCH))
            run(Path(folder), scattered(8), copies=8, epochs=epochs, per_class=20, seed=seed)
    finally:
        torch.set_num_threads(threads)


def run(folder: Path, parts: tuple[Part, Part], *, copies: int, epochs: int, per_class: int, seed: int) -> None:
    """The demo on given images, each training digit placed ``copies`` times, with so many labels per class."""
    train, test = parts
    count = len(train.labels) // copies
    bank = Part(train.images[:count], train.labels[:count])  # each training digit once
    minutes = max(1, round(epochs * len(train.labels) / 9584 * SECONDS_PER_EPOCH / 60))
    sizes = (len(train.labels), count, copies, len(test.labels))
    echo(INTRODUCTION.format(*sizes, epochs=epochs, minutes=minutes))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        supervisor = RotateNetSupervisor(train.images, backbone=tiny_net(), crop=None, flip=0)
    before = features(supervisor, bank, test)
    steps, rotations = Steps(every=20), RotationAccuracy(test.images)
    total = epochs * max(1, len(train.images) // min(BATCH, len(train.images)))
    supervisor.supervise(
        lr=LEARNING_RATE,
        epochs=epochs,
        batch_size=BATCH,
        name=folder / "rotate_net",
        lr_scheduler=lambda optimizer: OneCycleLR(optimizer, LEARNING_RATE, total_steps=total, pct_start=0.25),
        seed=seed,
        callbacks=[steps, rotations],
        checkpoint_every=0,
    )
    curves = loss_curve(
        supervisor.history,
        points=steps.points,
        chance=math.log(4),
        accuracy=rotations.points,
        accuracy_chance=0.25,
        accuracy_name="accuracy on rotated test images",
        title="Learning to predict the rotation angle of an image",
        subtitle="Chance level of four angles: a loss of ln 4 = 1.39 and an accuracy of 25 %.",
    )
    save(curves, folder / "loss.png")
    after = features(supervisor, bank, test)
    flat = [(part.images.reshape(len(part.images), -1) / 255 - 0.5).astype(np.float32) for part in (bank, test)]
    kinds = {"raw pixels": (flat[0], flat[1]), "untrained network": before, "trained network": after}
    rows = {name: scores(found, bank.labels, test.labels, per_class) for name, found in kinds.items()}
    echo(SCORES.format(per_class=per_class, draws=DRAWS, table=table(rows), accuracy=rotations.points[-1][1]))
    supervisor.preview(test.images, count=SHOWN, path=folder / "pretext.png")
    draw(folder, bank, test, {"before training": before, "after training": after})
    echo(WRITTEN.format(folder=folder))


def photographs() -> tuple[list[Images], list[Images]]:
    """Photographs for the training images, and others for the test images; nothing is downloaded."""
    from skimage import data as skimage_data
    from sklearn.datasets import load_sample_images

    data: Any = skimage_data  # which has stubs without types
    china, flower = load_sample_images().images
    left = data.stereo_motorcycle()[0]
    return [data.astronaut(), data.chelsea(), data.coffee(), left], [china, flower, data.rocket()]


def scattered(copies: int, *, digits: int | None = None) -> tuple[Part, Part]:
    """Digits on photographs, for training and for testing: other digits on other photographs.

    Args:
        copies: Placements of each training digit; each test digit is placed once.
        digits: How many of the 1,797 digits to use; None: all.
    """
    from sklearn.datasets import load_digits

    bundle: Any = load_digits()
    shapes, labels = bundle.images[:digits], bundle.target[:digits].astype(np.int64)
    order = np.array(KeyedGenerator("demo digits").permutation(len(labels)))
    cut = len(order) * 2 // 3
    train_photos, test_photos = photographs()

    def part(name: str, chosen: Labels, photos: list[Images]) -> Part:
        images = [place(shape, photos, KeyedGenerator("demo", name, i)) for i, shape in enumerate(shapes[chosen])]
        return Part(np.stack(images), labels[chosen])

    return part("train", np.tile(order[:cut], copies), train_photos), part("test", order[cut:], test_photos)


def place(shape: npt.NDArray[np.float64], photos: list[Images], generator: KeyedGenerator) -> Images:
    """One upright digit somewhere on a crop of a photograph that is rotated and flipped at random."""
    photo = photos[generator.integer(len(photos))]
    cut = int(generator.uniform(0.4, 1.2) * SIDE)
    top, left = generator.integer(photo.shape[0] - cut), generator.integer(photo.shape[1] - cut)
    ground = resize(photo[top : top + cut, left : left + cut, :3], SIDE, SIDE).astype(np.float32)
    ground = np.rot90(ground, generator.integer(4))
    if generator.chance(0.5):
        ground = ground[:, ::-1]
    size = int(generator.uniform(0.6, 0.85) * SIDE)
    ink = resize((shape / 16.0).astype(np.float32)[:, :, None], size, size)
    top, left = generator.integer(SIDE - size + 1), generator.integer(SIDE - size + 1)
    alpha = np.zeros((SIDE, SIDE, 1), np.float32)
    alpha[top : top + size, left : left + size] = np.clip(1.4 * ink.reshape(size, size, 1), 0, 1)
    behind = float(ground[top : top + size, left : left + size].mean())
    low, high = (170, 256) if behind < 128 else (0, 86)
    colour = generator.uniforms(3) * (high - low) + low
    return np.clip(ground * (1 - alpha) + colour.astype(np.float32) * alpha, 0, 255).round().astype(np.uint8)


def tiny_net() -> nn.Sequential:
    """A custom backbone, as any ``nn.Module`` can be one: five convolutions, averaged over space."""
    layers: list[nn.Module] = []
    shapes = ((3, 16, 5, 2), (16, 32, 3, 1), (32, 64, 3, 2), (64, 64, 3, 1), (64, 128, 3, 2))
    for inputs, outputs, kernel, stride in shapes:
        convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()).to(memory_format=torch.channels_last)


class RotationAccuracy(Callback):
    """Accuracy of the pretext task on test images, before training and after each epoch: pairs in ``points``."""

    def __init__(self, images: Images) -> None:
        dataset = RotateDataset(images)
        self.inputs = torch.stack([dataset[index][0] for index in range(len(dataset))])
        self.points: list[tuple[float, float]] = []

    def on_epoch_end(self, run: Any) -> None:
        """Evaluate the weights."""
        with in_eval_mode(run.supervisor), torch.no_grad():
            pieces = torch.split(self.inputs.flatten(0, 1), 256)
            found = [run.supervisor.model(piece.to(run.supervisor.device)).argmax(1).cpu() for piece in pieces]
        right = torch.cat(found).view(self.inputs.shape[:2]) == torch.arange(self.inputs.shape[1])
        self.points.append((float(run.finished_epochs), float(right.double().mean())))

    on_train_begin = on_epoch_end


def features(supervisor: RotateNetSupervisor, train: Part, test: Part) -> Features:
    """The network's features of training and test images."""
    backbone = supervisor.get_backbone()
    first, second = (extract_features(backbone, part.images, batch_size=256)[0] for part in (train, test))
    return first, second


def scores(found: Features, train: Labels, test: Labels, per_class: int) -> dict[str, str]:
    """Accuracy on the test digits, with few labels per class and with all."""
    x, test_x = found
    probe, votes = [], []
    for draw in range(DRAWS):
        order = np.array(KeyedGenerator("demo labels", draw).permutation(len(train)))
        chosen = np.concatenate([order[train[order] == label][:per_class] for label in np.unique(train)])
        probe.append(linear_probe(x[chosen], train[chosen], test_x, test))
        votes.append(knn(x[chosen], train[chosen], test_x, test, NEIGHBOURS))
    means = [f"{100 * np.mean(values):.1f} % ± {100 * np.std(values):.1f}" for values in (probe, votes)]
    means.append(f"{100 * knn(x, train, test_x, test):.1f} %")
    return dict(zip(("linear probe", f"kNN (k={NEIGHBOURS})", f"kNN, all {len(train):,} labels"), means, strict=True))


def table(rows: Mapping[str, Mapping[str, str]]) -> str:
    """The scores as text: a row for each kind of features."""
    wide = max(map(len, rows))
    widths = {method: max(len(method), 14) for method in next(iter(rows.values()))}
    lines = [["".ljust(wide), *(method.rjust(size) for method, size in widths.items())]]
    lines += [[name.ljust(wide), *(row[key].rjust(size) for key, size in widths.items())] for name, row in rows.items()]
    return "\n".join("  " + "  ".join(line) for line in lines)


def draw(folder: Path, train: Part, test: Part, views: Mapping[str, Features]) -> None:
    """The nearest training images of one test image per digit, and a map of the features of all test images."""
    queries = [int(np.flatnonzero(test.labels == digit)[0]) for digit in np.unique(test.labels)]
    found = {}
    for name, (x, test_x) in views.items():
        places = nearest(test_x[queries], x, k=6)
        share = float((train.labels[places] == test.labels[queries][:, None]).mean())
        found[f"{name}: {share:.0%} show the query's digit"] = places
    figure = neighbours(
        list(test.images[queries]),
        list(train.images),
        found,
        labels=train.labels.tolist(),
        query_labels=test.labels[queries].tolist(),
        title="Test images and their nearest neighbours among the training images",
        subtitle="✓ the same digit, ✗ another. One query per digit: the first test image.",
    )
    save(figure, folder / "neighbours.png")
    figure = feature_map(
        {name: test_x for name, (_, test_x) in views.items()},
        test.labels,
        title=f"Features of the {len(test.labels)} test images (t-SNE)",
        subtitle="Each image is drawn as its digit. The labels only colour the map: they were not used in training.",
        legend="digit",
    )
    save(figure, folder / "map.png")


INTRODUCTION = """Can a network learn to see without a single label?

The images: handwritten digits (8×8 pixels, from scikit-learn), enlarged, in random colours at random places on crops
of photographs (from scikit-image and scikit-learn), 32×32 pixels. Nothing is downloaded.
  training: {0:,} images: {1:,} digits, placed {2}× each, on 4 photographs
  test:     {3:,} images: {3:,} other digits on 3 other photographs
The photographs are rotated and flipped at random, the digits are upright: only the digit shows the orientation.

The training: RotateNet rotates each image by 0°, 90°, 180° and -90°, and a network of five convolutions learns to
predict the angle. It never sees which digit it is. Epochs: {epochs}, in one thread, about {minutes} min."""

SCORES = """
Evaluation of the features: which of ten digits is on a test image? Untrained and trained are the same network before
and after training. The features are fixed; {per_class} labelled images per digit fit a linear classifier or vote as
nearest neighbours. Mean ± standard deviation over {draws} draws of these images; chance level: about 10 %.

{table}

The pretext task on the test images: {accuracy:.0%} accuracy in predicting the angle; chance level: 25 %.
100 % is impossible: 0, 1 and 8 look the same upside down, and a 6 becomes a 9."""

WRITTEN = """
Written to {folder}:
  pretext.png             the pretext task: rotated images and predictions; look at the digits that are wrong
  loss.png                training curves: the loss should fall below the dashed line, the accuracy rise above it
  neighbours.png          nearest neighbours: more ✓ after training than before
  map.png                 map of the features: groups of the same digit, which are not there before training
  rotate_net.safetensors  the trained weights, described in rotate_net.json
  rotate_net.history.csv  one line per epoch: loss, speed

Your own images, in a folder:
  from super_selfish.supervisors import RotateNetSupervisor
  RotateNetSupervisor("photos/", backbone="resnet18").supervise(recipe="auto", epochs=50, name="store/base")"""
