"""MoCo v2."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset
from torchvision.transforms import v2

import super_selfish
from super_selfish.data import AugmentationDataset, BYOLTransform, MoCoTransform
from super_selfish.distributed.norms import BatchNormAs
from super_selfish.models import Classification, LayerNorm2d, SmallResNet
from super_selfish.supervisors import MomentumContrastSupervisor
from super_selfish.training import Callback

QUIET = {"verbose": False, "name": "store/test"}


def pictures(count: int = 16, side: int = 32, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, channels), np.uint8)


def make(dataset: Any = None, **arguments: Any) -> MomentumContrastSupervisor:
    torch.manual_seed(0)
    arguments.setdefault("backbone", SmallResNet(arguments.get("channels") or 3, width=4, norm_type="layer"))
    return MomentumContrastSupervisor(dataset, **arguments)


def two(batch: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 3, 32, 32, generator=generator), torch.rand(batch, 3, 32, 32, generator=generator)


def test_keys_equal_queries_at_the_start() -> None:
    supervisor = make(queue_size=8).eval()
    images = two()[0]
    assert torch.allclose(supervisor._embed(supervisor.model, images), supervisor._embed(supervisor.ema, images))


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_loss_and_its_gradient_equal_a_naive_loop(symmetric: bool) -> None:
    supervisor = make(queue_size=6, t=0.3, symmetric=symmetric)
    first, second = two()
    for parameter in supervisor.ema.parameters():
        parameter.data.mul_(1.1)  # or both encoders would be equal
    gradients = []
    supervisor._forward((first, second)).backward()
    gradients.append([parameter.grad.clone() for parameter in supervisor.model.parameters()])
    supervisor.model.zero_grad()
    total = torch.zeros(())
    for one, other in ((first, second), (second, first))[: 1 + symmetric]:
        for i in range(4):
            q = F.normalize(supervisor.model(one[i : i + 1]))[0]
            k = F.normalize(supervisor.ema(other[i : i + 1]))[0]
            scores = [q @ k / 0.3] + [q @ n / 0.3 for n in supervisor.queue.data()]
            total = total - (scores[0] - torch.stack(scores).exp().sum().log()) / 4
    total.backward()
    for expected, parameter in zip(gradients[0], supervisor.model.parameters(), strict=True):
        assert torch.allclose(expected, parameter.grad, atol=1e-5)
    assert all(parameter.grad is None for parameter in supervisor.ema.parameters())


def test_zero_embeddings_give_the_logarithm_of_the_choices() -> None:
    supervisor = make(queue_size=500)
    for network in (supervisor.model, supervisor.ema):
        nn.init.zeros_(network.predictor.layers[-1].weight)
        nn.init.zeros_(network.predictor.layers[-1].bias)
    assert supervisor._forward(two()).item() == pytest.approx(math.log(501), abs=1e-5)


def test_without_a_queue_the_keys_of_the_batch_are_the_negatives() -> None:
    supervisor = make(queue_size=0, t=0.5)
    first, second = two()
    q, k = (F.normalize(net(view)) for net, view in ((supervisor.model, first), (supervisor.ema, second)))
    expected = F.cross_entropy(q @ k.T / 0.5, torch.arange(4))
    assert supervisor._forward((first, second)).item() == pytest.approx(expected.item(), abs=1e-5)
    with pytest.raises(ValueError, match="would change the loss"):
        make(pictures(), queue_size=0).supervise(epochs=1, batch_size=8, accumulate=2, **QUIET)


def test_the_key_encoder_follows_after_the_update() -> None:
    supervisor = make(pictures(), m=0.9, queue_size=32)
    before = [parameter.clone() for parameter in supervisor.ema.parameters()]
    supervisor.supervise(lr=0.1, optimizer=torch.optim.SGD, epochs=1, batch_size=16, **QUIET)
    moved = 0
    for old, average, trained in zip(before, supervisor.ema.parameters(), supervisor.model.parameters(), strict=True):
        assert torch.allclose(average, 0.9 * old + 0.1 * trained, atol=1e-6)
        moved += not torch.equal(old, average)
    assert moved > 0


class Watch(Callback):
    def __init__(self) -> None:
        self.queues: list[Tensor] = []

    def on_step_end(self, run: Any) -> None:
        self.queues.append(run.supervisor.queue.data().clone())


@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_queue_takes_the_keys_of_each_batch_once_and_after_the_loss(accumulate: int) -> None:
    seen: list[Tensor] = []

    class Own(MomentumContrastSupervisor):
        def _forward(self, data: Any) -> Tensor:
            loss = super()._forward(data)
            seen.append(self._new_keys[-1])
            return loss

    torch.manual_seed(0)
    backbone = SmallResNet(width=4, norm_type="layer")
    supervisor, watch = Own(pictures(24), queue_size=20, backbone=backbone), Watch()
    supervisor.supervise(epochs=1, batch_size=8, accumulate=accumulate, callbacks=[watch], **QUIET)
    keys = torch.cat(seen)
    assert len(keys) == 24
    assert torch.equal(watch.queues[0][:8], keys[:8])
    assert torch.equal(watch.queues[1][:16], keys[:16])
    assert torch.equal(supervisor.queue.data(), torch.cat([keys[20:], keys[4:20]]))
    assert supervisor.queue.pointer.item() == 4
    assert torch.allclose(keys.norm(dim=1), torch.ones(24), atol=1e-5)


def test_symmetric_training_enqueues_both_views() -> None:
    supervisor = make(pictures(), queue_size=64, symmetric=True).supervise(epochs=1, batch_size=8, **QUIET)
    assert supervisor._expected_loss().equal == pytest.approx(2 * math.log(65))  # one loss per view
    assert supervisor.queue.pointer.item() == 32


def test_the_queue_counts_batches_and_lives_on() -> None:
    supervisor = make(pictures(), K=3)
    assert len(supervisor.queue) == 0
    supervisor.supervise(epochs=1, batch_size=8, **QUIET)
    assert len(supervisor.queue) == 24
    kept = supervisor.queue.data().clone()
    supervisor.supervise(epochs=1, batch_size=8, lr=1e-9, **QUIET)
    assert torch.equal(supervisor.queue.data()[8:16], kept[8:16])
    loaded = super_selfish.load("store/test", backbone=SmallResNet(width=4, norm_type="layer"))
    assert torch.equal(loaded.queue.data(), supervisor.queue.data())
    assert torch.equal(loaded.queue.pointer, supervisor.queue.pointer)
    for here, there in zip(supervisor.ema.parameters(), loaded.ema.parameters(), strict=True):
        assert torch.equal(here, there)


def test_shuffled_keys_come_back_in_order() -> None:
    supervisor = make(queue_size=8)
    first, second = two(8)
    supervisor._forward((first, second))
    assert torch.allclose(supervisor._new_keys[-1], F.normalize(supervisor.ema(second)), atol=1e-6)


@pytest.mark.parametrize(
    ("splits", "batch", "sizes"),
    [
        ("auto", 64, [32, 32]),
        ("auto", 16, [8, 8]),
        ("auto", 100, [25] * 4),
        ("auto", 4, [2, 2]),
        ("auto", 2, [2]),
        (4, 16, [4] * 4),
        (1, 64, [64]),
    ],
)
def test_batch_norm_sees_groups(splits: Any, batch: int, sizes: list[int]) -> None:
    seen: list[int] = []
    supervisor = make(queue_size=8, bn_splits=splits, backbone=SmallResNet(width=4))
    norms = [module for module in supervisor.model.modules() if isinstance(module, nn.BatchNorm2d)]

    def watched(x: Tensor, mean: Tensor, *others: Any, **named: Any) -> Tensor:
        if mean is norms[0].running_mean:
            seen.append(len(x))
        return F.batch_norm(x, mean, *others, **named)

    with BatchNormAs(watched):
        supervisor._forward(two(batch))
    assert seen == sizes


def test_without_batch_norm_nothing_depends_on_the_rest_of_the_batch() -> None:
    supervisor = MomentumContrastSupervisor(resolution=32, queue_size=4).train()
    kinds = {type(module) for module in supervisor.model.modules()}
    assert LayerNorm2d in kinds
    assert not kinds & {nn.BatchNorm1d, nn.BatchNorm2d}
    assert supervisor._groups(256) == 1
    torch.manual_seed(0)
    images, other = two(2)
    changed = torch.stack([images[0], other[1]])
    with torch.no_grad():
        for network in (supervisor.model, supervisor.ema):
            network.eval()  # stochastic depth would draw
            assert torch.allclose(network(images)[0], network(changed)[0], atol=1e-5)


def test_the_head_is_the_one_of_the_paper_without_batch_norm() -> None:
    head = MomentumContrastSupervisor(embedding_size=32).model.predictor
    linear = [module for module in head.modules() if isinstance(module, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(3136, 1024), (1024, 1024), (1024, 32)]
    assert isinstance(head.layers[-1], nn.Linear)


@pytest.mark.parametrize(
    ("argument", "value"),
    [("t", 0.0), ("K", 0), ("m", 1.1), ("queue_size", -1), ("bn_splits", 0), ("bn_splits", "no"), ("views", 3)],
)
def test_arguments_out_of_range_raise(argument: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"`{argument}`"):
        make(**{argument: value})


def test_custom_views() -> None:
    for views in (
        BYOLTransform(),
        (MoCoTransform(), v2.RandomHorizontalFlip()),
        v2.Compose([v2.RandomResizedCrop(32), v2.ToDtype(torch.float32, scale=True)]),
        lambda picture: picture.rotate(10),
    ):
        supervisor = make(pictures(8), queue_size=8, views=views).supervise(epochs=1, batch_size=4, **QUIET)
        assert supervisor.train_state.step == 2
    with pytest.raises(ValueError, match="either `views` or `data_augmentation`"):
        make(views=MoCoTransform(), data_augmentation=lambda images: AugmentationDataset(images, MoCoTransform()))


def test_data_augmentation_makes_the_data_set() -> None:
    supervisor = make(pictures(8), data_augmentation=lambda images: AugmentationDataset(images, MoCoTransform()))
    assert isinstance(supervisor.dataset, AugmentationDataset)

    class Twice(Dataset):  # as scripts of 2020 have them
        def __init__(self, dataset: Any) -> None:
            self.dataset = dataset

        def __len__(self) -> int:
            return len(self.dataset)

        def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
            image, _ = self.dataset[index]
            return image, image.flip(-1)

    supervisor = make(pictures(8), queue_size=8, data_augmentation=Twice).supervise(epochs=1, batch_size=4, **QUIET)
    assert supervisor.train_state.step == 2


def test_views_of_another_size_have_to_be_announced() -> None:
    small = MoCoTransform(size=16)
    backbone = nn.Sequential(nn.Conv2d(3, 4, 3, 4, 1), nn.Flatten())
    with pytest.raises(ValueError, match=r"Expected: 3×32×32. Received: 3×16×16. Pass view_size=\(16, 16\)"):
        make(pictures(8), views=small, backbone=backbone).supervise(epochs=1, batch_size=4, **QUIET)
    for arguments in ({"views": small, "view_size": 16}, {"view_size": (16, 16)}):
        supervisor = make(pictures(8), backbone=backbone, **arguments).supervise(epochs=1, batch_size=4, **QUIET)
        assert supervisor.model.predictor.layers[0].in_features == 4 * 4 * 4
    loaded = super_selfish.load("store/test", backbone=backbone)
    assert loaded.model.predictor.layers[0].in_features == 4 * 4 * 4


def test_custom_predictor_must_return_embeddings() -> None:
    with pytest.raises(ValueError, match=r"\(batch, 128\)"):
        make(predictor=Classification([32, 10]))


def test_a_training_with_other_views_is_not_continued() -> None:
    make(pictures(8), queue_size=8).supervise(epochs=1, batch_size=4, **QUIET)
    for views in (MoCoTransform(blur=0.0), (MoCoTransform(), BYOLTransform())):
        with pytest.raises(OSError, match="views is"):
            make(pictures(8), queue_size=8, views=views).supervise(epochs=2, batch_size=4, resume=True, **QUIET)
    with pytest.raises(OSError, match=r"t is 0.1 here and 0.2 in the file"):
        make(pictures(8), queue_size=8, t=0.1).supervise(epochs=2, batch_size=4, resume=True, **QUIET)


@pytest.mark.parametrize(
    ("arguments", "longest"),
    [
        ({"K": 8}, 12),
        ({"queue_size": 13}, 12),
        ({"queue_size": 25, "symmetric": True}, 24),
        ({"queue_size": 12}, None),
        ({"queue_size": 24, "symmetric": True}, None),
        ({"queue_size": 0}, None),
    ],
)
def test_a_queue_that_holds_keys_of_the_query_itself_is_reported(
    arguments: dict[str, Any], longest: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Within an epoch, the queue must not be longer than the images outside of the batch."""
    make(pictures(16), **arguments).supervise(**QUIET, epochs=1, batch_size=4, watch=0, checkpoint_every=0)
    found = [text for text in caplog.messages if "too long for 16 images" in text]
    assert len(found) == (longest is not None)
    assert not found or f"queue_size={longest} or less" in found[0]


def test_a_queue_for_one_batch_of_all_images(caplog: pytest.LogCaptureFixture) -> None:
    make(pictures(4), queue_size=4).supervise(**QUIET, epochs=1, batch_size=4, watch=0, checkpoint_every=0)
    assert "queue_size=0, which contrasts the images of a batch" in caplog.text
