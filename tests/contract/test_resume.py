"""A training that was killed continues bit for bit."""

from __future__ import annotations

import copy
import logging
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stopping import RaiseAfter
from torch import Tensor
from torch.optim.lr_scheduler import ConstantLR, ExponentialLR, OneCycleLR, StepLR
from torchvision.transforms import v2

from super_selfish.data import MoCoTransform
from super_selfish.engine.core.identity import describe
from super_selfish.models import Classification, GroupedUpsampling, Upsampling
from super_selfish.supervisors import Supervisor

STEPS = 12  # 3 epochs of 4 batches
RUN = {"epochs": 3, "batch_size": 5, "lr": 0.01, "verbose": False, "name": "store/test", "clip_grad": 5.0}
HEADS: dict[str, Callable[[], dict[str, Any]]] = {  # small ones, for there are many checkpoints
    "byol": lambda: {"embedding_size": 16, "hidden_size": 32},
    "contrastive_multiview_coding": lambda: {
        "embedding_size": 16,
        "predictor": Classification([64, 32, 16], norm_type="layer"),
        "n": 7,
    },
    "jigsaw_net": lambda: {"predictor": Classification([64, 32, 24], norm_type="layer")},
    "denoise_net": lambda: {"predictor": Upsampling([16, 8, 3], out_resolution=None)},
    "momentum_contrast": lambda: {
        "embedding_size": 16,
        "predictor": Classification([64, 32, 16], norm_type="layer"),
        "queue_size": 7,
    },
    "instance_discrimination": lambda: {
        "embedding_size": 16,
        "predictor": Classification([64, 32, 16], norm_type="layer"),
        "loss_type": "nce",
        "n": 9,
    },
    "pirl": lambda: {"embedding_size": 16, "predictor": Classification([64, 32, 16], norm_type="layer")},
    "rotate_net": lambda: {"predictor": Classification([64, 32, 4])},
    "split_brain_net": lambda: {
        "predictor": GroupedUpsampling([16, 8], groups=(50, 100), out_resolution=None, sources=(1, 0))
    },
}


UNPLANNED = {"byol": {"m_schedule": None}}  # what does not depend on how many epochs are planned


class Killed(BaseException):
    """What nothing in the library catches, as nothing can catch SIGKILL."""


def killed(_data: Any) -> Tensor:
    raise Killed


class Dice:
    """State of a user's own: counts the updates and adds a little noise of its own to the loss."""

    def __init__(self) -> None:
        self.rolled = 0

    def state_dict(self) -> dict[str, Any]:
        return {"rolled": self.rolled, "pair": (1, torch.ones(2))}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert state["pair"][0] == 1
        self.rolled = state["rolled"]


