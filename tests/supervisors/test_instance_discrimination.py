"""Instance Discrimination: loss and memory bank."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Subset

import super_selfish
from super_selfish.data import AugmentationDataset, AugmentationIndexedDataset, MoCoTransform
from super_selfish.errors import ConfigurationError
from super_selfish.supervisors import InstanceDiscriminationSupervisor

RUN: dict[str, Any] = {"epochs": 1, "batch_size": 8, "name": "store/test", "verbose": False}


def pictures(count: int = 24) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8)


def small(dataset: Any = None, **arguments: Any) -> InstanceDiscriminationSupervisor:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 4, 5, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(2))
    size = arguments.get("embedding_size", 128)
    head = nn.Sequential(nn.Flatten(), nn.Linear(16, max(1, size)))
    return InstanceDiscriminationSupervisor(dataset, **{"backbone": backbone, "predictor": head, **arguments})


def batch(supervisor: Any, *indices: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.rand(len(indices), 3, 32, 32), torch.tensor(indices)


class Spread(nn.Module):
    """Embeddings in random directions, for as many images as come."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return torch.randn(len(x), self.size) * self.scale


@pytest.mark.parametrize("shared", [True, False])
def test_first_loss_with_an_uncorrelated_bank(shared: bool) -> None:
    supervisor = small(predictor=Spread(128), shared_negatives=shared)
    supervisor.memory.resize(2000)
    images, indices = torch.rand(1000, 3, 32, 32), torch.arange(1000)
    assert supervisor._forward((images, indices)).item() == pytest.approx(
        math.log(501) + 1 / (2 * 0.07**2 * 128), abs=0.15
    )


