"""Batch norm in groups, compared with calling the network on each group."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from super_selfish.models import SmallResNet, norms
from super_selfish.models.norms import in_groups


class Squared(nn.BatchNorm2d):
    """A subclass that extends batch norm."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) ** 2


class Unregistered(nn.Module):
    """Reads the weight of its norm, and calls the norm through a list."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.layers = [self.norm]

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x) + x * self.norm.weight.view(1, -1, 1, 1)
        return x.mean((2, 3))


def network(norm: nn.Module) -> nn.Module:
    return nn.Sequential(norm, nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


NETWORKS = [
    lambda: SmallResNet(width=4),
    lambda: Doubling(),
    lambda: Unregistered(),
    lambda: network(Squared(3)),
    lambda: network(nn.BatchNorm2d(3, momentum=None)),
    lambda: network(nn.BatchNorm2d(3, track_running_stats=False)),
]


class Doubling(nn.Module):
    """Processes two views of each image."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(torch.stack([x, x.flip(-1)], dim=1).flatten(0, 1)).unflatten(0, (-1, 2)).mean((1, 3, 4))


@pytest.mark.parametrize("make", NETWORKS)
@pytest.mark.parametrize(("batch", "groups"), [(8, 2), (7, 2), (9, 3), (5, 1)])
def test_equals_calling_the_network_on_each_group(make, batch: int, groups: int) -> None:
    torch.manual_seed(0)
    one = make().train()
    other = copy.deepcopy(one)
    images = torch.rand(batch, 3, 32, 32) * torch.arange(1, batch + 1).view(-1, 1, 1, 1)
    output = in_groups(one, images, groups)
    expected = torch.cat([other(chunk) for chunk in images.tensor_split(groups)])
    assert torch.allclose(output, expected, atol=1e-5)
    output.square().sum().backward()
    expected.square().sum().backward()
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=1e-3, atol=1e-4 * float(b.grad.abs().max()))
    for a, b in zip(one.buffers(), other.buffers(), strict=True):
        assert torch.allclose(a.float(), b.float(), atol=1e-5)


def test_batch_norm_is_restored_after_an_error() -> None:
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Linear(5, 5))
    images = torch.rand(4, 3, 8, 8)
    expected = copy.deepcopy(net[0])(images)
    with pytest.raises(RuntimeError):
        in_groups(net, images, 2)
    assert torch.equal(net[0](images), expected)


def test_network_is_called_once() -> None:
    calls: list[int] = []
    net = SmallResNet(width=4)
    net.register_forward_hook(lambda _module, inputs, _made: calls.append(len(inputs[0])))
    in_groups(net, torch.rand(4, 3, 32, 32), 2)
    assert calls == [4]


@pytest.mark.slow
def test_compiled_network_gives_equal_outputs() -> None:
    net = SmallResNet(width=4).train()
    images = torch.rand(8, 3, 32, 32)
    expected = in_groups(copy.deepcopy(net), images, 2)
    net.compile(backend="aot_eager")
    for _ in range(2):
        assert torch.allclose(in_groups(net, images, 2), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["memory_efficient", "grad_checkpointing", "distributed"])
def test_networks_that_recompute_layers_are_called_on_each_group(name: str) -> None:
    calls: list[int] = []
    net = SmallResNet(width=4)
    setattr(net, name, True)
    net.register_forward_hook(lambda _module, inputs, _made: calls.append(len(inputs[0])))
    in_groups(net, torch.rand(4, 3, 32, 32), 2)
    assert calls == [2, 2]


def test_large_groups_are_processed_separately(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    net = SmallResNet(width=4)
    net.register_forward_hook(lambda _module, inputs, _made: calls.append(len(inputs[0])))
    in_groups(net, torch.rand(4, 3, 32, 32), 2)
    monkeypatch.setattr(norms, "LARGE_GROUP", 2000)
    in_groups(net, torch.rand(4, 3, 32, 32), 2)
    assert calls == [4, 2, 2]


class Checkpointed(nn.Module):
    """A custom module that recomputes its layers in the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.utils.checkpoint.checkpoint(self.inner, x, use_reentrant=False).flatten(1)


def test_custom_modules_are_called_on_each_group() -> None:
    network = Checkpointed()
    images = torch.rand(6, 3, 8, 8)
    separate = torch.cat([network(chunk) for chunk in images.chunk(3)])
    together = in_groups(network, images, 3)
    assert torch.equal(together, separate)
    together.square().sum().backward()