def everything(supervisor: Supervisor, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state = {f"supervisor.{key}": value for key, value in supervisor.state_dict().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        state |= {f"optimizer.{index}.{key}": torch.as_tensor(value) for key, value in moments.items()}
    return {key: value.detach().clone() for key, value in state.items()}


@pytest.fixture
def train(algorithm: str, make: Callable[..., Any], images: Callable[..., Any]) -> Callable[..., dict[str, Tensor]]:
    def run(planned: bool = True, **arguments: Any) -> dict[str, Tensor]:
        torch.manual_seed(0)
        own = {} if planned else UNPLANNED.get(algorithm, {})
        supervisor = make(images(23), **HEADS.get(algorithm, dict)(), **own)
        dice = supervisor.track("dice", Dice())
        forward, update = supervisor._forward, supervisor._after_update
        made: list[torch.optim.Optimizer] = []

        def noisy(data: Any) -> Tensor:
            noise = float(torch.rand(())) + random.random() + np.random.rand()
            return forward(data) * (1 + 0.1 * noise) * (1 + 0.01 * dice.rolled)

        def rolling() -> None:
            update()
            dice.rolled += 1

        def optimizer(parameters: Any, lr: float) -> torch.optim.Optimizer:
            made.append(torch.optim.AdamW(parameters, lr=lr))
            return made[0]

        object.__setattr__(supervisor, "_forward", noisy)
        object.__setattr__(supervisor, "_after_update", rolling)
        schedule = lambda made: OneCycleLR(made, 0.01, total_steps=STEPS)  # noqa: E731
        supervisor.supervise(**{**RUN, "optimizer": optimizer, "lr_scheduler": schedule, **arguments})
        state = everything(supervisor, made[0])
        state["history"] = torch.tensor([entry["loss"] for entry in supervisor.history], dtype=torch.float64)
        state["cursor"] = torch.tensor([supervisor.train_state.step, supervisor.train_state.samples, dice.rolled])
        return state

    return run


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> list[str]:
    assert one.keys() == other.keys()
    return [key for key in one if not torch.equal(one[key], other[key])]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_after_any_step(train: Callable[..., Any], workers: int) -> None:
    straight = train(name="store/straight", checkpoint_every=1)
    for step in range(1, STEPS) if workers == 0 else (3, 4, 6):
        shutil.rmtree("store/test.ckpt", ignore_errors=True)
        with pytest.raises(Killed):
            train(checkpoint_every=1, callbacks=[RaiseAfter(step, Killed)])
        assert equal(straight, train(resume=True, checkpoint_every=1, num_workers=workers)) == []


@pytest.mark.promise(2)
def test_killed_again_and_again_between_checkpoints(train: Callable[..., Any]) -> None:
    straight = train(name="store/straight", checkpoint_every=0)
    assert not Path("store/straight.ckpt").exists()
    for step in (3, 6, 9, 11):
        with pytest.raises(Killed):
            train(checkpoint_every=2, resume="auto", callbacks=[RaiseAfter(step, Killed)])
    assert equal(straight, train(resume=True)) == []
    assert len(list(Path("store/test.ckpt").glob("step-*"))) == 2


def test_an_average_of_the_weights_is_continued(train: Callable[..., Any]) -> None:
    straight = train(name="store/straight", polyak=0.9)
    assert any(key.startswith("supervisor.average.") for key in straight)
    with pytest.raises(Killed):
        train(polyak=0.9, checkpoint_every=2, callbacks=[RaiseAfter(7, Killed)])
    assert equal(straight, train(polyak=0.9, resume=True)) == []


def test_each_epoch_is_stored_unless_told_otherwise(train: Callable[..., Any]) -> None:
    straight = train()
    assert sorted(path.name for path in Path("store/test.ckpt").glob("step-*")) == [
        "step-000000000008",
        "step-000000000012",
    ]
    shutil.rmtree("store")
    with pytest.raises(Killed):
        train(callbacks=[RaiseAfter(7, Killed)])
    assert equal(straight, train(resume=True, keep=1)) == []
    assert len(list(Path("store/test.ckpt").glob("step-*"))) == 1


def test_a_finished_training_returns_at_once_and_longer_ones_go_on(train: Callable[..., Any]) -> None:
    short = {"epochs": 3, "lr_scheduler": lambda made: torch.optim.lr_scheduler.StepLR(made, 5), "planned": False}
    whole = train(**{**short, "epochs": 4})
    shutil.rmtree("store")
    end = train(**short)
    Path("store/test.safetensors").unlink()  # killed before it was written
    again = train(**short, resume="auto")
    assert equal({**end, "cursor": again["cursor"]}, again) == []
    assert Path("store/test.safetensors").is_file()
    longer = train(**{**short, "epochs": 4}, resume=True)
    assert equal(whole, longer) == []


def test_nothing_to_resume(train: Callable[..., Any]) -> None:
    with pytest.raises(OSError, match=r"There is no training to continue in `store/test.ckpt`"):
        train(resume=True)
    assert train(resume="auto")["cursor"][0] == STEPS


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"batch_size": 4}, "batch_size is 4 here and 5 in the checkpoint"),
        ({"seed": 3}, "seed is 3 here and 0"),
        ({"lr": 0.02}, "lr is 0.02 here"),
        ({"optimizer": torch.optim.SGD}, "optimizer is 'SGD' here"),
        ({"lr_scheduler": lambda made: StepLR(made, 5)}, "lr_scheduler is "),
    ],
)
def test_what_shapes_the_result_has_to_be_the_same(
    train: Callable[..., Any], changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(Killed):
        train(callbacks=[RaiseAfter(7, Killed)])
    before = sorted(Path("store").rglob("*"))
    with pytest.raises(OSError, match=message):
        train(resume=True, **changed)
    assert sorted(Path("store").rglob("*")) == before


def test_another_schedule_of_the_same_name_is_refused(train: Callable[..., Any]) -> None:
    def of(kind: Any) -> Any:
        return lambda made: kind(made, 0.5)

    with pytest.raises(Killed):
        train(lr_scheduler=of(ExponentialLR), callbacks=[RaiseAfter(7, Killed)])
    with pytest.raises(OSError, match=r"by another optimizer or schedule. Expected: AdamW with ExponentialLR"):
        train(resume=True, lr_scheduler=of(ConstantLR))


class Normed(torch.optim.Optimizer):
    """Steps of the length of the momentum's norm, a sum whose order depends on how memory is laid out."""

    def __init__(self, parameters: Any, lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for parameter in self.param_groups[0]["params"]:
            momentum = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
            momentum.mul_(0.9).add_(parameter.grad)
            parameter.sub_(self.param_groups[0]["lr"] * momentum / momentum.norm().clamp_min(1e-8))


@pytest.mark.slow
def test_memory_is_laid_out_as_before(make: Callable[..., Any], images: Callable[..., Any]) -> None:
    states = []
    for name, step in (("store/straight", 99), ("store/test", 5)):
        run = {**RUN, "optimizer": Normed, "checkpoint_every": 1, "name": name}
        supervisor = make(images(23), backbone="small_resnet")
        if step == 5:
            with pytest.raises(Killed):
                supervisor.supervise(**run, callbacks=[RaiseAfter(step, Killed)])
            supervisor = make(images(23), backbone="small_resnet")
        states.append(supervisor.supervise(**run, resume="auto").state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (v2.RandomResizedCrop(32), v2.RandomResizedCrop(32, scale=(0.9, 1.0))),
        (v2.Compose([v2.RandomResizedCrop(32)]), v2.Compose([v2.RandomResizedCrop(32), v2.RandomGrayscale()])),
        (MoCoTransform(), (MoCoTransform(), MoCoTransform(blur=0.0))),
        (torch.rot90, torch.flipud),
    ],
)
def test_other_views_and_criteria_are_told_apart(one: Any, other: Any) -> None:
    assert describe(one) == describe(copy.deepcopy(one))
    assert describe(one) != describe(other)
    loss = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
    assert describe(loss) == describe(copy.deepcopy(loss)) != describe(torch.nn.CrossEntropyLoss())


@pytest.mark.promise(31)
def test_other_images_are_refused(make: Callable[..., Any], images: Callable[..., Any]) -> None:
    with pytest.raises(Killed):
        make(images(23)).supervise(**RUN, callbacks=[RaiseAfter(7, Killed)])
    with pytest.raises(OSError, match="was trained on other images"):
        make(images(23, seed=5)).supervise(**RUN, resume=True)


def test_an_older_training_is_set_aside(
    make: Callable[..., Any], images: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    make(images(23)).supervise(**RUN)
    with caplog.at_level(logging.WARNING):
        early = make(images(23))
        object.__setattr__(early, "_forward", killed)
        with pytest.raises(Killed):
            early.supervise(**RUN)
        assert 'resume="auto"' in caplog.text
    assert not Path("store/test.ckpt.prev").exists(), "set aside before there is a new one"
    with pytest.raises(Killed):
        make(images(23)).supervise(**RUN, callbacks=[RaiseAfter(2, Killed)])
    assert [path.name for path in Path("store/test.ckpt").glob("step-*")] == ["step-000000000001"]
    assert len(list(Path("store/test.ckpt.prev").glob("step-*"))) == 2
    straight = make(images(23)).supervise(**{**RUN, "name": "store/straight"})
    resumed = make(images(23)).supervise(**RUN, resume="auto")
    assert resumed.train_state.step == STEPS, "the new training is continued, not the older one"
    assert all(torch.equal(value, resumed.state_dict()[key]) for key, value in straight.state_dict().items())


def test_one_supervisor_goes_on_in_its_own_folder(
    make: Callable[..., Any], images: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    supervisor = make(images(23))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            supervisor.supervise(**{**RUN, "epochs": 1})
    assert "older training" not in caplog.text
    assert not Path("store/test.ckpt.prev").exists()
    assert sorted(path.name for path in Path("store/test.ckpt").glob("step-*"))[-1] == "step-000000000012"


def test_weights_can_be_loaded_from_a_checkpoint(make: Callable[..., Any], images: Callable[..., Any]) -> None:
    with pytest.raises(Killed):
        make(images(23)).supervise(**RUN, callbacks=[RaiseAfter(7, Killed)])
    loaded = make().load("store/test")
    assert loaded.train_state.step == 4
    assert len(loaded.history) == 1


def test_what_cannot_be_stored_is_told_after_the_first_step(
    make: Callable[..., Any], images: Callable[..., Any]
) -> None:
    class Hook:
        def state_dict(self) -> dict[str, Any]:
            return {"hook": print}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            raise NotImplementedError

    supervisor = make(images(23))
    supervisor.track("own", Hook())
    with pytest.raises(TypeError, match=r"own.*hook"):
        supervisor.supervise(**RUN)
    assert supervisor.train_state.step == 1
    with pytest.raises(ValueError, match="a name that is not taken"):
        supervisor.track("own", Hook())
    with pytest.raises(ValueError, match="something with state_dict"):
        supervisor.track("other", 3)


@pytest.mark.parametrize(
    ("argument", "value"),
    [("resume", "yes"), ("resume", 1), ("checkpoint_every", "soon"), ("checkpoint_every", -1), ("keep", 0)],
)
def test_arguments_out_of_range(
    make: Callable[..., Any], images: Callable[..., Any], argument: str, value: Any
) -> None:
    with pytest.raises(ValueError, match=f"`{argument}`"):
        make(images(23)).supervise(**RUN, **{argument: value})