def test_loss_and_gradient_equal_a_naive_loop() -> None:
    supervisor = small(pictures(), n=6, proximal=2.0).train()
    images, indices = batch(supervisor, 3, 20, 3, 7)
    loss = supervisor._forward((images, indices))
    loss.backward()
    grads = [parameter.grad.clone() for parameter in supervisor.model.parameters()]
    supervisor.zero_grad()
    from super_selfish.seeding import make_key

    rows = supervisor.memory.negatives(6, make_key(0, 0, "negatives")).tolist()
    expected = torch.zeros(())
    for image, index in zip(images, indices.tolist(), strict=True):
        code = F.normalize(supervisor.model(image[None]))[0]
        own = supervisor.memory.memory[index]
        others = [supervisor.memory.memory[row] for row in rows if row != index]
        logits = torch.stack([code @ row / 0.07 for row in (own, *others)])
        expected = expected - logits.log_softmax(0)[0] + 2.0 * (code - own).square().sum()
    (expected / 4).backward()
    assert torch.allclose(loss, expected / 4, rtol=1e-5)
    for grad, parameter in zip(grads, supervisor.model.parameters(), strict=True):
        assert torch.allclose(grad, parameter.grad, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("n", [0, 5, 22, 23, 500])
@pytest.mark.parametrize("shared", [True, False])
def test_own_entry_is_never_a_negative(n: int, shared: bool) -> None:
    supervisor = small(pictures(), embedding_size=24, n=n, t=1.0, shared_negatives=shared)
    supervisor.memory.memory = torch.eye(24)
    indices = torch.arange(24)
    for step in range(10):
        supervisor.train_state.step = step
        logits = supervisor.logits(torch.eye(24), supervisor.memory, indices)
        assert (logits[:, 0] == 1).all()
        assert (logits[:, 1:] <= 0).all(), "an image is its own negative"
        real = (logits[:, 1:] > -math.inf).sum(dim=1)
        assert (real >= min(n or 23, 23) - 1).all()
    assert (real == 23).all() or 0 < n < 23


def test_negatives_change_from_step_to_step_and_not_within() -> None:
    supervisor = small(pictures(), n=6)
    images, indices = batch(supervisor, 3, 20)
    first = supervisor._forward((images, indices))
    assert supervisor._forward((images, indices)) == first
    supervisor.train_state.step = 1
    assert supervisor._forward((images, indices)) != first


def test_the_bank_has_no_gradient_and_changes_only_where_images_were_seen() -> None:
    supervisor = small(pictures())
    before = supervisor.memory.memory.clone()
    weights = [parameter.clone() for parameter in supervisor.model.parameters()]
    seen: list[int] = []
    forward = supervisor._forward
    object.__setattr__(supervisor, "_forward", lambda data: seen.extend(data[-1].tolist()) or forward(data))
    supervisor.supervise(**{**RUN, "batch_size": 10})
    changed = (supervisor.memory.memory != before).any(dim=1).nonzero().flatten().tolist()
    assert changed == sorted(seen)
    assert len(changed) == 20
    assert torch.allclose(supervisor.memory.memory.norm(dim=1), torch.ones(24), atol=1e-6)
    assert all(not torch.equal(a, b) for a, b in zip(weights, supervisor.model.parameters(), strict=True))


def test_entry_is_the_mean_of_old_and_new_embedding() -> None:
    supervisor = small(pictures(8), memory_m=0.25)
    before = supervisor.memory.memory.clone()
    embeddings: list[Tensor] = []
    remember = supervisor.remember
    object.__setattr__(
        supervisor, "remember", lambda new, idx: (embeddings.append(new[0][idx.argsort()]), remember(new, idx))
    )
    supervisor.supervise(**RUN)
    assert torch.allclose(
        supervisor.memory.memory, F.normalize(0.75 * before + 0.25 * embeddings[0].detach()), atol=1e-6
    )


def test_previews_and_evaluation_leave_the_bank_alone() -> None:
    supervisor = small(pictures()).supervise(**RUN)
    before = supervisor.memory.memory.clone()
    supervisor.preview()
    supervisor._forward(batch(supervisor, 1, 2))
    supervisor._after_update()
    assert torch.equal(before, supervisor.memory.memory)


def test_micro_batches_share_their_negatives_and_update_the_bank_once() -> None:
    ends = [
        small(pictures(16), n=4).supervise(**{**RUN, "accumulate": parts, "optimizer": torch.optim.SGD})
        for parts in (1, 3)
    ]
    assert torch.allclose(ends[0].memory.memory, ends[1].memory.memory, atol=1e-5)


def test_a_bank_that_begins_with_what_the_network_gives() -> None:
    supervisor = small(
        pictures(),
        bank_init="forward",
        views=MoCoTransform(scale=(1, 1), ratio=(1, 1), flip=0, jitter_p=0, grey=0, blur=0),
    )
    object.__setattr__(supervisor, "_epochs", lambda *_: None)
    with pytest.raises(ConfigurationError, match="no step of an optimizer"):  # the bank is filled before the epochs
        supervisor.supervise(**RUN)
    embeddings = F.normalize(supervisor.model(supervisor.preprocess(pictures())))
    assert torch.allclose(supervisor.memory.memory, embeddings, atol=1e-5)


def test_noise_contrastive_estimation_freezes_its_constant(tmp_path: Any) -> None:
    supervisor = small(pictures(), loss_type="nce", n=5)
    images, indices = batch(supervisor, 1, 2, 3)
    supervisor.train()
    logits = supervisor.logits(supervisor.embeddings((images, indices))[0], supervisor.memory, indices)
    supervisor._forward((images, indices))
    expected = logits[logits > -math.inf].exp().mean() * 24
    assert supervisor.constants[0].log_z.exp().item() == pytest.approx(expected.item(), rel=1e-4)
    supervisor._new.clear()
    supervisor.supervise(**RUN)
    loaded = super_selfish.load("store/test", backbone=supervisor.model.backbone, predictor=supervisor.model.predictor)
    assert loaded.constants[0].log_z == supervisor.constants[0].log_z
    assert loaded.constants[0].known


def test_indices_are_those_of_the_images_given(caplog: pytest.LogCaptureFixture) -> None:
    part = Subset([(torch.rand(3, 32, 32), 0) for _ in range(40)], list(range(5, 40, 2)))
    supervisor = small(part, n=3).supervise(**RUN)
    assert len(supervisor.memory) == 18


def test_bank_of_other_images_is_reinitialised(caplog: pytest.LogCaptureFixture) -> None:
    small(pictures(24)).supervise(**RUN)
    with caplog.at_level(logging.WARNING):
        other = small(pictures(16)).supervise(**{**RUN, "pretrained": True})
    assert len(other.memory) == 16
    assert "reinitialised" in caplog.text


def test_more_negatives_than_images_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        small(pictures(16), n=400).supervise(**RUN)
    assert "n=400" in caplog.text


def test_a_users_own_views_and_data_set() -> None:
    own = small(pictures(), data_augmentation=lambda images: AugmentationIndexedDataset(images, MoCoTransform()))
    assert len(own.dataset[0]) == 3
    own.supervise(**RUN)
    assert small(pictures(), views=lambda image: image).supervise(**RUN).train_state.step == 3
    assert len(small(pictures()).dataset[0]) == 2, "a view that nobody looks at is made"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"t": 0.0}, "a number above 0"),
        ({"n": -1}, "an integer of at least 0"),
        ({"memory_m": 1.5}, "memory_m"),
        ({"proximal": -1.0}, "proximal"),
        ({"loss_type": "ce"}, "info_nce"),
        ({"bank_init": "zero"}, "forward"),
        ({"loss_type": "nce", "loss": nn.CrossEntropyLoss()}, "`loss`"),
        ({"embedding_size": 0}, "embedding_size"),
        ({"views": MoCoTransform(), "data_augmentation": lambda images: images}, "either `views` or"),
        ({"embedding_size": 7, "predictor": nn.Sequential(nn.Flatten(), nn.Linear(16, 8))}, "7"),
    ],
)
def test_invalid_arguments_raise(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(pictures(), **arguments)


def test_items_without_index_raise_before_training() -> None:
    plain: Callable[[Any], Any] = lambda images: AugmentationDataset(images, MoCoTransform())  # noqa: E731
    with pytest.raises(ValueError, match="index of the image, 0 to 23"):
        small(pictures(), data_augmentation=plain).supervise(**RUN)


@pytest.mark.parametrize("index", [lambda i: i % 3, lambda i: i + 1, lambda i: float(i)])
def test_wrong_index_raises_before_training(index: Callable[[int], Any]) -> None:
    class Own:
        def __len__(self) -> int:
            return 24

        def __getitem__(self, item: int) -> Any:
            return torch.rand(3, 32, 32), index(item)

    with pytest.raises(ValueError, match="index of the image"):
        small(pictures(), data_augmentation=lambda _: Own()).supervise(**RUN)


@pytest.mark.parametrize("others", [16, 24])
def test_entries_of_other_images_are_discarded(others: int, caplog: pytest.LogCaptureFixture) -> None:
    first = small(pictures(24), loss_type="nce", n=5).supervise(**RUN)
    images = 255 - pictures(others)
    other = small(images, loss_type="nce", n=5, bank_init="forward" if others == 24 else "random")
    other.bank_init = "random"  # an argument of both
    other.load("store/test")
    assert other.preview(count=3) is not None
    constant = other.constants[0].log_z.item()
    assert constant == first.constants[0].log_z.item()
    with caplog.at_level(logging.WARNING):
        other.supervise(**RUN)
    assert f"reinitialised for {others} images" in caplog.text
    assert other.constants[0].log_z.item() != constant
    caplog.clear()
    other.supervise(**RUN)
    assert "reinitialised" not in caplog.text


def test_same_images_keep_their_entries(caplog: pytest.LogCaptureFixture) -> None:
    first = small(pictures(24)).supervise(**RUN)
    again = small(pictures(24)).load("store/test")
    with caplog.at_level(logging.WARNING):
        again.supervise(**{**RUN, "lr": 1e-9, "optimizer": torch.optim.SGD})
    assert "reinitialised" not in caplog.text
    assert (again.memory.memory * first.memory.memory).sum(dim=1).mean() > 0.5


def test_an_anchor_without_negatives_has_a_finite_loss() -> None:
    supervisor = small(pictures(24), loss_type="nce", n=1).train()
    supervisor.memory.memory[:] = supervisor.memory.memory[:1]
    images = torch.rand(24, 3, 32, 32)
    for step in range(3):
        supervisor.train_state.step = step
        assert torch.isfinite(supervisor._forward((images, torch.arange(24))))


def test_own_views_are_missed_when_a_file_is_trained_on(caplog: pytest.LogCaptureFixture) -> None:
    trained = small(pictures(24), views=MoCoTransform(blur=0.0)).supervise(**RUN)
    own = {"backbone": trained.model.backbone, "predictor": trained.model.predictor}
    with caplog.at_level(logging.WARNING):
        super_selfish.load("store/test", **own)
        assert "custom" not in caplog.text
        super_selfish.load("store/test", dataset=pictures(24), **own)
    assert "custom views" in caplog.text


def test_preview_captions() -> None:
    supervisor = small(pictures())
    before = supervisor.preview(count=3)
    assert [text for text in words(before) if "its image" in text] == ["its image"] * 3
    supervisor.supervise(**RUN)
    after = words(supervisor.preview(count=3))
    assert sum(text.startswith("its image\n") for text in after) == 3
    assert sum(text.startswith("another\n") for text in after) == 6
    other = words(supervisor.preview(pictures(5), count=3))
    assert sum(text.startswith("another\n") for text in other) == 6


def words(figure: Any) -> list[str]:
    return [text.get_text() for axis in figure.axes for text in (axis.title, *axis.texts)]


def test_a_half_precision_bank_trains_is_stored_and_comes_back(tmp_path: Any) -> None:
    losses = {}
    for precision in ("32", "16"):
        supervisor = small(pictures(), n=9, bank_precision=precision)
        supervisor.supervise(**RUN | {"epochs": 2, "name": tmp_path / precision})
        losses[precision] = supervisor.history[-1]["loss"]
    assert losses["16"] == pytest.approx(losses["32"], rel=0.01)
    assert supervisor.memory.memory.dtype == torch.float16
    twin = small(n=9, bank_precision="16").load(tmp_path / "16")
    assert torch.equal(twin.memory.memory, supervisor.memory.memory)
    resumed = small(pictures(), n=9, bank_precision="16")
    resumed.supervise(**RUN | {"epochs": 2, "name": tmp_path / "16", "resume": True})
    assert torch.equal(resumed.memory.memory, supervisor.memory.memory)
