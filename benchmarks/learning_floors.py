"""Features that need no training: what a network has to beat."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from skimage.feature import hog
from sklearn.decomposition import PCA

from super_selfish.evaluation import knn, linear_probe

Images = dict[str, np.ndarray]


def pixels(images: np.ndarray) -> np.ndarray:
    """Images of at most 16×16, averaged, as rows in [0, 1]."""
    small = [cv2.resize(image, (16, 16), interpolation=cv2.INTER_AREA) for image in images]
    return np.stack(small).reshape(len(images), -1).astype(np.float32) / 255


def gradients(images: np.ndarray) -> np.ndarray:
    """Histograms of nine orientations in cells of a quarter of the side, normalised in blocks of 2×2 cells."""
    side = images.shape[1] // 4
    return np.stack([hog(image, 9, (side, side), (2, 2), channel_axis=-1) for image in images]).astype(np.float32)


def scored(train: np.ndarray, test: np.ndarray, images: Images) -> tuple[float, float]:
    """KNN and linear probe, as networks are scored."""
    near = knn(train, images["y_train"], test, images["y_test"], k=20, t=0.07)
    return float(near), float(linear_probe(train, images["y_train"], test, images["y_test"], seed=0))


def of_pixels(images: Images) -> tuple[float, float]:
    return scored(pixels(images["x_train"]), pixels(images["x_test"]), images)


def of_components(images: Images) -> tuple[float, float]:
    flat = {key: images[key].reshape(len(images[key]), -1) / np.float32(255) for key in ("x_train", "x_test")}
    fitted = PCA(128, random_state=0).fit(flat["x_train"])
    return scored(fitted.transform(flat["x_train"]), fitted.transform(flat["x_test"]), images)


def of_gradients(images: Images) -> tuple[float, float]:
    return scored(gradients(images["x_train"]), gradients(images["x_test"]), images)


FLOORS: dict[str, Callable[[Images], tuple[float, float]]] = {
    "pixels": of_pixels,
    "pca": of_components,
    "hog": of_gradients,
}
