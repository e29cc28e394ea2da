"""Distributed training matches training in a single process, and handles failures of one process."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from starting import environment, finished, started
from torch import Tensor

from super_selfish.distributed.group import first_host, process_environment
from super_selfish.errors import ConfigurationError
from super_selfish.storage.checkpoint_folder import CheckpointFolder
from super_selfish.supervisors import all_supervisors

HERE = Path(__file__).parent
SHUFFLED = "momentum_contrast_shuffled"
NAMES = [*all_supervisors(), SHUFFLED]
Start = Callable[..., list["subprocess.Popen[str]"]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start processes; remaining ones are killed after the test."""
    running: list[subprocess.Popen[str]] = []

    def call(world: int, *arguments: object, timeout: int = 120) -> list[subprocess.Popen[str]]:
        running.extend(started(world, *arguments, timeout=timeout))
        return running[-world:]

    yield call
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, str], Path]:
    """Folder with the results of all algorithms for a number of processes; cached for the session."""
    results_by_world: dict[tuple[int, str], Path] = {}

    def get(world: int, norm: str) -> Path:
        if (world, norm) not in results_by_world:
            folder = tmp_path_factory.mktemp(f"{norm}-{world}")
            finished(started(world, HERE / "worker.py", folder, norm), timeout=600)
            results_by_world[world, norm] = folder
        return results_by_world[world, norm]

    return get


def difference(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    assert first.keys() == second.keys()
    gaps = [(value.double() - second[key].double()).abs().max() for key, value in first.items() if value.numel()]
    return float(torch.stack(gaps).max())  # NaN if one of them is NaN


@pytest.mark.faults
@pytest.mark.promise(12)
@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("norm", ["layer", "batch"])
@pytest.mark.parametrize("name", NAMES)
def test_matches_a_single_process(results: Callable[[int, str], Path], name: str, norm: str, world: int) -> None:
    """Losses and weights are those of a single process but for rounding, and identical on all ranks."""
    alone = torch.load(results(1, norm) / f"{name}-{norm}-0.pt")
    ranks = [torch.load(results(world, norm) / f"{name}-{norm}-{rank}.pt") for rank in range(world)]
    for other in ranks[1:]:
        assert all(torch.equal(value, other["state"][key]) for key, value in ranks[0]["state"].items())
    tolerance = 1e-5 if norm == "batch" else 5e-5  # float64 and float32
    assert difference(alone["state"], ranks[0]["state"]) < tolerance
    assert ranks[0]["losses"] == pytest.approx(alone["losses"], abs=tolerance)
    assert len(alone["losses"]) == 4


@pytest.mark.faults
@pytest.mark.parametrize("name", sorted(all_supervisors()))
def test_updates_by_hand_match_a_single_process(start: Start, tmp_path: Path, name: str) -> None:
    for world in (1, 2):
        (tmp_path / str(world)).mkdir()
        finished(start(world, HERE / "scenario.py", f"by_hand:{name}:yes", tmp_path / str(world)))
    alone = torch.load(tmp_path / "1" / "hand-1-0.pt")
    first, second = (torch.load(tmp_path / "2" / f"hand-2-{rank}.pt") for rank in (0, 1))
    assert all(torch.equal(value, second["state"][key]) for key, value in first["state"].items())
    assert difference(alone["state"], first["state"]) < 1e-12
    assert first["losses"] == pytest.approx(alone["losses"], abs=1e-6)


@pytest.mark.faults
def test_updates_by_hand_from_own_gradients_are_refused(start: Start, tmp_path: Path) -> None:
    processes = start(2, HERE / "scenario.py", "by_hand:rotate_net:no", tmp_path)
    output = [process.communicate(timeout=120)[0] for process in processes]
    assert all(process.returncode for process in processes)
    assert all("sync_gradients" in text for text in output)


@pytest.mark.faults
@pytest.mark.promise(13)
@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 4)])
@pytest.mark.parametrize("name", ["momentum_contrast", "instance_discrimination"])
def test_resume_with_another_number_of_processes(
    start: Start, tmp_path: Path, name: str, before: int, after: int
) -> None:
    straight, parts = tmp_path / "straight", tmp_path / "parts"
    for folder in (straight, parts):
        folder.mkdir()
    first = start(before, HERE / "scenario.py", f"part:{name}:first", parts)
    whole = start(1, HERE / "scenario.py", f"part:{name}:whole", straight)
    finished(whole)
    for process in first:
        process.wait(300)
    finished(start(after, HERE / "scenario.py", f"part:{name}:second", parts))
    expected, got = torch.load(straight / "whole-0.pt"), torch.load(parts / "second-0.pt")
    assert difference(expected, got) < 1e-5


