"""Each stage can be overridden with its documented signature, and everything around it still works."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

QUIET = {"verbose": False, "name": "store/test"}


def check(supervisor: Any, steps: int = 4) -> None:
    before = [parameter.detach().clone() for parameter in supervisor.trainable_parameters()]
    supervisor.supervise(epochs=2, batch_size=4, **QUIET)
    assert supervisor.train_state.step == steps
    assert supervisor.train_state.epoch == len(supervisor.history) == 2
    assert all(entry["loss"] > 0 for entry in supervisor.history)
    after = supervisor.trainable_parameters()
    assert all(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
    assert type(supervisor).updates == steps  # type: ignore[attr-defined]


def counting(cls: type) -> type:
    """A subclass that counts how often the hook after an update is called."""

    class Counting(cls):  # type: ignore[misc, valid-type]
        updates = 0

        def _after_update(self) -> None:
            type(self).updates += 1
            super()._after_update()

    return Counting


def test_load_pretrained(base: type, make: Callable[..., Any], images: Callable[..., Any]) -> None:
    class Own(counting(base)):  # type: ignore[misc]
        asked: list[Any] = []  # noqa: RUF012

        def _load_pretrained(self, name: str, pretrained: bool) -> None:
            self.asked.append((name, pretrained))

    check(make(images(8), cls=Own))
    assert Own.asked == [("store/test", False)]


def test_init_data_optimizer_with_a_loader_of_ones_own(
    base: type, make: Callable[..., Any], images: Callable[..., Any]
) -> None:
    class Own(counting(base)):  # type: ignore[misc]
        def _init_data_optimizer(self, optimizer, batch_size, shuffle, num_workers, collate_fn, lr, lr_scheduler):
            loader = DataLoader(self.dataset, batch_size, shuffle, num_workers=num_workers, collate_fn=collate_fn)
            made = torch.optim.SGD(self.trainable_parameters(), lr=0.05, momentum=0.9)
            return loader, made, lr_scheduler(made)

    check(make(images(8), cls=Own))


def test_init_data_optimizer_with_another_optimizer(
    base: type, make: Callable[..., Any], images: Callable[..., Any]
) -> None:
    class Own(counting(base)):  # type: ignore[misc]
        def _init_data_optimizer(self, *arguments: Any) -> Any:
            loader, _, _ = super()._init_data_optimizer(*arguments)
            made = torch.optim.AdamW(self.trainable_parameters(), lr=0.01)
            return loader, made, torch.optim.lr_scheduler.ConstantLR(made)

    check(make(images(8), cls=Own))


def test_epochs(base: type, make: Callable[..., Any], images: Callable[..., Any]) -> None:
    class Own(counting(base)):  # type: ignore[misc]
        def _epochs(self, epochs: int, train_loader: Any, optimizer: Any, lr_scheduler: Any) -> None:
            assert len(train_loader) == 2
            assert train_loader.batch_size == 4
            train_loader.peek()
            for _ in range(epochs):
                for data in train_loader:
                    optimizer.zero_grad()
                    loss = self._forward(data)
                    loss.backward()
                    optimizer.step()
                    lr_scheduler.step()

    check(make(images(8), cls=Own))


def test_a_loop_of_ones_own_gets_whole_batches(
    base: type, make: Callable[..., Any], images: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts would each be a step of such a loop."""

    class Own(base):  # type: ignore[misc, valid-type]
        def _epochs(self, epochs: int, train_loader: Any, optimizer: Any, lr_scheduler: Any) -> None:
            for _ in range(epochs):
                for data in train_loader:
                    optimizer.zero_grad()
                    self._forward(data).backward()
                    optimizer.step()

    with pytest.raises(ValueError, match="`accumulate` needs the library's"):
        make(images(8), cls=Own).supervise(epochs=1, batch_size=4, accumulate=2, **QUIET)
    monkeypatch.setattr("super_selfish.engine.loading.available_bytes", lambda _device: 1)
    assert make(images(8), cls=Own).supervise(epochs=2, batch_size=4, **QUIET).train_state.epoch == 2


def test_updates_every_other_batch_do_not_shorten_the_training(
    base: type, make: Callable[..., Any], images: Callable[..., Any]
) -> None:
    class Own(base):  # type: ignore[misc, valid-type]
        seen = 0

        def _update(self, loss: torch.Tensor, optimizer: Any, lr_scheduler: Any) -> None:
            loss.backward()
            self.seen += 1
            if self.seen % 2 == 0:
                optimizer.step()
                optimizer.zero_grad()

    supervisor = make(images(12), cls=Own).supervise(epochs=5, batch_size=4, **QUIET)
    assert supervisor.seen == 15
    assert supervisor.train_state.epoch == len(supervisor.history) == 5


def test_forward(base: type, make: Callable[..., Any], images: Callable[..., Any]) -> None:
    class Own(counting(base)):  # type: ignore[misc]
        def _forward(self, data: Any) -> torch.Tensor:
            return 2 * super()._forward(data)

    check(make(images(8), cls=Own))


def test_update(base: type, make: Callable[..., Any], images: Callable[..., Any]) -> None:
    class Own(counting(base)):  # type: ignore[misc]
        def _update(self, loss: torch.Tensor, optimizer: Any, lr_scheduler: Any) -> None:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            lr_scheduler.step()

    check(make(images(8), cls=Own))


def test_a_forward_without_a_loss_is_told_at_once(
    base: type, make: Callable[..., Any], images: Callable[..., Any]
) -> None:
    class Own(base):  # type: ignore[misc, valid-type]
        def _forward(self, data: Any) -> Any:
            return super()._forward(data).item()

    with pytest.raises(ValueError, match="`_forward` must return the loss"):
        make(images(8), cls=Own).supervise(epochs=1, batch_size=4, **QUIET)


def test_a_scheduler_steps_per_step_or_per_epoch(make: Callable[..., Any], images: Callable[..., Any]) -> None:
    for interval, expected in (("step", 0.5**4), ("epoch", 0.5**2)):
        seen: list[Any] = []

        def halving(optimizer: Any, seen: list[Any] = seen) -> Any:
            seen.append(optimizer)
            return torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)

        make(images(8)).supervise(
            lr=1.0, epochs=2, batch_size=4, lr_scheduler=halving, scheduler_interval=interval, **QUIET
        )
        assert seen[0].param_groups[0]["lr"] == expected


def test_gradients_are_clipped(make: Callable[..., Any], images: Callable[..., Any]) -> None:
    supervisor = make(images(8))

    def players() -> list[torch.Tensor]:
        return [
            torch.cat([parameter.detach().flatten() for parameter in player])
            for player in supervisor.parameters_by_loss()
        ]

    before = players()
    supervisor.supervise(lr=1.0, optimizer=torch.optim.SGD, epochs=1, batch_size=8, clip_grad=1e-3, **QUIET)
    for old, new in zip(before, players(), strict=True):
        assert 0 < (new - old).norm() <= 1.001e-3
