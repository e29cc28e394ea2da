"""Promises 14 and 16 to 20: what a run does when it is asked to stop."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from toys import At, digest, run, toy

from super_selfish.engine.loop import signals
from super_selfish.errors import ConfigurationError, Preempted
from super_selfish.supervisors import MomentumContrastSupervisor


def send(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


class OwnEpochs(MomentumContrastSupervisor):
    """A user's own loop."""

    def _epochs(self, epochs: int, train_loader: Iterable[Any], optimizer: Any, lr_scheduler: Any) -> None:
        for _ in range(epochs):
            for data in train_loader:
                self._forward(data).backward()
                optimizer.step()
                optimizer.zero_grad()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("step", [1, 4, 6])
def test_16_asked_to_stop_it_saves_exits_with_143_and_goes_on_exactly(number: int, step: int) -> None:
    straight = run(toy(), name="store/straight")
    before = {kind: signal.getsignal(kind) for kind in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)}
    stopped = toy()
    with pytest.raises(Preempted) as told:
        run(stopped, callbacks=[At(step, send(number))], checkpoint_every=100)
    assert told.value.code == 143
    assert isinstance(told.value, SystemExit)
    assert stopped.train_state.step == step
    assert {kind: signal.getsignal(kind) for kind in before} == before
    assert Path("store/run.safetensors").is_file()
    assert not Path("store/run.lock").exists()
    assert digest(run(toy(), resume=True)) == digest(straight)


def test_14_a_users_own_loop_keeps_all_that() -> None:
    straight = run(toy(cls=OwnEpochs), name="store/straight")
    with pytest.raises(Preempted):
        run(toy(cls=OwnEpochs), callbacks=[At(3, send(signal.SIGTERM))])
    assert digest(run(toy(cls=OwnEpochs), resume=True)) == digest(straight)


def test_14_a_loop_that_reads_batches_of_its_own_is_stopped_too() -> None:
    class Reads(MomentumContrastSupervisor):
        def _epochs(self, epochs: int, train_loader: Any, optimizer: Any, lr_scheduler: Any) -> None:
            for number in range(100):
                torch.manual_seed(number)
                views = torch.rand(2, 8, 3, 32, 32)
                self._forward((views[0], views[1])).backward()
                optimizer.step()
                optimizer.zero_grad()

    supervisor = toy(cls=Reads)
    with pytest.raises(Preempted):
        run(supervisor, callbacks=[At(3, send(signal.SIGTERM))])
    assert supervisor.train_state.step == 3


def test_16_in_the_middle_of_a_step_that_step_is_finished_first() -> None:
    class Struck(MomentumContrastSupervisor):
        def _forward(self, data: Any) -> Any:
            if self.train_state.step == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            return super()._forward(data)

    supervisor = toy(cls=Struck)
    with pytest.raises(Preempted):
        run(supervisor)
    assert supervisor.train_state.step == 3
    assert supervisor.queue.pointer.item() == 24


def test_17_ctrl_c_saves_and_is_raised_again(capfd: Any) -> None:
    straight = run(toy(), name="store/straight")
    stopped = toy()
    with pytest.raises(KeyboardInterrupt):
        run(stopped, callbacks=[At(3, send(signal.SIGINT))], checkpoint_every=100)
    assert "Ctrl-C again" in capfd.readouterr().err
    assert stopped.train_state.step == 3
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert digest(run(toy(), resume=True)) == digest(straight)


def test_17_ctrl_c_twice_leaves_at_once_and_the_checkpoint_before_is_good() -> None:
    straight = run(toy(), name="store/straight")

    class Impatient(MomentumContrastSupervisor):
        def _forward(self, data: Any) -> Any:
            if self.train_state.step == 5:
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)
                raise AssertionError("it went on")
            return super()._forward(data)

    with pytest.raises(KeyboardInterrupt):
        run(toy(cls=Impatient))
    assert not Path("store/run.safetensors").exists()
    steps: list[int] = []
    first = At(5, lambda: steps.append(5))
    resumed = run(toy(), resume=True, callbacks=[first])
    assert steps == [5]  # on from the epoch's checkpoint, of step 4
    assert digest(resumed) == digest(straight)


def test_a_stop_in_the_last_step_is_a_finished_run() -> None:
    supervisor = toy()
    with pytest.raises(Preempted):
        run(supervisor, callbacks=[At(8, send(signal.SIGTERM))])
    again = toy()
    run(again, resume=True)
    assert (again.train_state.epoch, digest(again)) == (2, digest(supervisor))


def test_outside_the_main_thread_training_works_and_no_handler_changes() -> None:
    done: list[int] = []
    thread = threading.Thread(target=lambda: done.append(run(toy(), epochs=1).train_state.step))
    before = signal.getsignal(signal.SIGTERM)
    thread.start()
    thread.join()
    assert done == [4]
    assert signal.getsignal(signal.SIGTERM) is before


def scontrol(folder: Path, status: int = 0) -> None:
    """A fake that notes its arguments, one a line."""
    program = folder / "scontrol"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> "{folder}/asked"\nexit {status}\n')
    program.chmod(0o755)


def test_20_the_job_is_put_back_into_the_queue_once_with_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scontrol(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "1234_5")
    with pytest.raises(Preempted):
        run(toy(), callbacks=[At(2, send(signal.SIGUSR1))], requeue=True)
    assert (tmp_path / "asked").read_text().split() == ["requeue", "1234_5"]
    with pytest.raises(KeyboardInterrupt):
        run(toy(), callbacks=[At(2, send(signal.SIGINT))], requeue=True, name="store/other")
    with pytest.raises(Preempted):
        run(toy(), callbacks=[At(2, send(signal.SIGTERM))], name="store/third")
    assert len((tmp_path / "asked").read_text().split()) == 2


@pytest.mark.parametrize("job", ["", "12; touch evil", "$(touch evil)", "12\n", "-1"])
def test_20_what_is_no_number_is_refused_before_training(
    job: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scontrol(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", job)
    with pytest.raises(ConfigurationError, match="SLURM_JOB_ID"):
        run(toy(), requeue=True)
    assert not (tmp_path / "asked").exists()
    assert not Path("evil").exists()


def test_20_a_failing_scheduler_is_an_error_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    scontrol(tmp_path, status=1)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    signals.requeue()
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    signals.requeue()
    assert caplog.text.count("job 7 could not") == 2


def test_a_job_that_was_started_again_continues_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    straight = run(toy(), name="store/straight")
    with pytest.raises(Preempted):
        run(toy(), callbacks=[At(3, send(signal.SIGTERM))])
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert digest(run(toy())) == digest(straight)