def wait_for_step(folder: Path, step: int) -> None:
    for _ in range(1200):
        if (folder / "step-0").exists() and int((folder / "step-0").read_text() or 0) >= step:
            return
        time.sleep(0.1)
    raise AssertionError("timeout")


@pytest.mark.faults
@pytest.mark.promise(18)
def test_signal_to_one_process_stops_all_at_the_same_step(start: Start, tmp_path: Path) -> None:
    processes = start(2, HERE / "scenario.py", "signal", tmp_path)
    wait_for_step(tmp_path, 3)
    processes[1].send_signal(signal.SIGTERM)
    sent = time.monotonic()
    output = [process.communicate(timeout=60)[0] for process in processes]
    assert time.monotonic() - sent < 20
    assert [process.returncode for process in processes] == [143, 143], output
    assert (tmp_path / "step-0").read_text() == (tmp_path / "step-1").read_text()
    step = int((tmp_path / "step-0").read_text())
    newest = CheckpointFolder(tmp_path / "rotate_net-layer").newest_valid()
    assert newest is not None
    assert newest.step == step


@pytest.mark.faults
@pytest.mark.promise(23)
def test_killed_process_is_reported(start: Start, tmp_path: Path) -> None:
    processes = start(2, HERE / "scenario.py", "killed", tmp_path)
    assert processes[1].wait(120) == -signal.SIGKILL
    died = time.monotonic()
    output = processes[0].communicate(timeout=60)[0]
    assert time.monotonic() - died < 15
    assert processes[0].returncode not in (0, None)
    assert "ProcessLost: Rank 0 of 2, step 3" in output


@pytest.mark.faults
@pytest.mark.promise(22)
@pytest.mark.parametrize("hanging", [0, 1])
def test_hanging_process_is_reported(start: Start, tmp_path: Path, hanging: int) -> None:
    processes = start(2, HERE / "scenario.py", f"hangs:{hanging}", tmp_path, timeout=4)
    wait_for_step(tmp_path, 3)
    hung = time.monotonic()
    output = processes[1 - hanging].communicate(timeout=60)[0]
    assert time.monotonic() - hung < 15  # including the shutdown of Python
    assert processes[1 - hanging].returncode not in (0, None)
    assert f"ProcessLost: Rank {1 - hanging} of 2, step 3" in output
    assert f"no response from rank {hanging}." in output


@pytest.mark.faults
@pytest.mark.promise(24)
def test_non_finite_loss_in_one_process_stops_all(start: Start, tmp_path: Path) -> None:
    processes = start(2, HERE / "scenario.py", "nan", tmp_path)
    output = [process.communicate(timeout=120)[0] for process in processes]
    assert all("NonFiniteLoss" in text and "step 3" in text for text in output), output
    assert 0 not in [process.returncode for process in processes]


