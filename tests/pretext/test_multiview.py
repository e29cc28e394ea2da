"""Lightness and colours of views."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from skimage import color
from torch import Tensor
from torch.utils.data import Dataset

from super_selfish.data import (
    AugmentationDataset,
    AugmentationIndexedDataset,
    AugmentationLabIndexedDataset,
    CMCTransform,
    LDataset,
    fit_preprocessing,
    open_source,
)
from super_selfish.errors import ConfigurationError, DataError
from super_selfish.pretext.base import sample_key
from super_selfish.pretext.multiview import check_lab_views
from super_selfish.seeding import KeyedGenerator
from super_selfish.transforms.lab import lab_of, roots

WIDTHS = np.array([50, 92.208, 101.168]).reshape(3, 1, 1)
MIDDLES = np.array([50, 6.025, -6.690]).reshape(3, 1, 1)


def pictures(count: int = 4, height: int = 32, width: int = 48, channels: int = 3, kind: Any = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(kind).max, (count, height, width, channels), kind, True)


def plain(*planes: Tensor) -> np.ndarray:
    return torch.cat(planes).numpy() * WIDTHS + MIDDLES


def test_white_is_white() -> None:
    white = AugmentationLabIndexedDataset(np.full((2, 32, 32, 3), 255, np.uint8), CMCTransform(), views=1)
    lightness, colours, index = white[1]
    assert index == 1
    assert np.allclose(plain(lightness, colours), np.array([100, 0, 0]).reshape(3, 1, 1), atol=1e-2)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_equals_skimage(kind: Any) -> None:
    images = pictures(kind=kind)
    clean = AugmentationLabIndexedDataset(images, CMCTransform(), clean1=True, clean2=True)
    for number, image in enumerate(images):
        *planes, index = clean[number]
        assert index == number
        assert [plane.shape for plane in planes] == [(1, 32, 48), (2, 32, 48)] * 2
        assert all(plane.dtype == torch.float32 for plane in planes)
        expected = np.moveaxis(color.rgb2lab(image / np.iinfo(kind).max), 2, 0)
        assert np.abs(plain(*planes[:2]) - expected).max() < 2e-3
        assert torch.equal(planes[0], planes[2])
        assert torch.equal(planes[1], planes[3])


def test_views_are_those_of_the_transform() -> None:
    arguments = (pictures(), CMCTransform(size=24), CMCTransform(size=24, blur=1.0))
    lab, rgb = AugmentationLabIndexedDataset(*arguments), AugmentationIndexedDataset(*arguments)
    with sample_key(1, 2, 3):
        *planes, index = lab[3]
    with sample_key(1, 2, 3):
        first, second, _ = rgb[3]
    assert index == 3
    for view, pair in ((first, planes[:2]), (second, planes[2:])):
        expected = lab_of(roots(np.ascontiguousarray(view.movedim(0, -1).numpy())))
        assert np.abs(plain(*pair) - np.moveaxis(expected, 2, 0)).max() < 1e-2
    assert not torch.equal(planes[0], planes[2])
    assert pickle.loads(pickle.dumps(lab)).sample(2, KeyedGenerator(0))[-1] == 2


def test_transform_does_not_change_colours() -> None:
    red = np.zeros((40, 40, 3), np.uint8)
    red[:] = (200, 30, 60)
    transform = CMCTransform()
    assert all(np.array_equal(transform(red), red) for _ in range(20))
    crops = {transform(pictures(1)[0]).tobytes() for _ in range(5)}
    assert len(crops) == 5


def test_images_without_colours_raise() -> None:
    with pytest.raises(DataError, match=r"A view of 1 .*Received: 1 channel\."):
        AugmentationLabIndexedDataset(pictures(channels=1), CMCTransform())[1]
    with pytest.raises(DataError, match="Received: 13 channels"):
        LDataset(pictures(channels=13))[0]
    with pytest.raises(ConfigurationError, match="`views`"):
        AugmentationLabIndexedDataset(pictures(), CMCTransform(), views=3)


def test_lightness_with_labels() -> None:
    images, labels = pictures(), [3, 1, 2, 0]
    dataset = LDataset((images, labels))
    assert len(dataset) == 4
    for number, image in enumerate(images):
        lightness, label = dataset[number]
        assert label == labels[number]
        assert np.abs((lightness[0] * 50 + 50).numpy() - color.rgb2lab(image)[:, :, 0]).max() < 1e-3


class Items(Dataset):
    def __init__(self, *fields: Any) -> None:
        self.fields = fields

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        return (*self.fields, index)


L, AB = torch.zeros(1, 32, 48), torch.zeros(2, 32, 48)


def test_items_are_checked() -> None:
    settled = fit_preprocessing(open_source(pictures()))
    for sound in (
        Items(L, AB),
        Items(L, AB, L, AB),
        AugmentationLabIndexedDataset(pictures(), CMCTransform()),
        object(),
    ):
        check_lab_views(sound, settled, None)
    check_lab_views(Items(L[:, :16], AB[:, :16]), settled, (16, 48))
    wrong = [
        Items(L),
        Items(AB, L),
        Items(L, AB, L),
        Items(L, AB, L, AB, L, AB),
        Items(L, AB, L, AB[:, :16]),
        Items(torch.zeros(3, 32, 48), 1),
        Items(),
        AugmentationDataset(pictures(), CMCTransform()),
    ]
    for dataset in wrong:
        with pytest.raises(ConfigurationError, match="lightness and colours"):
            check_lab_views(dataset, settled, None)
    with pytest.raises(ConfigurationError, match=r"Received: \(1, 16, 48\), \(2, 16, 48\).*view_size=\(16, 48\)"):
        check_lab_views(Items(L[:, :16], AB[:, :16]), settled, None)
