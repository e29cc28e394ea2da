"""Reading by threads: the same batches as without, and no thread is left behind."""

from __future__ import annotations

import gc
import subprocess
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from super_selfish.data import ImageDataset, PretextDataset, RotateDataset, open_source
from super_selfish.datasets.preprocessing import Preprocessing
from super_selfish.errors import UnreadableImage
from super_selfish.loading import loader as loaders
from super_selfish.loading import prefetch
from super_selfish.loading.loader import TrainLoader, TrainState
from super_selfish.loading.prefetch import THREAD_NAME, ThreadedLoader
from super_selfish.pretext.base import Sample
from super_selfish.seeding import KeyedGenerator


class Record(PretextDataset):
    """The index of the image and a random number; remembers which thread read what."""

    def __init__(self, dataset: object) -> None:
        super().__init__(dataset)
        self.seen: list[tuple[str, int]] = []

    def sample(self, index: int, generator: KeyedGenerator) -> Sample:
        self.seen.append((threading.current_thread().name, index))
        return torch.tensor(index), torch.tensor(generator.uniform())

    @property
    def readers(self) -> set[str]:
        return {name for name, _ in self.seen}


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert reading() == []


@pytest.fixture
def three_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loaders, "reading_threads", lambda source: 3)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve images; the second and the seventh are no images."""
    numbers = np.random.default_rng(0)
    for index in range(12):
        path = tmp_path / f"{index:02}.png"
        Pillow.fromarray(numbers.integers(0, 256, (40, 48, 3), np.uint8)).save(path)
        if index in (1, 6):
            path.write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    return tmp_path


def reading() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(THREAD_NAME)]


def opened(dataset: Any, batch: int = 3, **settings: Any) -> TrainLoader:
    return TrainLoader(dataset, batch, TrainState(), lambda given: given, **settings)


def zeros(size: int = 12) -> Any:
    return np.zeros((size, 32, 32, 3), np.uint8)


def plainly(threads: int, ahead: int, read: Callable[[int], Any], batches: int = 5) -> Iterator[list[Any]]:
    """Passes over batches of four, of any function of the numbers from 0."""

    class Numbers:
        def __getitem__(self, number: int) -> Any:
            return read(number)

    requests = [range(4 * batch, 4 * batch + 4) for batch in range(batches)]
    return iter(ThreadedLoader(Numbers(), requests, list, threads=threads, ahead=ahead))


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.parametrize("threads", [1, 3, 5])
@pytest.mark.parametrize("ahead", [0, 1, 2, 9])
def test_batches_come_in_order(threads: int, ahead: int) -> None:
    def read(number: int) -> int:
        time.sleep(0.001 * (number % 3))
        return number

    assert list(plainly(threads, ahead, read)) == [list(range(first, first + 4)) for first in range(0, 20, 4)]


@pytest.mark.parametrize("settings", [{}, {"micro_batches": 2}, {"shuffle": False, "seed": 3}])
@pytest.mark.parametrize("ahead", [0, 2])
def test_threads_and_workers_change_nothing(
    photos: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], ahead: int
) -> None:
    def trained(threads: int, workers: int) -> list[Any]:
        monkeypatch.setattr(loaders, "reading_threads", lambda source: threads)
        images = ImageDataset.from_(photos, Preprocessing((32, 32), 3, None, None, None))
        dataset = RotateDataset(images, crop=(0.3, 1.0), flip=0.5)
        source = opened(dataset, 4, on_error="skip", num_workers=workers, ahead=ahead, **settings)
        assert isinstance(source._loader, ThreadedLoader) == (threads > 1 and workers == 0)
        batches = []
        for limit in (2 * source.micro_batches, 99, 99):  # left in the middle of the first epoch
            for batch in source:
                batches.append(batch)
                if source.in_last_micro_batch:
                    source.commit()
                limit -= 1
                if not limit:
                    break
        assert source.train_state == TrainState(epoch=2, batch=0, step=6, samples=24)
        assert set(source.skipped) == {1, 6}
        return [(batch.data[0].numpy().tobytes(), batch.data[1], batch.indices, batch.failures) for batch in batches]

    def same(some: list[Any], others: list[Any]) -> bool:
        return all(
            a[0] == b[0] and torch.equal(a[1], b[1]) and a[2:] == b[2:] for a, b in zip(some, others, strict=True)
        )

    plain = trained(1, 0)
    assert not same(plain[:1], plain[1:2])
    assert same(trained(3, 0), plain)
    if settings.get("micro_batches") and ahead:
        assert same(trained(3, 2), plain)


@pytest.mark.parametrize("ahead", [0, 2])
def test_an_exception_comes_at_its_batch(ahead: int) -> None:
    def read(number: int) -> int:
        if number in (9, 11):
            raise ZeroDivisionError(f"number {number}")
        return number

    batches = plainly(3, ahead, read)
    assert [next(batches), next(batches)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    with pytest.raises(ZeroDivisionError, match="number 9") as caught:
        next(batches)
    assert caught.traceback[-1].name == "read"
    assert reading() == []


@pytest.mark.usefixtures("three_threads")
def test_an_unreadable_image_comes_at_its_batch(photos: Path) -> None:
    images = ImageDataset.from_(photos, Preprocessing((32, 32), 3, None, None, None))
    (photos / "01.png").write_bytes((photos / "00.png").read_bytes())
    batches = iter(opened(RotateDataset(images), 3, shuffle=False, ahead=2))
    assert [next(batches).indices, next(batches).indices] == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(UnreadableImage, match=r"06\.png"):
        next(batches)


@pytest.mark.parametrize("ahead", [0, 1, 2])
def test_reading_ahead_is_bounded(ahead: int) -> None:
    seen: set[int] = set()
    batches = plainly(2, ahead, lambda number: seen.add(number) or number)
    assert seen == set()
    for wanted in (4 + 4 * ahead, 8 + 4 * ahead):
        next(batches)
        until(lambda wanted=wanted: len(seen) >= wanted)
        time.sleep(0.05)
        assert seen == set(range(wanted))


def test_a_pass_that_is_given_up_reads_no_further() -> None:
    held, seen = threading.Event(), []

    def read(number: int) -> int:
        seen.append(number)
        if number >= 4:
            held.wait(20)
        return number

    batches = plainly(2, 3, read)
    next(batches)
    until(lambda: len(seen) == 6)
    assert len(reading()) == 2
    threading.Timer(0.1, held.set).start()
    del batches
    gc.collect()
    assert reading() == []
    assert sorted(seen) == [0, 1, 2, 3, 4, 6], "only the images under way are finished"


def test_an_interrupt_of_the_consumer_ends_the_threads() -> None:
    seen = []

    def read(number: int) -> int:
        seen.append(number)
        time.sleep(0.01)
        return number

    def consume() -> None:
        for _ in plainly(2, 2, read, batches=500):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        consume()
    assert reading() == []
    assert len(seen) < 12


def test_garbage_may_be_collected_by_a_reading_thread() -> None:
    passes: list[Any] = []
    closed_by: list[str] = []
    handed_over = threading.Event()

    def read(number: int) -> int:
        if number == 4:
            handed_over.wait(20)
            passes.pop().close()
            closed_by.append(threading.current_thread().name)
        return number

    batches = plainly(2, 1, read)
    assert next(batches) == [0, 1, 2, 3]
    passes.append(batches)
    del batches
    handed_over.set()
    until(lambda: not reading())
    assert closed_by == [THREAD_NAME]


@pytest.mark.usefixtures("three_threads")
def test_only_what_is_safe_is_read_by_threads() -> None:
    class Own:
        def __len__(self) -> int:
            return 12

        def __getitem__(self, index: int) -> Any:
            return zeros()[index]

    def readers(dataset: Any, **settings: Any) -> set[str]:
        dataset = dataset if isinstance(dataset, PretextDataset) else Record(dataset)
        names: set[str] = set()
        sample = dataset.sample

        def watched(index: int, generator: KeyedGenerator) -> Sample:
            names.add(threading.current_thread().name)
            return sample(index, generator)

        dataset.sample = watched
        list(opened(dataset, ahead=2, **settings))
        return names

    main = {threading.current_thread().name}
    assert readers(zeros()) == {THREAD_NAME}
    assert readers(RotateDataset(zeros())) == {THREAD_NAME}
    assert readers(Own()) == main
    assert readers(RotateDataset(zeros(), transform=lambda image: image)) == main
    assert readers(zeros(), collate_fn=lambda items: items) == main


@pytest.mark.usefixtures("three_threads")
def test_a_foreign_data_set_is_read_by_whoever_asks() -> None:
    names = set()

    class Own(torch.utils.data.Dataset[int]):
        def __len__(self) -> int:
            return 12

        def __getitem__(self, index: int) -> int:
            names.add(threading.current_thread().name)
            return index

    assert len(list(opened(Own()))) == 4
    assert names == {threading.current_thread().name}


@pytest.mark.usefixtures("three_threads")
def test_looking_leaves_a_pass_alone() -> None:
    def rows(batch: Any) -> list[list[float]]:
        return [part.tolist() for part in batch.data]

    expected = [rows(batch) for batch in opened(Record(zeros()))]
    source = opened(Record(zeros()), ahead=2)
    looked = rows(source.peek())
    assert source.dataset.readers == {threading.current_thread().name}
    seen = []
    for batch in source:
        seen.append(rows(batch))
        assert rows(source.peek()) == looked
        assert source.train_state == TrainState()
    assert seen == expected
    assert seen[0] == looked


@pytest.mark.parametrize("ahead", [0, 1, 9])
@pytest.mark.usefixtures("three_threads")
def test_a_pass_stays_in_the_epoch_in_which_it_began(ahead: int) -> None:
    source = opened(Record(zeros()), ahead=ahead)
    expected = source.order(0).tolist()
    batches = iter(source)
    seen = next(batches).indices
    source.train_state.epoch = 5
    for batch in batches:
        seen += batch.indices
    assert seen == expected


def test_threads_are_used_where_they_pay(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def threads(data: object, cores: int = 2) -> int:
        monkeypatch.setattr(prefetch.os, "sched_getaffinity", lambda process: set(range(cores)), raising=False)
        return prefetch.reading_threads(open_source(data))

    large = np.zeros((2, 128, 128, 3), np.uint8)
    assert [threads(large, cores) for cores in (1, 2, 3, 64)] == [1, 2, 3, 8]
    assert threads(zeros()) == threads(photos) == 1
    Pillow.new("RGB", (200, 100)).save(photos / "04.png")
    (photos / "00.png").write_bytes(b"broken")
    assert threads([photos / name for name in ("00.png", "01.png", "04.png", "05.png")]) == 2
    assert threads([photos / "00.png", photos / "01.png"]) == 1
    monkeypatch.delattr(prefetch.os, "sched_getaffinity")
    monkeypatch.setattr(prefetch.os, "cpu_count", lambda: None)
    assert prefetch.reading_threads(open_source(large)) == 1


def test_a_loader_that_is_given_up_is_gone_at_once() -> None:
    source = opened(Record(zeros()))
    next(iter(source))
    gone = weakref.ref(source)
    del source
    assert gone() is None, "processes that read would need 10 s to end as garbage of a cycle"


def test_a_pass_left_in_the_middle_lets_the_interpreter_end(
    run_python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    code = """
import time
from super_selfish.loading.prefetch import ThreadedLoader

class Slow:
    def __getitem__(self, number):
        time.sleep(0.01)
        return number

batches = iter(ThreadedLoader(Slow(), [range(4)] * 1000, list, threads=2, ahead=2))
print(next(batches))
"""
    done = run_python("-c", code, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("[0, 1, 2, 3]\n", "", 0)


def test_a_stuck_read_keeps_neither_a_pass_nor_the_interpreter_from_ending(
    run_python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    code = """
import threading, time
from super_selfish.loading.prefetch import ThreadedLoader

class Stuck:
    def __getitem__(self, number):
        return number if number < 4 else threading.Event().wait()

batches = iter(ThreadedLoader(Stuck(), [range(4)] + [range(4, 8)], list, threads=2, ahead=1))
next(batches)
began = time.monotonic()
batches.close()
print(time.monotonic() - began < 5)
"""
    done = run_python("-c", code, timeout=60)
    assert (done.stdout, done.returncode) == ("True\n", 0)
