"""Custom loops and updates of many kinds: what they train is counted, followed and stored, and nothing else is."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.nn.utils import parameters_to_vector

from super_selfish.errors import ConfigurationError, NonFiniteLoss
from super_selfish.supervisors import Supervisor, all_supervisors

QUIET: dict[str, Any] = {"verbose": False, "watch": 0, "name": "store/test"}


@pytest.fixture
def train(make: Callable[..., Any], images: Callable[..., Any]) -> Callable[..., Any]:
    """Train a class on eight images, two epochs of two batches."""

    def run(cls: type[Supervisor], **settings: Any) -> Any:
        supervisor = make(images(8), cls=cls)
        torch.manual_seed(1)
        return supervisor.supervise(
            **{"epochs": 2, "batch_size": 4, "optimizer": torch.optim.SGD, "lr": 0.01, **QUIET, **settings}
        )

    return run


_PLAIN: dict[str, Any] = {}


@pytest.fixture
def plain(algorithm: str, base: Any, train: Callable[..., Any]) -> Any:
    """The library's own training, once for all tests."""
    if algorithm not in _PLAIN:
        _PLAIN[algorithm] = train(base)
    return _PLAIN[algorithm]


def losses(supervisor: Any) -> list[float]:
    return [entry["loss"] for entry in supervisor.history]


def weights(supervisor: Any) -> torch.Tensor:
    return torch.cat([value.detach().double().flatten() for value in supervisor.state_dict().values()])


def assert_same_training(one: Any, other: Any) -> None:
    assert (one.train_state, one.history[-1]["epoch"]) == (other.train_state, other.history[-1]["epoch"])
    assert losses(one) == pytest.approx(losses(other), abs=1e-4, nan_ok=True)
    # other roundings of an update grow in losses of normalised embeddings and in the variances of batch norm
    assert torch.allclose(weights(one), weights(other), rtol=1e-4, atol=2e-4)


class TestGradients:
    def test_an_update_without_zero_grad_trains_as_the_library_does(
        self, base: Any, train: Callable[..., Any], plain: Any
    ) -> None:
        left: list[Any] = []

        class Own(base):
            def _update(self, loss: torch.Tensor, optimizer: Any, lr_scheduler: Any) -> None:
                left.extend(weight for weight in self.parameters() if weight.grad is not None and weight.grad.any())
                loss.backward()
                optimizer.step()
                lr_scheduler.step()

        assert_same_training(train(Own), plain)
        assert not left

    def test_nor_do_they_pile_up_within_a_batch(self, base: Any, train: Callable[..., Any]) -> None:
        class Own(base):
            clears = True

            def _epochs(self, epochs: int, train_loader: Any, optimizer: Any, lr_scheduler: Any) -> None:
                for _ in range(epochs):
                    for data in train_loader:
                        for _ in range(3):
                            if self.clears:
                                optimizer.zero_grad()
                            type(self)._forward(self, data).backward()
                            optimizer.step()

        class Leaving(Own):
            clears = False

        assert_same_training(train(Leaving), train(Own))

    def test_several_batches_add_up_until_the_step(self, base: Any, train: Callable[..., Any]) -> None:
        norms: list[float] = []

        class Own(base):
            def _epochs(self, epochs: int, train_loader: Any, optimizer: Any, lr_scheduler: Any) -> None:
                for _ in range(epochs):
                    for data in train_loader:
                        self._forward(data).backward()
                        norms.append(
                            sum(float(each.grad.norm()) for each in self.parameters() if each.grad is not None)
                        )
                    optimizer.step()

        supervisor = train(Own)
        assert supervisor.train_state.epoch == 2
        assert supervisor.train_state.step == 2
        assert norms[1] != norms[0]


def split_in_two(supervisor: Any) -> list[torch.optim.Optimizer]:
    parts = supervisor.trainable_parameters()
    return [torch.optim.SGD(half, lr=0.01) for half in (parts[::2], parts[1::2])]


FORMS: dict[str, Callable[[list[Any]], Any]] = {
    "list": list,
    "tuple": tuple,
    "dictionary": lambda made: dict(zip("ab", made, strict=True)),
}


