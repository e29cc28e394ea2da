"""What the promises are tried on: every algorithm, with a tiny network and images with something to learn."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from super_selfish.supervisors import Supervisor, all_supervisors


class TinyBackbone(nn.Module):
    """Two strided convolutions with batch norm: enough to train, quick enough for hundreds of tests."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 8, 5, stride=4, padding=2, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def upright_images(count: int, height: int = 32, width: int = 32, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Bright above, dark below, each with a tint of its own: which side is up can be seen, and which image it is."""
    generator = np.random.default_rng(seed)
    slope = np.linspace(220, 30, height)[:, None, None] * np.ones((1, width, channels))
    tint = generator.normal(0, 40, (count, 1, 1, channels))
    noise = generator.normal(0, 20, (count, height, width, channels))
    return np.clip(slope + tint + noise, 0, 255).astype(np.uint8)


KINDS = ("rotate_net", "bi_gan", "momentum_contrast")  # one network, two players, state across steps
ON_EACH_KIND = ("test_files.py", "test_resume.py")
OF_THE_LOOP = (
    "test_attributes.py",
    "test_criteria.py",
    "test_cadence.py",
    "test_custom_loops.py",
    "test_files.py",
    "test_overridden_items.py",
    "test_five_stages.py",
    "test_inspection.py",
    "test_kinds_of_networks.py",
    "test_mistakes.py",
    "test_names_of_2020.py",
    "test_own_arguments.py",
    "test_own_items.py",
    "test_own_state.py",
    "test_resume.py",
    "test_resume_constants.py",
    "test_stages.py",
    "test_previews.py",
    "test_undone_steps.py",
)
OF_THE_LOOP_TOO = (
    "test_epochs_count_over_life",
    "test_only_full_batches_each_image_at_most_once",
    "test_a_small_data_set_shrinks_the_batch",
    "test_batch_of_two",
    "test_evaluation_during_training_does_not_change_the_training",
    "test_folders_lists_and_arrays_give_the_same_score",
    "test_the_score_is_a_mean_over_chunks",
    "test_what_the_library_calls_is_refused_by_name",
    "test_wrong_arguments",
    "test_unreadable_images",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What the loop promises is tried on all algorithms by ``make check``.

    Every day, files and resuming are tried on one algorithm of each kind, and each other test on one of these three.
    """
    for item in items:
        algorithm = getattr(item, "callspec", None) and item.callspec.params.get("algorithm")
        name = getattr(item, "originalname", None) or ""
        of_the_loop = item.path.name in OF_THE_LOOP or name in OF_THE_LOOP_TOO
        chosen = KINDS if item.path.name in ON_EACH_KIND else (KINDS[zlib.crc32(name.encode()) % len(KINDS)],)
        if algorithm and algorithm not in chosen and of_the_loop:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(params=sorted(all_supervisors()))
def algorithm(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def base(algorithm: str) -> type[Supervisor]:
    """The class of the algorithm, for subclasses."""
    return all_supervisors()[algorithm]


@pytest.fixture
def colour_only(algorithm: str) -> bool:
    """Whether the algorithm refuses images that are not RGB, and a normalisation, because it works in Lab."""
    return all_supervisors()[algorithm].needs.rgb


@pytest.fixture
def images() -> Callable[..., np.ndarray]:
    return upright_images


SMALL: dict[str, dict[str, Any]] = {  # what makes a step quick
    "contrastive_predictive_coding": {"embedding_size": 16, "patch_size": 8},
}


@pytest.fixture
def make(algorithm: str) -> Callable[..., Supervisor]:
    """Build a supervisor of the algorithm under test, always with the same initial weights."""

    def build(dataset: Any = None, cls: type[Supervisor] | None = None, **arguments: Any) -> Supervisor:
        torch.manual_seed(0)
        chosen = all_supervisors()[algorithm] if cls is None else cls
        arguments.setdefault("backbone", TinyBackbone(arguments.get("channels") or 3))
        arguments = SMALL.get(algorithm, {}) | arguments
        return chosen(dataset, **arguments)

    return build


@pytest.fixture
def tiny_backbone() -> type[nn.Module]:
    return TinyBackbone


@pytest.fixture
def weights() -> Callable[[Supervisor], dict[str, Tensor]]:
    """A copy of everything that a supervisor learned."""
    return lambda supervisor: copy.deepcopy(supervisor.state_dict())