@pytest.mark.faults
@pytest.mark.promise(21)
def test_torchrun_restarts_from_the_last_checkpoint(tmp_path: Path) -> None:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=2"]
    run = subprocess.run(
        [sys.executable, *torchrun, str(HERE / "scenario.py"), "restart", str(tmp_path)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert [(tmp_path / f"began-{rank}").read_text() for rank in range(2)] == ["1 5", "1 5"]  # attempt, step
    (tmp_path / "alone").mkdir()
    alone = started(1, HERE / "scenario.py", "restart", tmp_path / "alone")
    finished(alone)
    states = [torch.load(tmp_path / f"restarted-{rank}.pt") for rank in range(2)]
    assert difference(states[0], states[1]) == 0
    assert difference(states[0], torch.load(tmp_path / "alone" / "restarted-0.pt")) < 1e-5


@pytest.mark.faults
@pytest.mark.promise(9)
def test_full_disk_does_not_stop_the_training(start: Start, tmp_path: Path) -> None:
    """If rank 0 cannot write checkpoints, training continues and earlier checkpoints are kept.

    At the end, the weights cannot be written either, and all processes terminate with an error.
    """
    (tmp_path / "run").mkdir()
    processes = start(2, HERE / "scenario.py", "full", tmp_path)
    output = [process.communicate(timeout=120)[0] for process in processes]
    assert "checkpoint of step 4" in output[0]
    assert "CheckpointError" in output[0]  # the weights, at the end
    assert "ProcessLost: Rank 1 of 2, step 6" in output[1]
    assert 0 not in [process.returncode for process in processes]
    newest = CheckpointFolder(tmp_path / "run" / "rotate_net-layer").newest_valid()
    assert newest is not None
    assert newest.step == 2


def of_worlds(start: Start, folder: Path, what: str) -> list[list[Any]]:
    """Results of each rank of a scenario with 1, 2 and 4 processes."""
    results_by_world = []
    for world in (1, 2, 4):
        (folder / str(world)).mkdir()
        finished(start(world, HERE / "scenario.py", what, folder / str(world)))
        results_by_world.append([torch.load(folder / str(world) / f"{what}-{rank}.pt") for rank in range(world)])
    return results_by_world


@pytest.mark.faults
@pytest.mark.promise(40)
def test_each_image_is_read_once_per_epoch(start: Start, tmp_path: Path) -> None:
    (steps,), *several = of_worlds(start, tmp_path, "order")
    assert [len(step) for step in steps] == [8] * 8
    for epoch in (steps[:4], steps[4:]):
        assert sorted(index for step in epoch for index in step) == list(range(32))
    for ranks in several:
        assert [list(itertools.chain(*parts)) for parts in zip(*ranks, strict=True)] == steps


@pytest.mark.faults
@pytest.mark.promise(40)
def test_gradients_through_gather(start: Start, tmp_path: Path) -> None:
    (expected,), *several = of_worlds(start, tmp_path, "gradient")
    for parts in several:
        assert float((torch.cat(parts) - expected).abs().max()) < 1e-12


@pytest.mark.slow
def test_different_settings_raise(start: Start, tmp_path: Path) -> None:
    processes = start(2, HERE / "scenario.py", "seeds", tmp_path)
    output = [process.communicate(timeout=120)[0] for process in processes]
    assert all("`seed` differs" in text and "rank 0: 0, rank 1: 1" in text for text in output), output


@pytest.mark.slow
def test_subclasses_of_batch_norm(start: Start, tmp_path: Path) -> None:
    """A batch norm with an activation is supported; one with another forward() raises an error."""
    for world in (1, 2):
        (tmp_path / str(world)).mkdir()
        finished(start(world, HERE / "scenario.py", "activated", tmp_path / str(world)))
    alone = torch.load(tmp_path / "1" / "activated-0.pt")
    assert difference(alone, torch.load(tmp_path / "2" / "activated-0.pt")) < 1e-5
    output = start(2, HERE / "scenario.py", "strange", tmp_path)[0].communicate(timeout=120)[0]
    assert "ConfigurationError: A Strange" in output


@pytest.mark.slow
def test_custom_data_loader_without_sharding_raises(start: Start, tmp_path: Path) -> None:
    output = start(2, HERE / "scenario.py", "custom_loader", tmp_path)[0].communicate(timeout=120)[0]
    assert "same batches" in output


@pytest.mark.slow
def test_indivisible_batch_size_raises(start: Start, tmp_path: Path) -> None:
    processes = start(2, HERE / "scenario.py", "uneven", tmp_path)
    output = [process.communicate(timeout=120)[0] for process in processes]
    assert all("divided" in text and "batch_size=14" in text for text in output)


TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1"}


def test_process_environment() -> None:
    assert process_environment({}) == {}
    assert process_environment(TORCHRUN) == TORCHRUN
    slurm = {"SLURM_NTASKS": "8", "SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_STEP_ID": "0", "SLURM_JOB_ID": "7"}
    variables = process_environment(slurm | {"SLURM_STEP_NODELIST": "gpu[03-04]"})
    assert (variables["RANK"], variables["WORLD_SIZE"], variables["LOCAL_RANK"]) == ("5", "8", "1")
    assert (variables["MASTER_ADDR"], variables["MASTER_PORT"]) == ("gpu03", "20007")
    assert process_environment(slurm | {"SLURM_NTASKS": "1"}) == {}
    assert first_host("n1,n2") == "n1"
    with pytest.raises(ConfigurationError, match="MASTER_ADDR"):
        process_environment({"RANK": "0", "WORLD_SIZE": "2"})


def test_collectives_of_a_single_process_are_no_ops() -> None:
    from super_selfish.distributed import gather, gather_with_gradient, mean_of_ranks, own_part, rank, world

    rows: Any = torch.rand(4, 3, requires_grad=True)
    assert gather_with_gradient(rows) is rows
    assert own_part(rows) is rows
    assert gather(rows) is rows
    mean_of_ranks([rows])
    assert (rank(), world()) == (0, 1)
