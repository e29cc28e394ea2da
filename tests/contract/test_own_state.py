"""What a subclass makes, in whatever stage, is stored, can be read again by it, and continues bit for bit."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from stopping import RaiseAfter
from torch import Tensor, nn

import super_selfish
from super_selfish.errors import CheckpointMismatch, ConfigurationError
from super_selfish.storage.weights_file import read_weights
from super_selfish.supervisors import all_supervisors

QUIET = {"verbose": False, "watch": 0, "name": "store/test", "batch_size": 4}


def with_everything(base: type) -> type:
    """A subclass that makes modules, buffers and optimizers in every stage."""

    class Own(base):  # type: ignore[misc, valid-type]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.first = nn.Linear(3, 2)
            self.register_buffer("rows", torch.zeros(0))
            self.register_buffer("center", None)

        def _init_data_optimizer(self, *arguments: Any) -> Any:
            self.second = nn.Linear(3, 2)
            self.heads = nn.ModuleDict()
            self.heads["own"] = nn.Linear(3, 2)
            return super()._init_data_optimizer(*arguments)

        def _prepare(self, train_loader: Any) -> None:
            super()._prepare(train_loader)
            self.register_buffer("counts", torch.zeros(3))
            if len(self.rows) != 5:
                self.rows = torch.zeros(5)

        def _epochs(self, *arguments: Any) -> None:
            self.third = nn.Linear(3, 2)
            parts = [self.first, self.second, self.third, self.heads]
            weights = [weight for part in parts for weight in part.parameters()]
            self.extra = self.track("extra", torch.optim.Adam(weights, lr=0.1))
            super()._epochs(*arguments)

        def _forward(self, data: Any) -> Any:
            if self.center is None:
                self.center = torch.zeros(())
            if not hasattr(self, "seen"):
                self.register_buffer("seen", torch.zeros(()))
            return super()._forward(data)

        def _after_update(self) -> None:
            super()._after_update()
            with torch.enable_grad():
                heads = (self.first, self.second, self.third, self.heads["own"])
                loss = sum((head(torch.ones(3)) - 1).square().sum() for head in heads)
                self.extra.zero_grad()
                loss.backward()
                self.extra.step()
            self.counts += 1
            self.rows[self.train_state.step % 5] += 1
            self.seen = self.seen + 2
            self.center = 0.5 * self.center + 1

    return Own


@pytest.fixture
def own(algorithm: str) -> type:
    return with_everything(all_supervisors()[algorithm])


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(value, second[key]) for key, value in first.items())


def test_everything_made_in_stages_resumes_bit_for_bit(
    own: type, make: Callable[..., Any], images: Callable[..., Any], weights: Callable[..., Any]
) -> None:
    whole = make(images(8), cls=own).supervise(epochs=2, **QUIET | {"name": "store/whole"})
    with pytest.raises(KeyboardInterrupt):
        make(images(8), cls=own).supervise(epochs=2, callbacks=[RaiseAfter(2)], **QUIET)
    resumed = make(images(8), cls=own).supervise(epochs=2, resume=True, **QUIET)
    assert resumed.train_state.step == whole.train_state.step == 4
    assert float(whole.counts[0]) == 4
    assert same(weights(resumed), weights(whole))
    assert same(resumed.extra.state_dict()["state"][0], whole.extra.state_dict()["state"][0])


def test_everything_made_in_stages_is_read_again(
    own: type, make: Callable[..., Any], images: Callable[..., Any], weights: Callable[..., Any]
) -> None:
    trained = make(images(8), cls=own).supervise(epochs=1, **QUIET)
    read = make(cls=own).load("store/test")
    assert torch.equal(read.counts, trained.counts)
    assert torch.equal(read.rows, trained.rows)
    assert torch.equal(read.center, trained.center)
    assert all(torch.equal(value, weights(trained)[key]) for key, value in weights(read).items())
    read.save("store/again")  # nothing is lost on the way, though some modules were not made
    assert same(*(read_weights(name).tensors for name in ("store/test", "store/again")))


def test_pretrained_starts_from_everything_made_in_stages(
    own: type, make: Callable[..., Any], images: Callable[..., Any], weights: Callable[..., Any]
) -> None:
    trained = make(images(8), cls=own).supervise(epochs=1, **QUIET)
    before = weights(trained)
    seen: dict[str, Tensor] = {}

    class Spy(own):  # type: ignore[misc, valid-type]
        def _forward(self, data: Any) -> Any:
            if not seen:
                seen.update(weights(self))
            return super()._forward(data)

    make(images(8), cls=Spy).supervise(epochs=1, pretrained=True, **QUIET)
    assert all(torch.equal(seen[f"{name}.weight"], before[f"{name}.weight"]) for name in ("first", "second", "third"))
    assert torch.equal(seen["heads.own.weight"], before["heads.own.weight"])


def test_a_second_run_tracks_anew_under_the_same_name(
    own: type, make: Callable[..., Any], images: Callable[..., Any]
) -> None:
    supervisor = make(images(8), cls=own)
    for epochs in (1, 2):
        supervisor.supervise(epochs=1, **QUIET)
        assert supervisor.train_state.epoch == epochs
    assert supervisor.tracked["extra"] is supervisor.extra


def test_two_things_of_one_run_need_two_names(make: Callable[..., Any], images: Callable[..., Any], base: type) -> None:
    class Own(base):  # type: ignore[misc, valid-type]
        def _init_data_optimizer(self, *arguments: Any) -> Any:
            loader, optimizer, schedule = super()._init_data_optimizer(*arguments)
            for _ in range(2):
                self.track("second", torch.optim.SGD(self.trainable_parameters(), lr=0.1))
            return loader, optimizer, schedule

    with pytest.raises(ConfigurationError, match="second"):
        make(images(8), cls=Own).supervise(epochs=1, **QUIET)


def with_head(base: type) -> type:
    class WithHead(base):  # type: ignore[misc, valid-type]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.cls = nn.Linear(3, 4)
            self.register_buffer("mean", torch.ones(2))

    class Deeper(WithHead):
        pass

    return Deeper


def test_a_subclass_with_a_head_loads_as_its_base(
    base: type, tiny_backbone: type, make: Callable[..., Any], images: Callable[..., Any], caplog: Any
) -> None:
    trained = make(images(8), cls=with_head(base)).supervise(epochs=1, **QUIET)
    with caplog.at_level(logging.WARNING, "super_selfish"):
        read = super_selfish.load("store/test", backbone=tiny_backbone())
    assert type(read) is base
    assert "`cls`" in caplog.text
    assert "`mean`" in caplog.text
    assert same(read.get_backbone().state_dict(), trained.get_backbone().state_dict())


def test_the_base_itself_refuses_a_head(
    base: type, make: Callable[..., Any], images: Callable[..., Any], weights: Callable[..., Any]
) -> None:
    make(images(8), cls=with_head(base)).supervise(epochs=1, **QUIET)
    plain = make(images(8))
    before = weights(plain)
    with pytest.raises(CheckpointMismatch, match="cls"):
        plain.load("store/test")
    with pytest.raises(CheckpointMismatch, match="cls"):
        plain.supervise(epochs=1, pretrained=True, **QUIET)
    with pytest.raises(CheckpointMismatch, match="cls"):
        plain.supervise(epochs=2, resume=True, **QUIET)
    assert same(before, weights(plain))


def test_what_differs_within_the_networks_stays_an_error(
    base: type, tiny_backbone: type, make: Callable[..., Any], images: Callable[..., Any]
) -> None:
    class Inside(base):  # type: ignore[misc, valid-type]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.model.cls = nn.Linear(3, 4)

    make(images(8), cls=Inside).supervise(epochs=1, **QUIET)
    with pytest.raises(CheckpointMismatch, match="cls"):
        super_selfish.load("store/test", backbone=tiny_backbone())
    assert make(images(8), cls=Inside).load("store/test").train_state.epoch == 1


def test_a_head_of_another_shape_or_none_is_refused_by_its_class(
    base: type, make: Callable[..., Any], images: Callable[..., Any]
) -> None:
    def own(size: int) -> Any:
        class Own(base):  # type: ignore[misc, valid-type]
            def __init__(self, *arguments: Any, **options: Any) -> None:
                super().__init__(*arguments, **options)
                if size:
                    self.cls = nn.Linear(3, size)

        return make(images(8), cls=Own)

    own(4).supervise(epochs=1, **QUIET)
    for size in (0, 5):
        with pytest.raises(CheckpointMismatch, match="cls"):
            own(size).load("store/test")
    own(0).supervise(epochs=1, **QUIET | {"name": "store/none"})
    with pytest.raises(CheckpointMismatch, match="cls"):
        own(4).load("store/none")


def test_a_module_that_no_stage_makes_any_more_is_an_error(
    base: type, make: Callable[..., Any], images: Callable[..., Any]
) -> None:
    class Own(base):  # type: ignore[misc, valid-type]
        makes = True

        def _epochs(self, *arguments: Any) -> None:
            if self.makes:
                self.late = nn.Linear(3, 2)
            super()._epochs(*arguments)

    make(images(8), cls=Own).supervise(epochs=1, **QUIET)
    Own.makes = False
    stored = Path("store/test.safetensors").read_bytes()
    with pytest.raises(CheckpointMismatch, match="late"):
        make(images(8), cls=Own).supervise(epochs=2, resume=True, **QUIET)
    with pytest.raises(CheckpointMismatch, match="late"):
        make(images(8), cls=Own).supervise(epochs=1, pretrained=True, **QUIET)
    assert Path("store/test.safetensors").read_bytes() == stored


def test_an_overridden_save_and_load_are_used(base: type, make: Callable[..., Any], images: Callable[..., Any]) -> None:
    class Own(base):  # type: ignore[misc, valid-type]
        note = ""

        def save(self, name: str = "store/base") -> None:
            super().save(name)
            Path(f"{name}.note").write_text(self.note)

        def load(self, name: str = "store/base") -> Any:
            self.note = Path(f"{name}.note").read_text()
            return super().load(name)

    supervisor = make(images(8), cls=Own)
    supervisor.note = "mine"
    supervisor.supervise(epochs=1, **QUIET)
    assert make(cls=Own).load("store/test").note == "mine"
    other = make(images(8), cls=Own).supervise(epochs=1, pretrained=True, **QUIET)
    assert other.note == "mine"
    assert other.train_state.epoch == 2
