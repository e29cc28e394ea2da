"""Make a set of labelled images for the learning benchmark, from a data set of torchvision or from class folders.

The sets of docs/learning.md are of this form. Of CIFAR-10 and Fashion-MNIST, 1,000 training and 200 test images of each
class are kept, chosen with seed 0:

    python benchmarks/learning_data.py CIFAR10 cifar10.npz --count 1000 200
    python benchmarks/learning_data.py FashionMNIST fashion.npz --count 1000 200

Of folders, each class is a folder. Images are cropped to a square in the centre and averaged to --side pixels. Without
--test, images are divided at random, or by the groups that --group finds in their names, such as patients:

    python benchmarks/learning_data.py clothing-dataset-small/train clothing.npz --side 48 --test \\
        clothing-dataset-small/validation clothing-dataset-small/test
    python benchmarks/learning_data.py RSSCN7 rsscn7.npz --side 64 --count 300 100
    python benchmarks/learning_data.py cell_images malaria.npz --side 50 --grey --count 3000 1000 \\
        --group "^C[0-9]+P[0-9]+"
"""

from __future__ import annotations

import argparse
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from torchvision import datasets

KINDS = ("CIFAR10", "FashionMNIST")
TEST_SHARE = 0.25
Part = tuple[np.ndarray, np.ndarray]


def from_torchvision(name: str, root: Path) -> tuple[Part, Part, list[str]]:
    """Training and test images with labels, and the names of the classes. They are downloaded first."""
    parts = []
    for train in (True, False):
        found = getattr(datasets, name)(root, train=train, download=True)
        parts.append((np.asarray(found.data), np.asarray(found.targets)))
    return parts[0], parts[1], list(found.classes)


def square(image: np.ndarray, side: int, grey: bool) -> np.ndarray:
    """The square in the centre of an image, averaged to ``side`` pixels."""
    least = min(image.shape[:2])
    top, left = ((length - least) // 2 for length in image.shape[:2])
    small = cv2.resize(image[top : top + least, left : left + least], (side, side), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)[..., None] if grey else small


def from_folder(folder: Path, side: int, grey: bool) -> tuple[Part, list[str], list[str]]:
    """Images with labels, the names of their files, and the classes."""
    found = datasets.ImageFolder(str(folder))
    images = np.stack([square(np.asarray(found.loader(path)), side, grey) for path, _ in found.samples])
    names = [Path(path).name for path, _ in found.samples]
    return (images, np.asarray(found.targets)), names, found.classes


def divided(part: Part, names: Sequence[str], pattern: str | None) -> tuple[Part, Part]:
    """A quarter for testing, whole groups together; which one follows from a hash of the group."""
    groups = names if pattern is None else [group_of(pattern, name) for name in names]
    test = np.asarray([zlib.crc32(group.encode()) % 1000 < 1000 * TEST_SHARE for group in groups])
    return (part[0][~test], part[1][~test]), (part[0][test], part[1][test])


def group_of(pattern: str, name: str) -> str:
    found = re.search(pattern, name)
    if found is None:
        raise SystemExit(f"{pattern} is not found in {name}.")
    return found.group()


def limited(part: Part, count: int | None) -> Part:
    """At most ``count`` images of each class, in random order, the same every time."""
    order = np.random.default_rng(0).permutation(len(part[1]))
    if count is not None:
        order = np.concatenate([order[part[1][order] == label][:count] for label in np.unique(part[1])])
        order = np.random.default_rng(1).permutation(order)
    return part[0][order], part[1][order]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("source", help=f"{' or '.join(KINDS)}, or a folder of class folders")
    parser.add_argument("target", type=Path, help="the .npz file to write")
    parser.add_argument("--count", type=int, nargs=2, metavar=("TRAIN", "TEST"), help="of each class, at most")
    parser.add_argument("--side", type=int, default=64, help="of images from folders, in px (%(default)s)")
    parser.add_argument("--grey", action="store_true", help="convert images from folders to grey")
    parser.add_argument("--test", type=Path, nargs="+", help="folders of test images")
    parser.add_argument("--group", metavar="REGEX", help="what names of images of one group have in common")
    parser.add_argument("--root", type=Path, default=Path("data"), help="where downloads go (%(default)s)")
    options = parser.parse_args()
    if options.source in KINDS:
        train, test, classes = from_torchvision(options.source, options.root)
    else:
        if missing := [each for each in [Path(options.source), *(options.test or [])] if not each.is_dir()]:
            parser.error(f"there is no folder {missing[0]}; expected: {', '.join(KINDS)} or a folder of class folders")
        train, names, classes = from_folder(Path(options.source), options.side, options.grey)
        if options.test:
            found = [from_folder(each, options.side, options.grey) for each in options.test]
            if any(others != classes for _, _, others in found):
                parser.error("the folders of test images have other classes than the training images")
            parts = [part for part, _, _ in found]
            test = (np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts]))
        else:
            train, test = divided(train, names, options.group)
    counts = options.count or (None, None)
    (x_train, y_train), (x_test, y_test) = (limited(*pair) for pair in zip((train, test), counts, strict=True))
    arrays = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
    np.savez_compressed(options.target, **arrays, class_names=np.asarray(classes))
    print(f"{options.target}: {len(x_train)} training and {len(x_test)} test images of {len(classes)} classes")


if __name__ == "__main__":
    main()
