"""Images of a comparison: reading, requirements of algorithms, labels and groups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from super_selfish.comparison import images as module
from super_selfish.comparison.images import Images, add_labelled, applicable, read_images
from super_selfish.datasets.preprocessing import fit_preprocessing
from super_selfish.datasets.sources import open_source
from super_selfish.errors import DataError
from super_selfish.supervisors import all_supervisors


def pixels(count: int = 40, channels: int = 3, side: int = 32) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, channels)).astype(np.uint8)


def read(data: Any, **given: Any) -> Images:
    source = open_source(data)
    return read_images(source, fit_preprocessing(source, resolution=32, on_error="skip"), lambda: False, **given)


def label(found: Images, data: Any, groups: Any = None) -> None:
    add_labelled(found, open_source(data), fit_preprocessing(None, resolution=32), groups, lambda: False)


def test_images_are_split_into_training_and_held_out_ones() -> None:
    data = pixels()
    found = read(data)
    assert (len(found.train), len(found.held_out)) == (32, 8)
    both = np.concatenate([found.train, found.held_out])
    assert sorted(image.tobytes() for image in both) == sorted(image.tobytes() for image in data)
    assert not found.has_labels


def test_the_same_number_of_images_gives_the_same_images() -> None:
    data = pixels()
    assert np.array_equal(read(data, count=20).train, read(data, count=20).train)
    assert len(read(data, count=20).train) == 16


def test_reading_stops_when_its_time_is_over() -> None:
    source = open_source(pixels())
    found = read_images(source, fit_preprocessing(source), lambda: True)
    assert len(found.train) + len(found.held_out) == module.LEAST_IMAGES
    assert "random sample of 16 of 40" in found.notes[0]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 20 * 32 * 32 * 3)
    assert len(read(pixels()).train) + len(read(pixels()).held_out) == 20


def test_requirements_are_checked_for_every_algorithm() -> None:
    grey = read(np.repeat(pixels(channels=1), 3, axis=3))
    colour = read(pixels())
    five = read(pixels(channels=5))
    for name, algorithm in all_supervisors().items():
        expected = "needs colour images" if algorithm.needs.rgb else None
        assert grey.unsuitable(algorithm, 64) == expected, name
        assert five.unsuitable(algorithm, 64) == expected, name
        assert colour.unsuitable(algorithm, 64) is None, name
        assert bool(colour.unsuitable(algorithm, 1)) == (algorithm.needs.batch > 1), name
    kept, excluded = applicable(all_supervisors(), grey, 64)
    assert set(kept) | set(excluded) == set(all_supervisors())
    assert set(excluded) == {name for name, algorithm in all_supervisors().items() if algorithm.needs.rgb}


def test_duplicates_are_counted() -> None:
    data = pixels(20)
    found = read(np.concatenate([data, data[:5]]))
    assert found.duplicates == 5
    assert "5 of 25 images are exact duplicates" in found.notes[0]


def test_unreadable_files_are_left_out_and_counted(tmp_path: Path) -> None:
    for number, image in enumerate(pixels(20)):
        Image.fromarray(image).save(tmp_path / f"{number:02}.png")
    (tmp_path / "07.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    found = read(tmp_path)
    assert len(found.train) + len(found.held_out) == 19
    assert "1 images cannot be read" in found.notes[0]


def test_too_few_images_are_an_error() -> None:
    with pytest.raises(DataError, match="at least 16"):
        read(pixels(10))


@pytest.mark.parametrize(("count", "classes"), [(10, 2), (30, 1)])
def test_too_few_labelled_images_or_classes_are_an_error(count: int, classes: int) -> None:
    found = read(pixels())
    with pytest.raises(DataError, match=r"20 images of two classes"):
        label(found, (pixels(count), np.arange(count) % classes))


def test_images_without_labels_are_an_error() -> None:
    found = read(pixels())
    with pytest.raises(DataError, match="0 labelled images"):
        label(found, pixels())


def test_labels_and_groups_stay_with_their_images() -> None:
    found, data = read(pixels()), pixels(30)
    label(found, (data, np.arange(30) % 3), [f"patient {number // 2}" for number in range(30)])
    places = [next(index for index in range(30) if np.array_equal(data[index], image)) for image in found.labelled]
    assert found.labels.tolist() == [place % 3 for place in places]
    assert found.groups == [f"patient {place // 2}" for place in places]


def test_groups_must_be_one_per_labelled_image() -> None:
    found = read(pixels())
    with pytest.raises(DataError, match="groups"):
        label(found, (pixels(30), np.arange(30) % 3), ["a"] * 29)


def test_images_are_averaged_to_a_smaller_side() -> None:
    found = read(pixels(side=64))
    label(found, (pixels(30), np.arange(30) % 3))
    small = Images(found.train, found.held_out, found.labelled, found.labels).shrunk(16)
    assert small.train.shape == (32, 16, 16, 3)
    assert small.train.dtype == np.uint8
    assert len(small.labelled) == 30
    expected = found.train.reshape(32, 16, 2, 16, 2, 3).mean((2, 4))
    assert np.abs(small.train - expected).max() <= 0.5
