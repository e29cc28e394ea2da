"""``super-selfish train --processes`` and torchrun: launching and termination of all processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file
from starting import environment

from super_selfish.cli import main
from super_selfish.storage.checkpoint_folder import CheckpointFolder

HERE = Path(__file__).parent
TRAIN = ["train", "rotate_net", "photos", "--resolution", "32", "--backbone", "small_resnet", "--device", "cpu"]
TRAIN += ["--batch-size", "8", "--watch", "0"]
COMMAND = [sys.executable, "-m", "super_selfish", *TRAIN]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=2"]
Run = Callable[[list[str]], "subprocess.Popen[str]"]


@pytest.fixture(autouse=True)
def photos() -> None:
    """Sixteen images."""
    Path("photos").mkdir()
    for number in range(16):
        image = np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(image).save(f"photos/{number}.png")


@pytest.fixture
def run() -> Iterator[Run]:
    """Start a command in a new session; remaining processes are killed after the test."""
    started = []

    def call(arguments: list[str]) -> subprocess.Popen[str]:
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        started.append(subprocess.Popen(arguments, env=environment(), text=True, start_new_session=True, **streams))
        return started[-1]

    yield call
    for process in started:
        for process_id in session_of(process):
            os.kill(process_id, signal.SIGKILL)
        process.kill()
        process.communicate()


def session_of(process: subprocess.Popen[str]) -> list[int]:
    """IDs of the running processes in the session of a process."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session, *_ = stat.read_text().rpartition(")")[2].split()
        except OSError:  # the process has just terminated
            continue
        if int(session) == process.pid and state != "Z":
            found.append(int(stat.parent.name))
    return found


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("timeout")


def newest_step(base: str) -> int:
    newest = CheckpointFolder(Path(base)).newest_valid()
    return 0 if newest is None else newest.step


@pytest.mark.faults
def test_two_processes_match_a_single_process(run: Run) -> None:
    more = ["--epochs", "1", "--optimizer", "sgd"]
    assert main([*TRAIN, *more, "--quiet", "--name", "store/one"]) == 0
    process = run([*COMMAND, *more, "--processes", "2", "--name", "store/two"])
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    assert output.count("Stored in") == 1
    one, two = load_file("store/one.safetensors"), load_file("store/two.safetensors")
    assert max(float((one[key].double() - two[key].double()).abs().max()) for key in one) < 1e-4
    assert session_of(process) == []


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--processes", "3"], "divided"),
        (["--processes", "0"], "--processes"),
        (["--processes", "2", "--lr", "-1"], "--lr"),
        (["--processes", "2", "--max-pixels", "10"], "--max-pixels"),
    ],
)
def test_invalid_arguments_start_no_process(
    arguments: list[str], word: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("super_selfish.cli.algorithms.launch", lambda *_: pytest.fail("processes were started"))
    assert main([*TRAIN, "--epochs", "1", *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("super-selfish: ")
    assert word in error


@pytest.mark.faults
@pytest.mark.promise(19)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_signal_to_the_command_stops_all_processes(run: Run, number: signal.Signals) -> None:
    process = run([*COMMAND, "--epochs", "1000", "--checkpoint-every", "2", "--processes", "2", "--name", "store/a"])
    wait_until(lambda: newest_step("store/a") >= 4)
    process.send_signal(number)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 143, output
    assert session_of(process) == []
    step = newest_step("store/a")
    assert f"Stopped by SIGTERM after step {step} of 2000." in output
    again = run([*COMMAND, "--epochs", str(step // 2 + 2), "--resume", "--name", "store/a"])
    assert again.communicate(timeout=120)[0].count("Stored in") == 1
    assert again.returncode == 0
    assert newest_step("store/a") == (step // 2 + 2) * 2


@pytest.mark.faults
@pytest.mark.promise(19)
@pytest.mark.parametrize(("number", "workers"), [(signal.SIGTERM, 0), (signal.SIGUSR1, 0), (signal.SIGTERM, 2)])
def test_signal_to_torchrun_stops_all_processes(run: Run, number: signal.Signals, workers: int, tmp_path: Path) -> None:
    signals = ["--signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"]  # without SIGUSR1 by default
    process = run([*TORCHRUN, *signals, str(HERE / "scenario.py"), f"signal:{workers}", str(tmp_path)])
    wait_until(lambda: (tmp_path / "step-0").exists() and int((tmp_path / "step-0").read_text() or 0) >= 3)
    process.send_signal(number)
    output = process.communicate(timeout=60)[0]
    assert process.returncode not in (0, None)
    assert session_of(process) == []
    assert (tmp_path / "step-0").read_text() == (tmp_path / "step-1").read_text(), output
    assert newest_step(str(tmp_path / "rotate_net-layer")) == int((tmp_path / "step-0").read_text())


SCRIPT = """
import os
import numpy as np
from super_selfish.supervisors import MomentumContrastSupervisor

open(f"started-{os.environ['RANK']}", "a").write("1")
images = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), np.uint8)
supervisor = MomentumContrastSupervisor(images, backbone="small_resnet", queue_size=32, m=0.9)
supervisor.supervise(epochs=1, batch_size=16, name="run", verbose=False)
"""


@pytest.mark.faults
@pytest.mark.promise(21)
@pytest.mark.parametrize("launch", range(3))
def test_processes_that_are_done_exit_without_a_restart(run: Run, launch: int) -> None:
    Path("script.py").write_text(SCRIPT)
    process = run([*TORCHRUN, "script.py"])
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 0, output
    assert "terminate called" not in output
    assert [Path(f"started-{rank}").read_text() for rank in range(2)] == ["1", "1"]
