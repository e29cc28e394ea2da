"""Baselines: untrained networks keep nothing of the training and are usable, and shared images are reported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from super_selfish.cli.scores import untrained_backbone
from super_selfish.evaluation import extract_features, quality
from super_selfish.evaluation.baseline import adapt_batch_norm, is_degenerate, shared_images
from super_selfish.models.backbones import default_backbone
from super_selfish.models.initialization import fresh_copy, initialised_copy
from super_selfish.models.named import named_backbone
from super_selfish.supervisors import Supervisor, all_supervisors


class Custom(nn.Module):
    """Parameters without a layer, as a class token or a position embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 200) * 0.5 + 3)
        self.inner = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def attention() -> nn.Module:
    return nn.TransformerEncoderLayer(16, 2, 32)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "default": default_backbone,
    "layer norm": lambda: default_backbone(norm_type="layer"),
    "small_resnet": lambda: named_backbone("small_resnet"),
    "vit_b_32": lambda: named_backbone("vit_b_32"),
    "within another network": lambda: nn.Sequential(named_backbone("small_resnet", 1), nn.Linear(256, 4)),
    "attention": attention,
    "weight norm": lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 8, 3))),
    "spectral norm": lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(9, 8)),
    "custom": Custom,
}
SLOW = {"vit_b_32"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in NETWORKS])
def test_an_untrained_copy_keeps_no_trained_parameter(name: str) -> None:
    network = NETWORKS[name]()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1.0)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    twin = fresh_copy(network)
    kept = [key for key, value in twin.named_parameters() if torch.equal(value, before[key])]
    assert kept == []
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items()), "the trained one stays"
    assert [p.dtype for p in twin.parameters()] == [p.dtype for p in network.parameters()]


def test_custom_parameters_keep_mean_and_deviation_and_are_named() -> None:
    network = Custom()
    twin, redrawn = initialised_copy(network)
    assert redrawn == ["token"]
    assert twin.token.mean().item() == pytest.approx(network.token.mean().item(), abs=0.2)
    assert twin.token.std().item() == pytest.approx(network.token.std().item(), rel=0.3)


def test_a_rebuilt_backbone_has_the_initial_distribution() -> None:
    torch.manual_seed(0)
    network = named_backbone("resnet18")
    (first, second) = (net.state_dict() for net in (network, fresh_copy(network)))
    for key in ("net.conv1.weight", "net.layer4.1.conv2.weight"):
        assert second[key].std().item() == pytest.approx(first[key].std().item(), rel=0.05)


@pytest.mark.parametrize("algorithm", sorted(all_supervisors()))
def test_every_algorithm_has_an_untrained_backbone(algorithm: str) -> None:
    arguments: dict[str, Any] = {"embedding_size": 16} if algorithm == "contrastive_predictive_coding" else {}
    supervisor: Supervisor = all_supervisors()[algorithm](
        np.zeros((4, 32, 32, 3), np.uint8) + np.arange(4, dtype=np.uint8)[:, None, None, None],
        backbone="small_resnet",
        **arguments,
    )
    with torch.no_grad():
        for parameter in supervisor.parameters():
            parameter.add_(1.0)
    untrained, redrawn = untrained_backbone(supervisor)
    pairs = zip(untrained.parameters(), supervisor.get_backbone().parameters(), strict=True)
    assert not any(torch.equal(*pair) for pair in pairs)
    assert redrawn == []
    assert not untrained.training


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), np.uint8)


@pytest.mark.parametrize("build", [default_backbone, lambda: named_backbone("small_resnet")])
def test_untrained_features_vary_with_batch_statistics(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    network = build().eval()
    weights = [parameter.clone() for parameter in network.parameters()]
    before = quality(extract_features(network, noise(24))[0])
    assert adapt_batch_norm(network, noise(24))
    after = quality(extract_features(network, noise(24))[0])
    assert not is_degenerate(after.as_dict())
    assert after.std > before.std
    assert not any(part.training for part in network.modules())
    assert all(torch.equal(*pair) for pair in zip(weights, network.parameters(), strict=True))
    assert not adapt_batch_norm(nn.Flatten(), noise(24))


def test_a_degenerate_network_is_recognised() -> None:
    network = default_backbone().eval()  # mean 0 and variance 1 in all of its batch norms
    assert is_degenerate(quality(extract_features(network, noise(24))[0]).as_dict())


def test_shared_images_are_counted() -> None:
    rows = np.random.default_rng(0).random((6, 5))
    assert shared_images(rows[:4], rows[4:]) == []
    (said,) = shared_images(rows, np.concatenate([rows[:2], rows[:1] + 1]))
    assert said.startswith("2 of 3 test images")
    (said,) = shared_images(np.concatenate([rows, rows[:2]]))
    assert said.startswith("2 of 8 images")


@pytest.mark.parametrize(
    ("test", "expected"),
    [(noise(4, 1), None), (noise(8)[2:6], "4 of 4 test images")],
    ids=["others", "the same"],
)
def test_probes_report_shared_images(test: Any, expected: str | None, caplog: pytest.LogCaptureFixture) -> None:
    from super_selfish.supervisors import RotateNetSupervisor
    from super_selfish.training import Probe

    probe = Probe((noise(8), np.arange(8) % 2), (test, np.arange(4) % 2), linear=False)
    supervisor = RotateNetSupervisor(noise(8), backbone="small_resnet")
    supervisor.supervise(epochs=1, batch_size=4, verbose=False, watch=0, name="run", evaluate=probe)
    assert [text for text in caplog.messages if "test images" in text] == (
        [] if expected is None else [f"`evaluate`: {expected} are also among the training images, "
                                     "so the scores are too high."]
    )  # fmt: skip
