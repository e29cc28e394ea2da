"""The images of the demo: handwritten digits scattered over photographs, all of which ship with the dependencies."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from super_selfish.images import functional
from super_selfish.seeding import Stream

SIDE = 32
Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


class Part(NamedTuple):
    """Images (count, 32, 32, 3) and the digit on each; the digits are used for measuring only."""

    images: Images
    labels: Labels


def photographs() -> tuple[list[Images], list[Images]]:
    """Photographs to train on, and others to test on; nothing is downloaded."""
    from skimage import data as skimage_data
    from sklearn.datasets import load_sample_images

    data: Any = skimage_data  # which has stubs without types
    china, flower = load_sample_images().images
    left = data.stereo_motorcycle()[0]
    return [data.astronaut(), data.chelsea(), data.coffee(), left], [china, flower, data.rocket()]


def scattered(copies: int, *, digits: int | None = None, side: int = SIDE) -> tuple[Part, Part]:
    """Digits on photographs: a part to train on and a part to test on, with other digits on other photographs.

    Always the same images: they do not depend on the seed of the training.

    Args:
        copies: Placements of each training digit; each test digit is placed once.
        digits: How many of the 1,797 digits to use; None for all.
        side: Height and width in px.
    """
    from sklearn.datasets import load_digits

    bundle: Any = load_digits()
    shapes, labels = bundle.images[:digits], bundle.target[:digits].astype(np.int64)
    order = np.array(Stream("demo digits").permutation(len(labels)))
    cut = len(order) * 2 // 3
    train_photos, test_photos = photographs()
    train = np.tile(order[:cut], copies)
    return (
        Part(_place_all(shapes[train], train_photos, "train", side), labels[train]),
        Part(_place_all(shapes[order[cut:]], test_photos, "test", side), labels[order[cut:]]),
    )


def _place_all(shapes: npt.NDArray[np.float64], photos: list[Images], part: str, side: int) -> Images:
    return np.stack([_place(shape, photos, Stream("demo", part, i), side) for i, shape in enumerate(shapes)])


def _place(shape: npt.NDArray[np.float64], photos: list[Images], stream: Stream, side: int) -> Images:
    """One digit, upright, somewhere on a piece of a photograph that is turned and mirrored at random."""
    photo = photos[stream.integer(len(photos))]
    cut = int(stream.uniform(0.4, 1.2) * side)
    top, left = stream.integer(photo.shape[0] - cut), stream.integer(photo.shape[1] - cut)
    ground = functional.resize(photo[top : top + cut, left : left + cut, :3], side, side).astype(np.float32)
    ground = np.rot90(ground, stream.integer(4))
    if stream.chance(0.5):
        ground = ground[:, ::-1]
    size = int(stream.uniform(0.6, 0.85) * side)
    ink = functional.resize((shape / 16.0).astype(np.float32)[:, :, None], size, size)
    top, left = stream.integer(side - size + 1), stream.integer(side - size + 1)
    alpha = np.zeros((side, side, 1), np.float32)
    alpha[top : top + size, left : left + size] = np.clip(1.4 * ink.reshape(size, size, 1), 0, 1)
    behind = float(ground[top : top + size, left : left + size].mean())
    low, high = (170, 256) if behind < 128 else (0, 86)
    colour = stream.uniforms(3) * (high - low) + low
    return np.clip(ground * (1 - alpha) + colour.astype(np.float32) * alpha, 0, 255).round().astype(np.uint8)
