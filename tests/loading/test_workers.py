"""Processes that read: what is theirs to do, and who reads when they cannot."""

from __future__ import annotations

import errno
import gc
import multiprocessing
import multiprocessing.process
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from super_selfish.errors import ConfigurationError, WorkerKilled
from super_selfish.images import functional
from super_selfish.loading import prefetch, workers
from super_selfish.loading.collate import Collator, Item
from super_selfish.loading.loader import TrainLoader, TrainState


class Numbers:
    """Items that are their own index, after something was done."""

    def __init__(self, do: Callable[[int], Any] = lambda index: None) -> None:
        self.do = do

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> torch.Tensor:
        found = self.do(index)
        return torch.tensor([index] if found is None else found)


def opened(do: Callable[[int], Any] = lambda index: None, count: int = 2, **options: Any) -> TrainLoader:
    return TrainLoader(Numbers(do), 4, TrainState(), lambda batch: batch.data, num_workers=count, **options)


def passes(loader: TrainLoader) -> list[list[int]]:
    read = []
    for _ in range(2):
        for batch in loader:
            read.append(batch.flatten().tolist())
            loader.commit()
    return read


def in_worker_at(index: int, act: Callable[[], Any]) -> Callable[[int], None]:
    def do(asked: int) -> None:
        if asked == index and multiprocessing.parent_process() is not None:
            act()

    return do


@pytest.fixture(autouse=True)
def _no_worker_is_left() -> Iterator[None]:
    yield
    if multiprocessing.active_children():
        gc.collect()  # an error that a test has caught may hold a loader
    assert not multiprocessing.active_children()


@pytest.fixture
def spawning() -> Iterator[None]:
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    yield
    multiprocessing.set_start_method(before, force=True)


@pytest.mark.usefixtures("spawning")
def test_a_data_set_that_cannot_be_copied_to_processes(caplog: pytest.LogCaptureFixture) -> None:
    assert passes(opened()) == passes(opened(count=0))
    (said,) = caplog.messages
    assert "module level" in said


def test_processes_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def start(_: Any) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    expected = passes(opened(count=0))
    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", start)
    assert passes(opened()) == expected
    (said,) = caplog.messages
    assert "Cannot allocate memory" in said


@pytest.mark.parametrize("order", [0, 9, 23])
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_no_shared_memory_in_the_middle(order: int, micro_batches: int, caplog: pytest.LogCaptureFixture) -> None:
    """Linux ends a process by SIGBUS that writes to shared memory which is full; nothing is read twice or left out."""
    plain = opened(count=0, micro_batches=micro_batches)
    index = int(plain.order(0)[order])
    failing = in_worker_at(index, lambda: os.kill(os.getpid(), signal.SIGBUS))
    read = passes(opened(failing, micro_batches=micro_batches))
    assert read == passes(plain)
    (said,) = caplog.messages
    assert "--shm-size" in said


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_processes_that_are_killed_are_an_error(number: signal.Signals) -> None:
    """What ends a process for its own fault would end this one, too."""
    with pytest.raises(WorkerKilled, match=number.name):
        passes(opened(in_worker_at(3, lambda: os.kill(os.getpid(), number))))


