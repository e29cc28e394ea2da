"""Random crops, flips and bounded outputs of the algorithms that predict pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from super_selfish.seeding import KeyedGenerator
from super_selfish.supervisors import all_supervisors

PREDICTORS = [name for name, kind in all_supervisors().items() if "output_activation" in kind.former_defaults]
CROPPED = [name for name, kind in all_supervisors().items() if "crop" in kind.former_defaults]
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 40, 32, 3), np.uint8)


def make(name: str, **arguments: Any) -> Any:
    return all_supervisors()[name](IMAGES, backbone="small_resnet", resolution=(40, 32), **arguments)


def decoded(supervisor: Any) -> torch.Tensor:
    """Decoded images of saturated features, one row per channel."""
    predictor = supervisor.eval().model.predictor
    for layer in predictor.modules():
        if isinstance(layer, torch.nn.ConvTranspose2d):
            layer.weight.data *= 100
    with torch.no_grad():
        return supervisor.model(torch.rand(4, 3, 40, 32)).transpose(0, 1).flatten(1)


def test_the_classes_that_are_meant() -> None:
    assert set(PREDICTORS) == {"bi_gan", "context_net"}
    assert set(CROPPED) == {"bi_gan", "context_net", "split_brain_net"}


@pytest.mark.parametrize("name", PREDICTORS)
def test_outputs_have_the_range_of_the_normalised_images(name: str) -> None:
    mean, std = (0.5, 0.4, 0.25), (0.25, 0.2, 0.5)
    images = decoded(make(name, normalize=(mean, std)))
    low = torch.tensor([-value / width for value, width in zip(mean, std, strict=True)])
    high = torch.tensor([(1 - value) / width for value, width in zip(mean, std, strict=True)])
    assert torch.allclose(images.amin(1), low, atol=1e-3)
    assert torch.allclose(images.amax(1), high, atol=1e-3)
    plain = decoded(make(name))
    assert torch.allclose(torch.stack([plain.min(), plain.max()]), torch.tensor([0.0, 1.0]), atol=1e-3)
    assert decoded(make(name, output_activation=None)).abs().max() > 10


@pytest.mark.parametrize("name", PREDICTORS)
def test_weights_do_not_depend_on_the_output_activation(name: str) -> None:
    bounded, linear = make(name), make(name, output_activation=None)
    assert bounded.state_dict().keys() == linear.state_dict().keys()
    with pytest.raises(ValueError, match="output_activation"):
        make(name, output_activation="sigmiod")


def sample(supervisor: Any, index: int, seed: int) -> np.ndarray:
    """The image of an item, undamaged."""
    first, second = supervisor.dataset.sample(index, KeyedGenerator(seed))[:2]
    return np.asarray(first if supervisor.algorithm() == "split_brain_net" else second)


@pytest.mark.parametrize("name", CROPPED)
def test_images_are_cropped_and_flipped(name: str) -> None:
    plain = make(name, crop=None, flip=0.0)
    cropped, flipped = make(name, flip=0.0), make(name, crop=None, flip=1.0)
    for index in range(4):
        whole = sample(plain, index, 0)
        assert np.array_equal(whole, sample(plain, index, 1))
        views = [sample(cropped, index, seed) for seed in (0, 0, 1)]
        assert np.array_equal(views[0], views[1])
        assert not np.array_equal(views[1], views[2])
        assert views[0].shape == whole.shape
        axis = whole.shape.index(32)
        assert np.allclose(sample(flipped, index, 0), np.flip(whole, axis), atol=1e-6)


@pytest.mark.parametrize("name", CROPPED)
def test_a_crop_shows_a_part_of_the_image(name: str) -> None:
    ramp = np.zeros((2, 40, 32, 3), np.uint8)
    ramp[..., :] = np.linspace(40, 200, 40, dtype=np.uint8)[:, None, None]
    supervisor = all_supervisors()[name](ramp, backbone="small_resnet", resolution=(40, 32), crop=(0.3, 0.4), flip=0.0)
    spans = [np.ptp(sample(supervisor, 0, seed).astype(np.float64)) for seed in range(8)]
    whole = np.ptp(sample(make_whole(name, ramp), 0, 0).astype(np.float64))
    assert all(0.35 * whole < span < 0.8 * whole for span in spans)


def make_whole(name: str, images: np.ndarray) -> Any:
    return all_supervisors()[name](images, backbone="small_resnet", resolution=(40, 32), crop=None, flip=0.0)
