"""Augmentation presets."""

from __future__ import annotations

import numpy as np
import pytest

from super_selfish.errors import ConfigurationError
from super_selfish.supervisors import MomentumContrastSupervisor
from super_selfish.transforms.moco import MoCoTransform
from super_selfish.transforms.presets import PRESETS, preset

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)


@pytest.mark.parametrize("name", PRESETS)
def test_preset_by_name(name: str) -> None:
    supervisor = MomentumContrastSupervisor(IMAGES, backbone="small_resnet", views=name)
    assert supervisor.dataset[0][0].shape == (3, 32, 32)


def test_presets_preserve_the_content() -> None:
    assert preset("xray").flip == 0
    assert preset("grey").jitter[2:] == (0, 0)
    assert preset("satellite").upside_down == 0.5


def test_upside_down() -> None:
    plain = MoCoTransform(scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0, jitter_p=0.0, grey=0.0, blur=0.0)
    turned = MoCoTransform(
        scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0, jitter_p=0.0, grey=0.0, blur=0.0, upside_down=1.0
    )
    assert np.array_equal(np.asarray(turned(IMAGES[0]))[::-1], np.asarray(plain(IMAGES[0])))


def test_unknown_preset() -> None:
    with pytest.raises(ConfigurationError, match="'microscopy'"):
        MomentumContrastSupervisor(IMAGES, backbone="small_resnet", views="mri")
