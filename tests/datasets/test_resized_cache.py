"""Preprocessed images kept on disk."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from super_selfish.datasets import resized_cache
from super_selfish.datasets.preprocessing import ImageDataset, Preprocessing
from super_selfish.datasets.resized_cache import LIMIT, ResizedCache, chosen_folder, open_cache
from super_selfish.datasets.sources import open_source
from super_selfish.errors import ConfigurationError, DataError

SETTLED = Preprocessing((40, 48), 3, None, None, None)
ROW = 40 * 48 * 3
COUNT = 6


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for place in range(COUNT):
        image = np.random.default_rng(place).integers(0, 256, (50 + place, 70, 3), np.uint8)
        Pillow.fromarray(image).save(folder / f"{place}.jpg")
    return folder


def opened(photos: Path, preprocessing: Preprocessing = SETTLED, cache: Path | None = None) -> ImageDataset:
    return ImageDataset(open_source(photos), preprocessing, cache or photos.parent / "kept")


def all_of(dataset: ImageDataset) -> list[np.ndarray]:
    return [dataset.item(index)[0] for index in range(len(dataset))]


def expected(photos: Path, preprocessing: Preprocessing = SETTLED) -> list[np.ndarray]:
    return all_of(ImageDataset(open_source(photos), preprocessing))


def equal(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def forbid_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("super_selfish.images.image_files.load", lambda *_, **__: pytest.fail("decoded again"))


def test_images_are_the_same_and_decoded_once(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clean = expected(photos)
    assert equal(all_of(opened(photos)), clean)
    assert [path.suffix for path in (photos.parent / "kept").iterdir()] == [".images"]
    forbid_decoding(monkeypatch)
    again = opened(photos)
    assert equal(all_of(again), clean)
    assert equal([again.read(index) for index in range(COUNT)], clean)
    again.read(0)[:] = 0  # memory of its own
    assert equal(all_of(pickle.loads(pickle.dumps(again))), clean)
    for index in (-1, COUNT):
        with pytest.raises(IndexError):
            again.read(index)


def test_labels_come_along(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Pillow.new("RGB", (60, 60)).save(tmp_path / "photos" / name / "0.png")
    for _ in range(2):
        assert [opened(tmp_path / "photos").item(index)[1] for index in range(2)] == [0, 1]


@pytest.mark.parametrize("change", ["content", "time", "resolution", "channels", "more", "max_pixels"])
def test_anything_that_changes_pixels_leads_to_another_file(photos: Path, change: str) -> None:
    all_of(opened(photos))
    settled = SETTLED
    path = photos / "3.jpg"
    if change == "content":
        Pillow.new("RGB", (70, 53), "red").save(path)
    elif change == "time":
        os.utime(path, ns=(1, 1))
    elif change == "resolution":
        settled = Preprocessing((48, 40), 3, None, None, None)
    elif change == "channels":
        settled = Preprocessing((40, 48), 1, None, None, None)
    elif change == "max_pixels":
        settled = Preprocessing((40, 48), 3, None, None, None, max_pixels=10_000)
    else:
        Pillow.new("RGB", (70, 53), "red").save(photos / "9.jpg")
    assert equal(all_of(opened(photos, settled)), expected(photos, settled))
    assert len(list((photos.parent / "kept").iterdir())) == 2


def test_other_contents_of_the_same_names_sizes_and_times_are_another_file(tmp_path: Path) -> None:
    stored = []
    for value in (10, 200):
        folder = tmp_path / str(value) / "photos"
        folder.mkdir(parents=True)
        Pillow.new("RGB", (40, 40), (value,) * 3).save(folder / "a.bmp")
        os.utime(folder / "a.bmp", (1, 1))
        stored.append(open_source(folder).stamp())
    assert stored[0] != stored[1]


def test_what_changes_no_pixel_leads_to_the_same_file(photos: Path) -> None:
    all_of(opened(photos))
    all_of(opened(photos, Preprocessing((40, 48), 3, None, (0.5,) * 3, (0.2,) * 3)))
    moved = photos.rename(photos.with_name("moved"))
    all_of(opened(moved))
    assert len(list((photos.parent / "kept").iterdir())) == 1


def test_another_preprocessing_is_another_cache(photos: Path) -> None:
    dataset = opened(photos)
    all_of(dataset)
    other = Preprocessing((48, 40), 3, None, None, None)
    dataset.preprocessing = other
    assert equal(all_of(dataset), expected(photos, other))


@pytest.mark.parametrize("damage", ["row", "half", "mark", "cut"])
def test_only_what_is_whole_is_served(photos: Path, damage: str) -> None:
    """A process that is killed, or a machine, leaves rows without a mark, or marks of rows that are not whole."""
    clean = expected(photos)
    all_of(opened(photos))
    (file,) = (photos.parent / "kept").iterdir()
    start = file.stat().st_size - COUNT * ROW
    with file.open("r+b") as stream:
        if damage == "cut":
            stream.truncate(start + ROW)
        else:
            stream.seek({"row": start, "half": start + ROW // 2, "mark": 0}[damage])
            stream.write(bytes({"row": ROW, "half": ROW // 2, "mark": 8}[damage]))
    again = opened(photos)
    assert equal(all_of(again), clean)
    assert equal(all_of(again), clean)


def test_threads_and_processes_fill_it_at_once(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clean = expected(photos)
    dataset = opened(photos)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pending = [pool.map_async(dataset.read, range(COUNT), chunksize=1) for _ in range(4)]
        found: list[list[np.ndarray]] = []
        threads = [threading.Thread(target=lambda: found.append(all_of(dataset))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found += [one.get(60) for one in pending]
    assert len(found) == 8
    assert all(equal(one, clean) for one in found)
    forbid_decoding(monkeypatch)
    assert equal(all_of(opened(photos)), clean)


def test_unreadable_images_are_not_kept(photos: Path) -> None:
    whole = (photos / "2.jpg").read_bytes()
    (photos / "2.jpg").write_bytes(whole[:-300])
    dataset = opened(photos)
    for _ in range(2):
        with pytest.raises(DataError, match=r"2\.jpg"):
            dataset.read(2)
    assert dataset._cache is not None
    assert dataset._cache.get(2) is None


def test_deep_images_are_left_out_and_told_once(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (2, 60, 60), np.uint16)
    for place, image in enumerate(deep):
        Pillow.fromarray(image).save(photos / f"deep{place}.png")
    settled = Preprocessing((40, 48), 3, (0.0, 65535.0), None, None)
    with caplog.at_level(logging.WARNING, "super_selfish"):
        found = all_of(opened(photos, settled))
    assert equal(found, expected(photos, settled))
    assert [record.message for record in caplog.records if "8 bits" in record.message] == [caplog.messages[0]]


class TestRoom:
    def test_too_many_images_for_the_limit(
        self, photos: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setenv(LIMIT, str(COUNT * ROW - 1))
        assert equal(all_of(opened(photos)), expected(photos))
        assert list((photos.parent / "kept").iterdir()) == []
        assert len(caplog.messages) == 1
        assert "limit" in caplog.messages[0]

    def test_half_of_what_is_free_is_the_limit(self, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        needed = opened(photos)._cache.size  # type: ignore[union-attr]
        for free, kept in ((2 * needed - 2, False), (2 * needed, True)):
            usage = type("Usage", (), {"free": free})
            monkeypatch.setattr(resized_cache.shutil, "disk_usage", lambda _, usage=usage: usage)
            assert (opened(photos)._cache is not None) is kept

    def test_a_limit_that_is_no_number(self, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(LIMIT, "10 GB")
        with pytest.raises(ConfigurationError, match=LIMIT):
            opened(photos)

    def test_what_was_not_used_for_longest_goes_unless_it_is_open(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def filled(content: str) -> ResizedCache:
            cache = open_cache(tmp_path, content, 4, SETTLED.as_json())
            assert cache is not None
            for index in range(4):
                cache.put(index, np.full((40, 48, 3), index, np.uint8))
            return cache

        held = filled("a")
        paths = [held.path]
        for place, content in enumerate("bc"):
            paths.append(filled(content).path)
            os.utime(paths[-1], ns=(10**9 * (2 - place),) * 2)  # c is older than b
        os.utime(held.path, ns=(0, 0))
        monkeypatch.setenv(LIMIT, str(sum(path.stat().st_blocks * 512 for path in paths)))
        paths.append(filled("d").path)
        assert [path.exists() for path in paths] == [True, True, False, True]
        assert held.get(3) is not None
        monkeypatch.setenv(LIMIT, str(held.size))
        assert open_cache(tmp_path, "e", 4, SETTLED.as_json()) is None

    def test_a_full_disk(self, photos: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
        calls = []

        def full(*arguments: object) -> int:
            calls.append(arguments)
            if len(calls) < 4:
                return write(*arguments)  # type: ignore[arg-type]
            raise OSError(errno.ENOSPC, "No space left on device")

        write = os.pwrite
        monkeypatch.setattr(os, "pwrite", full)
        dataset = opened(photos)
        assert equal(all_of(dataset) + all_of(dataset), expected(photos) * 2)
        assert len(calls) == 4  # a row and its mark, a row, and then never again
        assert len(caplog.messages) == 1
        assert "No space left" in caplog.messages[0]

    @pytest.mark.parametrize("denied", ["folder", "file"])
    def test_a_folder_that_cannot_be_written(
        self, photos: Path, denied: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise OSError(errno.EROFS, "Read-only file system")

        if denied == "folder":
            monkeypatch.setattr(Path, "mkdir", refuse)
        else:
            monkeypatch.setattr(resized_cache.os, "open", refuse)
        assert equal(all_of(opened(photos)), expected(photos))
        assert len(caplog.messages) == 1
        assert "Read-only" in caplog.messages[0]


def test_where_files_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPER_SELFISH_CACHE", str(tmp_path / "mine"))
    assert chosen_folder(None) is None
    assert chosen_folder("resized") == tmp_path / "mine" / "resized"
    assert chosen_folder("./there") == Path("there")
    assert chosen_folder(tmp_path) == tmp_path
    for wrong in ("resize", True, 3):
        with pytest.raises(ConfigurationError, match="`cache` is unknown"):
            chosen_folder(wrong)


@pytest.mark.parametrize("data", [np.zeros((4, 50, 60, 3), np.uint8), [Pillow.new("RGB", (50, 50))] * 2])
def test_only_files_are_kept(data: object, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing tells whether the images of somebody's data set are still the same."""
    dataset = ImageDataset(open_source(data), SETTLED, tmp_path / "kept")
    dataset.read(0)
    assert not (tmp_path / "kept").exists()
    assert "files" in caplog.messages[0]
