"""All five stages overridden at once: it trains, stores, continues bit for bit, and loads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

import super_selfish
from super_selfish.supervisors import all_supervisors
from super_selfish.training import Callback

QUIET = {"verbose": False, "watch": 0, "name": "store/test", "batch_size": 4}
EPOCHS = 4


class EarlyStopping:
    """Counts epochs without a better loss."""

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.best = float("inf")
        self.waited = 0

    def see(self, loss: float) -> bool:
        self.best, self.waited = (loss, 0) if loss < self.best else (self.best, self.waited + 1)
        return self.waited >= self.patience

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.waited = state["best"], state["waited"]


def as_dict(items: list[Any], batched: bool) -> dict[str, Any]:
    """A batch of named fields."""
    join = torch.cat if batched else torch.stack
    fields = [[torch.as_tensor(part) for part in parts] for parts in zip(*items, strict=True)]
    return {f"field {place}": join(parts) for place, parts in enumerate(fields)}


class Numbered(torch.utils.data.Dataset[Any]):
    """The items of a data set, with their numbers."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[index]


def with_all_stages(base: type) -> type:
    class Own(base):  # type: ignore[misc, valid-type]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.run = "of my own"
            self.head = nn.Linear(3, 2)
            self.average_of_head = AveragedModel(self.head, multi_avg_fn=get_ema_multi_avg_fn(0.9))
            self.stopping = self.track("stopping", EarlyStopping(patience=3))

        def _load_pretrained(self, name: str, pretrained: bool) -> None:
            super()._load_pretrained(name, pretrained)
            next(iter(self.model.backbone.parameters())).requires_grad_(False)

        def _init_data_optimizer(self, optimizer, batch_size, shuffle, num_workers, collate_fn, lr, lr_scheduler):
            batched = bool(getattr(self.dataset, "batched", False))
            loader = DataLoader(
                Numbered(self.dataset), batch_size, shuffle=True, collate_fn=lambda items: as_dict(items, batched)
            )
            head = {id(weight) for weight in self.head.parameters()}
            rest = [weight for weight in self.trainable_parameters() if id(weight) not in head]
            groups = [{"params": rest}, {"params": self.head.parameters(), "lr": 10 * lr}]
            made = torch.optim.SGD(groups, lr=lr, momentum=0.9)
            return loader, made, torch.optim.lr_scheduler.ReduceLROnPlateau(made, "max", factor=0.5, patience=0)

        def _epochs(self, epochs: int, train_loader: Any, optimizer: Any, lr_scheduler: Any) -> None:
            for _ in range(epochs):
                for data in train_loader:
                    loss = self._forward(data)
                    self._update(loss, optimizer, lr_scheduler)
                mean_loss = self.history[-1]["loss"]
                lr_scheduler.step(mean_loss)
                if self.stopping.see(mean_loss):
                    break

        def _forward(self, data: dict[str, Any]) -> Tensor:
            fields = tuple(data.values())
            return super()._forward(fields) + (self.head(torch.ones(3)) - 1).square().sum()

        def _update(self, loss: Tensor, optimizer: Any, lr_scheduler: Any) -> None:
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.trainable_parameters(), 1.0)
            optimizer.step()
            self.average_of_head.update_parameters(self.head)

    return Own


class Interrupted(Callback):
    def on_step_end(self, run: Any) -> None:
        if run.train_state.step == 5:  # Ctrl-C after the first of two batches of the third epoch
            raise KeyboardInterrupt


def test_all_five_stages(
    algorithm: str,
    make: Callable[..., Any],
    images: Callable[..., Any],
    weights: Callable[..., Any],
    tiny_backbone: type,
) -> None:
    own = with_all_stages(all_supervisors()[algorithm])
    supervisor = make(images(8), cls=own)
    before = weights(supervisor)
    frozen = next(iter(supervisor.model.backbone.parameters())).clone()
    whole = supervisor.supervise(epochs=EPOCHS, **QUIET | {"name": "store/whole"})
    assert torch.equal(next(iter(whole.model.backbone.parameters())), frozen)
    after = weights(whole)
    assert not torch.equal(before["head.weight"], after["head.weight"])
    assert not torch.equal(before["average_of_head.module.weight"], after["average_of_head.module.weight"])
    assert not torch.equal(after["average_of_head.module.weight"], after["head.weight"])
    assert whole.train_state.epoch == len(whole.history) <= EPOCHS

    with pytest.raises(KeyboardInterrupt):
        make(images(8), cls=own).supervise(epochs=EPOCHS, callbacks=[Interrupted()], **QUIET)
    resumed = make(images(8), cls=own).supervise(epochs=EPOCHS, resume=True, **QUIET)
    assert resumed.train_state == whole.train_state
    assert all(torch.equal(value, after[key]) for key, value in weights(resumed).items())
    assert resumed.stopping.state_dict() == whole.stopping.state_dict()
    assert [entry["loss"] for entry in resumed.history] == [entry["loss"] for entry in whole.history]

    assert Path("store/test.safetensors").exists()
    read = make(cls=own).load("store/test")
    assert all(torch.equal(value, after[key]) for key, value in weights(read).items())
    as_base = super_selfish.load("store/test", backbone=tiny_backbone())
    same = zip(as_base.get_backbone().parameters(), whole.get_backbone().parameters(), strict=True)
    assert all(torch.equal(first, second) for first, second in same)