def each_of(optimizer: Any) -> Iterator[Any]:
    yield from optimizer.values() if isinstance(optimizer, dict) else optimizer


class TestSteps:
    @pytest.mark.parametrize(("form", "own_update"), [("list", False), ("tuple", True), ("dictionary", True)])
    def test_several_optimizers(
        self, base: Any, train: Callable[..., Any], form: str, own_update: bool, plain: Any
    ) -> None:
        class Several(base):
            def _init_data_optimizer(self, *given: Any) -> Any:
                loader, _, _ = super()._init_data_optimizer(*given)
                return loader, FORMS[form](split_in_two(self))

        class Own(Several):
            def _update(self, loss: torch.Tensor, optimizer: Any, lr_scheduler: Any) -> None:
                loss.backward()
                for each in each_of(optimizer):
                    each.step()

        cls: Any = Own if own_update else Several
        assert_same_training(train(cls), plain)
        assert train(cls, epochs=3, resume=True).train_state.step == 6

    def test_an_optimizer_made_in_the_loop(
        self, base: Any, train: Callable[..., Any], caplog: pytest.LogCaptureFixture, plain: Any
    ) -> None:
        class Own(base):
            def _epochs(self, epochs: int, train_loader: Any, optimizer: Any, lr_scheduler: Any) -> None:
                mine = torch.optim.SGD(self.trainable_parameters(), lr=0.01)
                for _ in range(epochs):
                    for data in train_loader:
                        mine.zero_grad()
                        self._forward(data).backward()
                        mine.step()

        supervisor = train(Own)
        assert sum("state of SGD" in message for message in caplog.messages) == 1
        assert_same_training(supervisor, plain)

    def test_a_second_optimizer_that_is_tracked_is_stored(
        self, base: Any, train: Callable[..., Any], caplog: pytest.LogCaptureFixture, plain: Any
    ) -> None:
        class Own(base):
            def __init__(self, *given: Any, **named: Any) -> None:
                super().__init__(*given, **named)
                self.probe = torch.nn.Linear(4, 1)
                self.second = self.track("second", torch.optim.Adam(self.probe.parameters()))

            def trainable_parameters(self) -> list[Any]:
                own = {id(weight) for weight in self.probe.parameters()}
                return [weight for weight in super().trainable_parameters() if id(weight) not in own]

            def _update(self, loss: torch.Tensor, optimizer: Any, lr_scheduler: Any) -> None:
                super()._update(loss, optimizer, lr_scheduler)
                self.probe(torch.ones(1, 4)).sum().backward()
                self.second.step()

        supervisor = train(Own)
        assert not [message for message in caplog.messages if "state of" in message or "no optimizer" in message]
        assert supervisor.train_state.step == 4
        assert supervisor.train_state.epoch == 2
        assert losses(supervisor) == pytest.approx(losses(plain), abs=1e-4)

    def test_a_wrapping_optimizer_is_one_step(self, base: Any, train: Callable[..., Any], plain: Any) -> None:
        class Wrapper(torch.optim.SGD):
            def step(self, closure: Any = None) -> None:
                torch.optim.SGD.step(self, closure)

        assert_same_training(train(base, optimizer=Wrapper), plain)

    def test_sharpness_aware_steps(self, base: Any, train: Callable[..., Any]) -> None:
        class Own(base):
            def _epochs(self, epochs: int, train_loader: Any, optimizer: Any, lr_scheduler: Any) -> None:
                for _ in range(epochs):
                    for data in train_loader:
                        self._forward(data).backward()
                        optimizer.first_step()
                        self._forward(data).backward()
                        optimizer.second_step()

        supervisor = train(Own, optimizer=Sam)
        assert (supervisor.train_state.step, supervisor.train_state.epoch, len(supervisor.history)) == (4, 2, 2)

    def test_an_update_by_hand_is_refused_until_it_is_counted(
        self, base: Any, train: Callable[..., Any], plain: Any
    ) -> None:
        class Own(base):
            updates, counts = 0, False

            def _update(self, loss: torch.Tensor, optimizer: Any, lr_scheduler: Any) -> None:
                loss.backward()
                with torch.no_grad():
                    for weight in self.trainable_parameters():
                        if weight.grad is not None:
                            weight -= 0.01 * weight.grad
                type(self).updates += 1
                if self.counts:
                    self.stepped()

        class Counting(Own):
            updates, counts = 0, True

        with pytest.raises(ConfigurationError, match="stepped"):
            train(Own)
        assert Own.updates == 1
        assert_same_training(train(Counting), plain)

    def test_stepped_after_a_seen_step_has_no_effect(self, base: Any, train: Callable[..., Any], plain: Any) -> None:
        class Own(base):
            def _update(self, loss: torch.Tensor, optimizer: Any, lr_scheduler: Any) -> None:
                super()._update(loss, optimizer, lr_scheduler)
                self.stepped()

        assert_same_training(train(Own), plain)

    def test_a_step_with_a_closure(self, base: Any, train: Callable[..., Any]) -> None:
        class Own(base):
            def _epochs(self, epochs: int, train_loader: Any, optimizer: Any, lr_scheduler: Any) -> None:
                for _ in range(epochs):
                    for data in train_loader:

                        def closure(data: Any = data) -> torch.Tensor:
                            optimizer.zero_grad()
                            loss = self._forward(data)
                            loss.backward()
                            return loss

                        optimizer.step(closure)

        def lbfgs(parameters: Any, lr: float) -> Any:
            return torch.optim.LBFGS(list(parameters), lr=lr, max_iter=2)

        class Grouped(Own):
            def parameter_groups(self, lr: float) -> list[Any]:
                return self.trainable_parameters()

        supervisor = train(Grouped, optimizer=lbfgs, lr=1e-3)
        assert (supervisor.train_state.step, supervisor.train_state.epoch) == (4, 2)
        assert all(math.isfinite(loss) for loss in losses(supervisor))

    @pytest.mark.parametrize("form", ["generator", "pairs", "groups"])
    def test_parameter_groups_may_be_generators(
        self, base: Any, train: Callable[..., Any], plain: Any, form: str
    ) -> None:
        class Own(base):
            def parameter_groups(self, lr: float) -> Any:
                if form == "groups":
                    return [{"params": (weight for weight in self.trainable_parameters())}]
                pairs = ((name, weight) for name, weight in self.named_parameters() if weight.requires_grad)
                return pairs if form == "pairs" else (weight for _, weight in pairs)

        assert_same_training(train(Own), plain)

    def test_nothing_to_train(self, base: Any, train: Callable[..., Any]) -> None:
        class Frozen(base):
            def _load_pretrained(self, *given: Any) -> None:
                self.requires_grad_(False)

        with pytest.raises(ConfigurationError, match="no parameters to train"):
            train(Frozen)

    def test_a_wrapper_that_is_no_optimizer(self, base: Any, train: Callable[..., Any]) -> None:
        class Wrapper:
            def __init__(self, parameters: Any, lr: float) -> None:
                self.inner = torch.optim.SGD(parameters, lr=lr)

        with pytest.raises(ConfigurationError, match="Received: Wrapper"):
            train(base, optimizer=Wrapper)

    def test_parameters_in_no_optimizer_are_reported_once(
        self, base: Any, train: Callable[..., Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        class Own(base):
            def parameter_groups(self, lr: float) -> list[Any]:
                return list(self.model.backbone.parameters())

        train(Own)
        told = [message for message in caplog.messages if "in no optimizer" in message]
        assert len(told) == 1
        assert "model.predictor" in told[0]


class TestParametersThatChange:
    """Parameters that are unfrozen during training, with and without a place in the optimizer."""

    @pytest.fixture
    def unfreezing(self, base: Any) -> Any:
        class Own(base):
            adds = False

            def _init_data_optimizer(self, *given: Any) -> Any:
                self.model.backbone.requires_grad_(False)
                return super()._init_data_optimizer(*given)

            def _epochs(self, epochs: int, train_loader: Any, optimizer: Any, lr_scheduler: Any) -> None:
                self.left, self.frozen = [], copy.deepcopy(list(self.model.backbone.parameters()))
                for epoch in range(epochs):
                    if epoch == 1:
                        self.model.backbone.requires_grad_(True)
                        if self.adds:
                            optimizer.add_param_group({"params": list(self.model.backbone.parameters())})
                    for data in train_loader:
                        self.left += [each for each in self.parameters() if each.grad is not None and each.grad.any()]
                        self._update(self._forward(data), optimizer, None)

        return Own

    def test_unfrozen_parameters_in_no_optimizer_are_reported_once(
        self, unfreezing: Any, train: Callable[..., Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        supervisor = train(unfreezing, epochs=3)
        reported = [message for message in caplog.messages if "in no optimizer" in message]
        assert len(reported) == 1
        assert "model.backbone" in reported[0]
        assert not supervisor.left
        assert all(map(torch.equal, supervisor.frozen, supervisor.model.backbone.parameters()))

    @pytest.mark.parametrize("order", ["before", "after"])
    def test_unfrozen_parameters_of_a_second_optimizer_are_not_reported(
        self, unfreezing: Any, train: Callable[..., Any], caplog: pytest.LogCaptureFixture, order: str
    ) -> None:
        class Own(unfreezing):
            second: Any = None

            def _update(self, loss: torch.Tensor, optimizer: Any, lr_scheduler: Any) -> None:
                if self.second is None and next(self.model.backbone.parameters()).requires_grad:
                    self.second = torch.optim.SGD(self.model.backbone.parameters(), lr=0.01)
                loss.backward()
                steps = [optimizer, self.second] if order == "after" else [self.second, optimizer]
                for each in filter(None, steps):
                    each.step()

        supervisor = train(Own, epochs=3)
        assert not [message for message in caplog.messages if "in no optimizer" in message]
        assert supervisor.train_state.step == 6
        assert not all(map(torch.equal, supervisor.frozen, supervisor.model.backbone.parameters()))

    def test_unfrozen_parameters_of_a_new_group_are_trained(
        self, unfreezing: Any, train: Callable[..., Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        unfreezing.adds = True
        supervisor = train(unfreezing, epochs=3)
        assert not [message for message in caplog.messages if "in no optimizer" in message]
        assert not supervisor.left
        assert not all(map(torch.equal, supervisor.frozen, supervisor.model.backbone.parameters()))


class TestMicroBatches:
    def test_a_custom_loss_is_not_split_unasked(
        self, base: Any, make: Callable[..., Any], images: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Own(base):
            def _forward(self, data: Any) -> torch.Tensor:
                return super()._forward(data) ** 2

        class Described(Own):
            @property
            def decomposable(self) -> bool:
                return True

        monkeypatch.setattr("super_selfish.engine.loading.available_bytes", lambda _: 1)
        monkeypatch.setattr("super_selfish.engine.supervisor.bytes_per_image", lambda *_: 1.0)
        plain, own = make(images(8), cls=base), make(images(8), cls=Own)
        assert plain.train_loader(4, True, 0).micro_batches == (4 if plain.decomposable else 1)
        assert own.train_loader(4, True, 0).micro_batches == 1
        assert make(images(8), cls=Described).train_loader(4, True, 0).micro_batches == 4
        plain.loss = torch.nn.CrossEntropyLoss(reduction="sum")
        assert plain.train_loader(4, True, 0).micro_batches == 1


class Sam(torch.optim.Optimizer):
    """Sharpness-aware minimisation around SGD, as it is usually written."""

    def __init__(self, parameters: Any, lr: float) -> None:
        super().__init__(parameters, {"lr": lr})
        self.base = torch.optim.SGD(self.param_groups, lr=lr)
        self.param_groups = self.base.param_groups

    @torch.no_grad()
    def first_step(self) -> None:
        moved = [weight for group in self.param_groups for weight in group["params"] if weight.grad is not None]
        norm = torch.nn.utils.get_total_norm([weight.grad for weight in moved])
        for weight in moved:
            self.state[weight]["old"] = weight.data.clone()
            weight.add_(weight.grad, alpha=0.01 / float(norm))
        self.zero_grad()

    @torch.no_grad()
    def second_step(self) -> None:
        for weight, state in self.state.items():
            if "old" in state:
                weight.data = state["old"]
        self.base.step()


class TestReadingWithoutTraining:
    @pytest.mark.parametrize(("grad", "mode"), [(False, "eval"), (True, "eval"), (False, "train"), (True, "train")])
    def test_validation_changes_nothing(self, base: Any, train: Callable[..., Any], grad: bool, mode: str) -> None:
        class Own(base):
            looks = False

            def _epochs(self, epochs: int, train_loader: Any, optimizer: Any, lr_scheduler: Any) -> None:
                for _ in range(epochs):
                    for data in train_loader:
                        self._update(self._forward(data), optimizer, lr_scheduler)
                        if self.looks:
                            self.look(train_loader)

            def look(self, train_loader: Any) -> None:
                buffers = [(name, buffer.clone()) for name, buffer in self.named_buffers()]
                self.train(mode == "train")
                with torch.set_grad_enabled(grad):
                    for data in train_loader:
                        self._forward(data)
                    self._forward(train_loader.peek())
                self.train()
                for (_, kept), buffer in zip(buffers, self.buffers(), strict=True):
                    buffer.copy_(kept)

        class Looking(Own):
            looks = True

        assert_same_training(train(Looking), train(Own))

    @pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
    def test_a_pass_within_a_pass(self, base: Any, train: Callable[..., Any], workers: int) -> None:
        class Own(base):
            looks = False

            def _epochs(self, epochs: int, train_loader: Any, optimizer: Any, lr_scheduler: Any) -> None:
                for _ in range(epochs):
                    for data in train_loader:
                        loss = self._forward(data)
                        if self.looks:
                            list(train_loader)
                            next(iter(train_loader))
                        self._update(loss, optimizer, lr_scheduler)

        class Looking(Own):
            looks = True

        assert_same_training(train(Looking, num_workers=workers), train(Own))

    @pytest.mark.parametrize("how", ["break", "zip"])
    def test_a_pass_that_ends_early_does_not_move_the_epoch(
        self, base: Any, train: Callable[..., Any], how: str, plain: Any
    ) -> None:
        class Own(base):
            def _epochs(self, epochs: int, train_loader: Any, optimizer: Any, lr_scheduler: Any) -> None:
                for _ in range(2 * epochs):
                    if how == "zip":
                        for data, _ in zip(train_loader, range(1), strict=False):
                            self._update(self._forward(data), optimizer, lr_scheduler)
                        continue
                    for number, data in enumerate(train_loader):
                        if number == 1:
                            break
                        self._update(self._forward(data), optimizer, lr_scheduler)

        assert_same_training(train(Own), plain)


class TestReturnValues:
    @pytest.mark.parametrize(("form", "own_loop"), [("pair", False), ("dictionary", True)])
    def test_numbers_beside_the_loss_are_logged(
        self, base: Any, train: Callable[..., Any], form: str, own_loop: bool, plain: Any
    ) -> None:
        class Own(base):
            def _forward(self, data: Any) -> Any:
                loss = super()._forward(data)
                logs = {"twice": 2 * loss, "one": 1, "images": data}
                return (loss, logs) if form == "pair" else {"loss": loss, **logs}

        class Loop(Own):
            def _epochs(self, epochs: int, train_loader: Any, optimizer: Any, lr_scheduler: Any) -> None:
                for _ in range(epochs):
                    for data in train_loader:
                        self._update(self._forward(data), optimizer, lr_scheduler)

        supervisor = train(Loop if own_loop else Own)
        assert_same_training(supervisor, plain)
        for entry in supervisor.history:
            assert entry["twice"] == pytest.approx(2 * entry["loss"], rel=1e-5)
            assert entry["one"] == 1
            assert "images" not in entry
        assert supervisor.evaluate_pretext().value is not None

    @pytest.mark.parametrize("wrong", [lambda _loss: {"accuracy": 1.0}, lambda loss: (loss, loss), lambda _loss: None])
    def test_anything_else_is_refused(self, base: Any, train: Callable[..., Any], wrong: Callable[..., Any]) -> None:
        class Own(base):
            def _forward(self, data: Any) -> Any:
                return wrong(super()._forward(data))

        with pytest.raises(ConfigurationError, match="loss"):
            train(Own)

    def test_further_arguments(self, base: Any, train: Callable[..., Any], plain: Any) -> None:
        class Own(base):
            def _forward(self, data: Any, number: int, *, scale: float = 2.0) -> torch.Tensor:
                return super()._forward(data) * scale

            def _epochs(self, epochs: int, train_loader: Any, optimizer: Any, lr_scheduler: Any) -> None:
                for _ in range(epochs):
                    for number, data in enumerate(train_loader):
                        self._update(self._forward(data, number, scale=1.0), optimizer, lr_scheduler)

        assert_same_training(train(Own), plain)

    def test_two_values_and_no_schedule(self, base: Any, train: Callable[..., Any], plain: Any) -> None:
        class Two(base):
            def _init_data_optimizer(self, *given: Any) -> Any:
                return super()._init_data_optimizer(*given)[:2]

        class Nothing(base):
            def _init_data_optimizer(self, *given: Any) -> Any:
                return (*super()._init_data_optimizer(*given)[:2], None)

        assert_same_training(train(Two), plain)
        assert_same_training(train(Nothing), plain)
        assert_same_training(train(base, lr_scheduler=None), plain)

    @pytest.mark.parametrize(
        "wrong", [lambda made: made[0], lambda made: (made[0], None, None), lambda made: [*made, 1]]
    )
    def test_other_values_are_refused(self, base: Any, train: Callable[..., Any], wrong: Callable[..., Any]) -> None:
        class Own(base):
            def _init_data_optimizer(self, *given: Any) -> Any:
                return wrong(super()._init_data_optimizer(*given))

        with pytest.raises(ConfigurationError, match="_init_data_optimizer"):
            train(Own)

    def test_a_loss_that_is_not_seen_is_reported_once(
        self, base: Any, train: Callable[..., Any], caplog: pytest.LogCaptureFixture, plain: Any
    ) -> None:
        class Own(base):
            def _epochs(self, epochs: int, train_loader: Any, optimizer: Any, lr_scheduler: Any) -> None:
                for _ in range(epochs):
                    for data in train_loader:
                        self._update(type(self)._forward(self, data), optimizer, lr_scheduler)

        supervisor = train(Own)
        assert torch.allclose(weights(supervisor), weights(plain), atol=1e-5)
        assert all(map(math.isnan, losses(supervisor)))
        assert sum("without `self._forward`" in message for message in caplog.messages) == 1

    def test_a_schedule_that_needs_a_metric(self, base: Any, train: Callable[..., Any], plain: Any) -> None:
        class Own(base):
            passes_on = True

            def _epochs(self, epochs: int, train_loader: Any, optimizer: Any, lr_scheduler: Any) -> None:
                for _ in range(epochs):
                    for data in train_loader:
                        self._update(self._forward(data), optimizer, lr_scheduler if self.passes_on else None)
                    lr_scheduler.step(1.0)

        class Stepping(Own):
            passes_on = False

        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau
        with pytest.raises(ConfigurationError, match=r"self\._update\(loss, optimizer, None\)"):
            train(Own, lr_scheduler=plateau)
        assert_same_training(train(Stepping, lr_scheduler=plateau), plain)


class TestNonFinite:
    def test_the_message_is_true_of_the_weights(self, base: Any, train: Callable[..., Any]) -> None:
        class Several(base):
            def _init_data_optimizer(self, *given: Any) -> Any:
                loader, _, _ = super()._init_data_optimizer(*given)
                return loader, split_in_two(self)

            def _update(self, loss: torch.Tensor, optimizer: Any, lr_scheduler: Any) -> None:
                loss.backward()
                optimizer[0].step()
                for weight in optimizer[1].param_groups[0]["params"]:
                    weight.grad = torch.full_like(weight, math.nan)
                optimizer[1].step()

        with pytest.raises(NonFiniteLoss, match="a part of this update"):
            train(Several)

    def test_a_loss_behind_an_update_by_hand(self, base: Any, train: Callable[..., Any]) -> None:
        class Own(base):
            def _update(self, loss: torch.Tensor, optimizer: Any, lr_scheduler: Any) -> None:
                (loss * math.nan).backward()
                self.stepped()

            def _forward(self, data: Any) -> torch.Tensor:
                return super()._forward(data) * math.nan

        with pytest.raises(NonFiniteLoss, match="hold this update"):
            train(Own, on_nonfinite="skip")


@pytest.mark.parametrize("algorithm", sorted(all_supervisors()))
def test_weights_as_a_vector(algorithm: str, images: Callable[..., Any]) -> None:
    supervisor = all_supervisors()[algorithm](images(4), backbone="small_resnet")
    assert parameters_to_vector(supervisor.parameters()).ndim == 1


def followers(supervisor: Any) -> list[tuple[torch.nn.Module, torch.nn.Module]]:
    pairs = [(getattr(supervisor, name), network) for name, network in supervisor._followers().items()]
    return [*pairs, *([] if supervisor.average is None else [(supervisor.average, supervisor.model)])]


def equal(pair: tuple[torch.nn.Module, torch.nn.Module]) -> bool:
    return all(torch.equal(*both) for both in zip(pair[0].parameters(), pair[1].parameters(), strict=True))


class TestStateThatFollowsTheWeights:
    def test_weights_that_are_set_are_followed(self, base: Any, train: Callable[..., Any]) -> None:
        class Own(base):
            given: Any = None

            def _load_pretrained(self, name: Any, pretrained: bool) -> None:
                if self.given is not None:
                    self.model.load_state_dict(self.given)

        supervisor = train(Own, polyak=0.9)
        assert followers(supervisor)
        kept = [copy.deepcopy(average.state_dict()) for average, _ in followers(supervisor)]
        supervisor.supervise(epochs=0, batch_size=4, polyak=0.9, **QUIET)
        assert not any(map(equal, followers(supervisor)))
        for (average, _), state in zip(followers(supervisor), kept, strict=True):
            assert all(torch.equal(average.state_dict()[key], value) for key, value in state.items())
        supervisor.given = {key: value + 1 for key, value in supervisor.model.state_dict().items()}
        supervisor.supervise(epochs=0, batch_size=4, polyak=0.9, **QUIET)
        assert all(map(equal, followers(supervisor)))

    def test_also_before_the_first_training_and_in_the_loop(self, base: Any, train: Callable[..., Any]) -> None:
        seen: list[bool] = []

        class Own(base):
            def _epochs(self, epochs: int, train_loader: Any, optimizer: Any, lr_scheduler: Any) -> None:
                self.model.load_state_dict({key: value + 1 for key, value in self.model.state_dict().items()})
                train_loader.peek()
                for data in train_loader:
                    seen.extend(map(equal, followers(self)) if not self.train_state.step else [])
                    self._update(self._forward(data), optimizer, lr_scheduler)

        train(Own, polyak=0.9)
        assert seen
        assert all(seen)

    def test_averages_that_are_set_too_are_kept(self, base: Any, make: Callable[..., Any], images: Any) -> None:
        supervisor = make(images(8))
        if not supervisor._followers():
            pytest.skip("no such state")
        with torch.no_grad():
            for parameter in supervisor.parameters():
                parameter += torch.rand_like(parameter)
        supervisor.supervise(epochs=0, batch_size=4, **QUIET)
        assert not any(map(equal, followers(supervisor)))

    def test_restored_weights_are_followed_by_the_next_training(self, base: Any, train: Callable[..., Any]) -> None:
        class Own(base):
            def _epochs(self, *given: Any) -> None:
                best = copy.deepcopy(self.model.state_dict())
                super()._epochs(*given)
                self.model.load_state_dict(best)

        supervisor = train(Own, polyak=0.9)
        supervisor.supervise(epochs=0, batch_size=4, polyak=0.9, **QUIET)
        assert all(map(equal, followers(supervisor)))


def test_batches_that_are_looked_at_leave_nothing_in_queue_and_bank(
    base: Any, train: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    class Own(base):
        looks = False

        def _forward(self, data: Any) -> torch.Tensor:
            return super()._forward(data)

        def _epochs(self, epochs: int, train_loader: Any, optimizer: Any, lr_scheduler: Any) -> None:
            for _ in range(epochs):
                for data in train_loader:
                    if self.looks:
                        kept = copy.deepcopy(self.state_dict())
                        with torch.random.fork_rng(devices=[]):
                            self._forward(data)
                        self.load_state_dict(kept)
                    self._update(self._forward(data), optimizer, lr_scheduler)

    class Looking(Own):
        looks = True

    with caplog.at_level(logging.WARNING):
        assert_same_training(train(Looking), train(Own))
