"""Labelled images for the learning benchmark, from any file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NoReturn

import cv2
import numpy as np

from super_selfish.evaluation import split

NAMES = ("x_train", "y_train", "x_test", "y_test")
LEAST = {"x_train": 256, "x_test": 250}
SMALLEST = 32  # px; what is smaller is enlarged


def read(file: Path) -> dict[str, np.ndarray]:
    """Square RGB images (N, side, side, 3) in uint8 and their labels (N,); grey ones are repeated.

    Ends the program with a line that says what is wrong, if the file holds anything else.
    """
    try:
        with np.load(file, allow_pickle=False) as stored:
            images = {name: stored[name] for name in NAMES if name in stored}
    except (OSError, ValueError, EOFError) as error:
        refuse(file, f"it cannot be read as arrays ({type(error).__name__})")
    missing = [name for name in NAMES if name not in images]
    if missing:
        refuse(file, f"it has no {' and no '.join(missing)}")
    for part in ("train", "test"):
        x, y = images[f"x_{part}"], images[f"y_{part}"]
        x = x[..., None] if x.ndim == 3 else x
        if x.ndim != 4 or x.shape[1] != x.shape[2] or x.shape[3] not in (1, 3) or x.dtype != np.uint8:
            refuse(file, f"x_{part} is {x.dtype} {x.shape}, not uint8 (N, side, side, 1 or 3)")
        if y.shape != x.shape[:1] or y.dtype.kind not in "iu" or (len(y) and y.min() < 0):
            refuse(file, f"y_{part} is {y.dtype} {y.shape}, not a class, counted from 0, for each of {len(x)} images")
        if len(x) < LEAST[f"x_{part}"]:
            refuse(file, f"x_{part} has {len(x)} images, and {LEAST[f'x_{part}']} are the least")
        images |= {f"x_{part}": enlarged(x.repeat(3 // x.shape[3], axis=3)), f"y_{part}": y.astype(np.int64)}
    if images["x_train"].shape[1:] != images["x_test"].shape[1:]:
        refuse(file, f"x_train is of {images['x_train'].shape[1]} px and x_test of {images['x_test'].shape[1]} px")
    return images


def with_validation(images: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A stratified fifth of the training images in place of the test images."""
    train, test = split(images["y_train"], test=0.2, seed=0)
    parts = {"train": train, "test": test}
    return {f"{key}_{part}": images[f"{key}_train"][chosen] for part, chosen in parts.items() for key in "xy"}


def refuse(file: Path, why: str) -> NoReturn:
    raise SystemExit(f"{file} is of no use here: {why}. Expected: an .npz file with {', '.join(NAMES)}.")


def enlarged(x: np.ndarray) -> np.ndarray:
    """Images of at least 32 px."""
    if x.shape[1] >= SMALLEST:
        return x
    return np.stack([cv2.resize(image, (SMALLEST, SMALLEST), interpolation=cv2.INTER_CUBIC) for image in x])


def coloured(images: dict[str, np.ndarray]) -> bool:
    """Whether any image has colours."""
    return bool((images["x_train"] != images["x_train"][..., :1]).any())


def digest(images: dict[str, np.ndarray]) -> str:
    """What a set of images is recognised by."""
    found = hashlib.sha256()
    for name in NAMES:
        found.update(np.ascontiguousarray(images[name]).tobytes())
    return found.hexdigest()[:12]
