"""Promises 24 and 25: losses and gradients that are infinite or not a number."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from toys import At, contents, digest, run, toy

from super_selfish.errors import ConfigurationError, NonFiniteLoss
from super_selfish.supervisors import Supervisor, all_supervisors

BAD = float("nan")


def failing(algorithm: str, *steps: int, gradient: bool = False) -> Supervisor:
    """Its loss, or only its gradient, is not a number in some steps."""
    base: Any = all_supervisors()[algorithm]

    class Failing(base):
        calls = 0

        def _forward(self, data: Any) -> torch.Tensor:
            self.calls += 1
            loss = super()._forward(data)
            if self.calls not in steps:
                return loss
            if gradient:
                loss.register_hook(lambda slope: slope * BAD)
                return loss
            return loss * BAD

    return toy(algorithm, cls=Failing)


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("algorithm", sorted(all_supervisors()))
def test_24_it_stops_before_the_update(algorithm: str, gradient: bool) -> None:
    supervisor = failing(algorithm, 7, gradient=gradient)
    stored: list[dict[str, bytes]] = []

    with pytest.raises(NonFiniteLoss, match=r"epoch 2, batch 3, step 7 .*image indices \[") as told:
        run(supervisor, callbacks=[At(6, lambda: stored.append(contents()))])
    indices = [int(number) for number in str(told.value).split("image indices [")[1].split("]")[0].split(",")]
    assert sorted(indices) == sorted(set(indices))
    assert len(indices) == 8
    assert all(torch.isfinite(value).all() for value in supervisor.state_dict().values())
    assert {path: content for path, content in contents().items() if "lock" not in path} == {
        path: content for path, content in stored[0].items() if "lock" not in path
    }
    assert run(toy(algorithm), resume=True).train_state.step == 8


@pytest.mark.parametrize("algorithm", ["momentum_contrast", "instance_discrimination", "byol", "bi_gan", "rotate_net"])
def test_25_a_skipped_update_leaves_everything_as_it_was(algorithm: str, caplog: Any) -> None:

    supervisor = failing(algorithm, 3)
    states: list[dict[str, torch.Tensor]] = []

    def note() -> None:
        states.append({key: value.clone() for key, value in supervisor.state_dict().items()})

    run(supervisor, on_nonfinite="skip", callbacks=[At(2, note), At(3, note)])
    assert caplog.text.count("the update is skipped (1 of at most 3)") == 1
    assert [key for key in states[0] if not torch.equal(states[0][key], states[1][key])] == []
    assert (supervisor.train_state.step, supervisor.train_state.epoch) == (8, 2)
    assert all(entry["loss"] == entry["loss"] for entry in supervisor.history)
    assert all(torch.isfinite(value).all() for value in supervisor.state_dict().values())


def test_25_batch_statistics_of_the_skipped_batch_are_forgotten() -> None:
    class Poisoned(all_supervisors()["rotate_net"]):
        calls = 0

        def _forward(self, data: Any) -> torch.Tensor:
            self.calls += 1
            return super()._forward((data[0] * BAD, data[1]) if self.calls == 3 else data)

    supervisor = run(toy("rotate_net", cls=Poisoned), on_nonfinite="skip")
    assert all(torch.isfinite(value).all() for value in supervisor.state_dict().values())


def test_25_the_count_goes_on_after_a_resume() -> None:
    def kill() -> None:
        raise RuntimeError("killed")

    settings = {"on_nonfinite": "skip", "checkpoint_every": 1}
    with pytest.raises(RuntimeError):
        run(failing("rotate_net", 1, 2, 3), callbacks=[At(4, kill)], **settings)
    with pytest.raises(NonFiniteLoss, match="3 updates were skipped"):
        run(failing("rotate_net", 2), resume=True, **settings)


def test_25_rows_of_the_skipped_batch_do_not_come_later() -> None:
    keys: list[int] = []
    supervisor = failing("momentum_contrast", 2)
    enqueue = supervisor.queue.enqueue
    supervisor.queue.enqueue = lambda rows: (keys.append(len(rows)), enqueue(rows))
    run(supervisor, on_nonfinite="skip", epochs=1)
    assert keys == [8, 8, 8]


def test_25_the_fourth_raises(caplog: Any) -> None:
    with pytest.raises(NonFiniteLoss, match=r"step 7 .*3 updates were skipped already.*nonfinite_limit"):
        run(failing("rotate_net", 2, 3, 5, 7), on_nonfinite="skip")
    assert caplog.text.count("is skipped") == 3
    run(failing("rotate_net", 2, 3, 5, 7), on_nonfinite="skip", nonfinite_limit=4, name="store/more")
    with pytest.raises(NonFiniteLoss, match="0 updates"):
        run(failing("rotate_net", 2), on_nonfinite="skip", nonfinite_limit=0, name="store/less")


def test_25_a_training_with_a_skipped_step_resumes_exactly() -> None:

    straight = run(failing("momentum_contrast", 2), on_nonfinite="skip", name="store/straight")

    def kill() -> None:
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        run(failing("momentum_contrast", 2), on_nonfinite="skip", callbacks=[At(5, kill)])
    assert digest(run(toy(cls=None), on_nonfinite="skip", resume=True)) == digest(straight)


def test_ignored_they_are_trained_on_but_never_stored() -> None:
    supervisor = failing("rotate_net", 2)
    with pytest.raises(NonFiniteLoss, match="were not stored"):
        run(supervisor, on_nonfinite="ignore")


@pytest.mark.parametrize("bad", [{"on_nonfinite": "stop"}, {"nonfinite_limit": -1}, {"nonfinite_limit": 1.5}])
def test_what_cannot_be_meant_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        run(toy(), **bad)
