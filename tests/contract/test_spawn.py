"""Start methods other than ``fork``: workers give the same training, a resume continues it, scripts need a guard."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from stopping import RaiseAfter

from super_selfish import load
from super_selfish.cli import main

RUN = {"epochs": 2, "batch_size": 4, "watch": 0, "verbose": False, "checkpoint_every": 1}
pytestmark = pytest.mark.slow


@pytest.fixture(params=sorted({"spawn", "forkserver"} & set(multiprocessing.get_all_start_methods())))
def _start_method(request: pytest.FixtureRequest) -> Iterator[None]:
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method(request.param, force=True)
    yield
    multiprocessing.set_start_method(before, force=True)


class Killed(BaseException):
    pass


@pytest.mark.usefixtures("_start_method")
def test_workers_and_resume_give_the_same_training(
    make: Callable[..., Any], images: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    straight = make(images(8)).supervise(**RUN, name="straight")
    with pytest.raises(Killed):
        make(images(8)).supervise(**RUN, name="parts", num_workers=1, callbacks=[RaiseAfter(3, Killed)])
    resumed = make(images(8)).supervise(**RUN, name="parts", num_workers=1, resume=True)
    assert all(torch.equal(value, resumed.state_dict()[key]) for key, value in straight.state_dict().items())
    assert "worker processes cannot be used" not in caplog.text


@pytest.mark.usefixtures("_start_method")
def test_commands_give_the_same_training(caplog: pytest.LogCaptureFixture) -> None:
    for number in range(8):
        place = Path("photos", "ab"[number % 2])
        place.mkdir(parents=True, exist_ok=True)
        image = np.random.default_rng(number).integers(0, 256, (40, 48, 3), np.uint8)
        Image.fromarray(image).save(place / f"{number}.png")
    train = ["train", "rotate_net", "photos", "--resolution", "32", "--backbone", "small_resnet", "--device", "cpu"]
    train += ["--batch-size", "4", "--watch", "0", "--quiet"]
    assert main([*train, "--epochs", "2", "--name", "straight"]) == 0
    assert main([*train, "--epochs", "1", "--name", "parts", "--num-workers", "1"]) == 0
    assert main([*train, "--epochs", "2", "--name", "parts", "--num-workers", "1", "--resume"]) == 0
    assert main(["evaluate", "parts", "photos", "--seeds", "1", "--num-workers", "1"]) == 0
    straight, parts = (load(name).state_dict() for name in ("straight", "parts"))
    assert all(torch.equal(value, parts[key]) for key, value in straight.items())
    assert "worker processes cannot be used" not in caplog.text


SCRIPT = """
import multiprocessing, os, sys
if multiprocessing.get_start_method(allow_none=True) is None:
    multiprocessing.set_start_method(sys.argv[1])
import numpy as np, torch
from super_selfish.supervisors import RotateNetSupervisor
torch.set_num_threads(1)
images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
supervisor = RotateNetSupervisor(images, backbone="small_resnet")
workers = 0 if sys.argv[2] == "process" else 1
run = {"epochs": 1, "batch_size": 4, "watch": 0, "verbose": False, "name": f"store/run_{os.getpid()}"}
supervisor.supervise(num_workers=workers, **run)
print("TRAINED in", multiprocessing.current_process().name, flush=True)
if sys.argv[2] == "process":
    process = multiprocessing.Process(target=print)
    process.start()
    process.join()
"""


@pytest.mark.parametrize("who", ["worker", "process"])
def test_a_script_without_a_guard_trains_once(who: str, run_python: Callable[..., Any]) -> None:
    """Neither a data-loading worker nor a process of the user's own trains a second time when it imports the script."""
    Path("train.py").write_text(SCRIPT)
    run = run_python("train.py", "spawn", who, OMP_NUM_THREADS="1")
    assert len(list(Path("store").glob("*.safetensors"))) == 1, run.stderr
    assert run.stdout.count("TRAINED") == 1
    assert "A worker process imported the script and started a training" in run.stderr
    assert "__main__" in run.stderr