def test_errors_of_the_data_set_are_errors(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise RuntimeError("the user's own")

    with pytest.raises(RuntimeError, match="the user's own") as caught:
        passes(opened(in_worker_at(3, fail)))
    assert "in fail" in str(caught.value.__cause__)
    assert caplog.messages == []


class Unsendable:
    """What fails on its way from a worker, as a tensor does for which there is no shared memory."""

    def __init__(self, value: torch.Tensor, error: type[Exception]) -> None:
        self.value, self.error = value, error

    def __reduce__(self) -> Any:
        raise self.error("unable to allocate shared memory")


@pytest.mark.parametrize(
    ("error", "word"), [(RuntimeError, "--shm-size"), (OSError, "--shm-size"), (TypeError, "module")]
)
@pytest.mark.parametrize("order", [0, 9])
def test_batches_that_cannot_be_sent_are_read_here(
    order: int, error: type[Exception], word: str, caplog: pytest.LogCaptureFixture
) -> None:
    plain = opened(count=0)
    fails = int(plain.order(0)[order])

    def collate(items: list[Any]) -> Any:
        batch = torch.stack(items)
        inside = multiprocessing.parent_process() is not None
        return Unsendable(batch, error) if inside and fails in batch else batch

    assert passes(opened(collate_fn=collate)) == passes(plain)
    (message,) = caplog.messages
    assert word in message


def test_an_abandoned_pass_leaves_no_worker_and_the_next_starts_over() -> None:
    loader = opened()
    batches = iter(loader)
    first = next(batches)
    assert len(multiprocessing.active_children()) == 2
    batches.close()
    assert not multiprocessing.active_children()
    assert torch.equal(next(iter(loader)), first)


def test_workers_live_from_pass_to_pass_until_the_loader_is_closed() -> None:
    loader = opened(lambda index: [os.getpid()])
    first = {pid for batch in passes(loader) for pid in batch}
    assert len(first) == len(multiprocessing.active_children()) == 2
    loader.close()
    assert not multiprocessing.active_children()
    assert not first & {pid for batch in passes(loader) for pid in batch}


def test_workers_end_when_the_training_is_killed() -> None:
    """All of them hold the pipe: it ends when they do."""
    ear, mouth = os.pipe()
    if not (child := os.fork()):
        batches = iter(opened(in_worker_at(23, lambda: time.sleep(600))))
        os.write(mouth, bytes([int(next(batches)[0, 0] >= 0)]))
        os.kill(os.getpid(), signal.SIGKILL)
    os.close(mouth)
    os.waitpid(child, 0)
    assert os.read(ear, 1) == b"\x01"
    assert select.select([ear], [], [], 20)[0], "a worker still lives"
    assert os.read(ear, 1) == b""
    os.close(ear)


def test_a_signal_interrupts_the_wait_for_a_worker_at_once() -> None:
    def interrupt(*_: object) -> None:
        raise ZeroDivisionError

    before = signal.signal(signal.SIGALRM, interrupt)
    batches = iter(opened(in_worker_at(23, lambda: time.sleep(600))))
    next(batches)  # the workers have started
    began = time.monotonic()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(ZeroDivisionError):
            list(batches)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - began < 10


def test_a_worker_does_not_train(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is spawned imports the script, which trains where it has no guard."""
    monkeypatch.setattr(multiprocessing.current_process(), "name", workers.WORKER_NAME)
    with pytest.raises(ConfigurationError, match="__main__"):
        passes(opened())


def test_more_processes_than_cores_are_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    prefetch.warn_of_too_many_workers.cache_clear()
    monkeypatch.setattr(prefetch, "usable_cores", lambda: 1)
    for _ in range(2):
        opened(count=2)
    (said,) = caplog.messages
    assert "num_workers=2" in said
    caplog.clear()
    opened(count=1)
    assert caplog.messages == []


def test_torch_itself_stays_silent_about_cores() -> None:
    opened(count=2 * (os.cpu_count() or 1) + 1)  # a warning would be an error here


def test_each_process_has_one_thread_of_each_kind() -> None:
    torch.set_num_threads(2)
    try:
        batch = next(iter(opened(lambda index: [torch.get_num_threads(), functional.cv2.getNumThreads()])))
    finally:
        torch.set_num_threads(1)
    assert batch.tolist() == [[1, 1]] * 4


class TestPinned:
    @pytest.fixture
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
        """Sizes of what was to be page-locked, which needs a GPU."""
        sizes = []
        empty = torch.empty

        def fake(*size: Any, pin_memory: bool = False, **options: Any) -> torch.Tensor:
            if pin_memory:
                sizes.append(size[0])
            return empty(*size, **options)

        monkeypatch.setattr(torch, "empty", fake)
        return sizes

    @pytest.mark.parametrize(("batched", "size"), [(False, (2, 3, 32, 32, 3)), (True, (6, 32, 32, 3))])
    @pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.uint16])
    def test_images_are_collated_into_page_locked_memory(
        self, asked: list[tuple[int, ...]], batched: bool, size: tuple[int, ...], dtype: Any
    ) -> None:
        images = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32, 3)).astype(dtype)
        items = [Item(index, (image, torch.tensor([index]))) for index, image in enumerate(images)]
        collated = [Collator(batched, pin=pin)(items).data[0] for pin in (True, False)]
        assert asked == [size]
        assert torch.equal(*collated)

    def test_in_this_process_but_not_in_workers(self, asked: list[tuple[int, ...]]) -> None:
        def images() -> list[np.ndarray]:
            return [np.full((40, 40, 3), index, np.uint8) for index in range(8)]

        for threads in (1, 2):
            loader = TrainLoader(images(), 4, TrainState(), lambda batch: batch.data, pin=True)
            loader._loader = prefetch.open_loader(
                loader._loader.dataset, loader._loader.batch_sampler, loader._loader.collate_fn,
                num_workers=0, threads=threads, ahead=1,
            )  # fmt: skip
            assert len(list(loader)) == 2
            assert asked == [(4, 40, 40, 3)] * 2
            asked.clear()
        assert (
            TrainLoader(images(), 4, TrainState(), lambda batch: batch, num_workers=1)._loader.collate_fn.pin is False
        )
