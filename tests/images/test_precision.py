"""Values that float32 cannot represent are reported, with the name of the image."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from super_selfish.datasets.sources import open_source
from super_selfish.datasets.survey import survey
from super_selfish.images import image_files

LOSSY = [
    np.array([[0, 2**24 + 1]], np.uint32),
    np.array([[2**31 + 1, 2**31 + 200]], np.uint32),
    np.array([[-(2**24) - 1, 5]], np.int32),
    np.array([[0, 2**60 + 1]], np.uint64),
    1.6e9 + np.arange(200, dtype=np.float64).reshape(1, -1),
]
EXACT = [
    np.array([[0, 2**24]], np.uint32),
    np.array([[0, 2**31]], np.uint32),
    np.array([[-(2**24), 70_000]], np.int32),
    np.random.default_rng(0).random((9, 9)) * 1e9,
    np.full((9, 9), 1.6e9 + 1),
    np.array([[2**24 + 2, np.inf]], np.float32),
]


def large(values: np.ndarray) -> np.ndarray:
    return np.resize(values, (40, 40))


@pytest.mark.parametrize("values", LOSSY)
def test_lost_digits_of_files_are_noted(values: np.ndarray, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", large(values), metadata=None)
    (note,) = image_files.load(tmp_path / "x.tif").notes
    assert "float32" in note


@pytest.mark.parametrize("values", EXACT)
def test_exact_values_and_usual_floats_are_not(values: np.ndarray, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", large(values), metadata=None)
    assert image_files.load(tmp_path / "x.tif").notes == ()


@pytest.mark.parametrize("kind", ["array", "list", "files"])
def test_lost_digits_are_a_warning_that_names_the_image(kind: str, tmp_path: Path, caplog: Any) -> None:
    images = np.stack([large(EXACT[0]), large(LOSSY[0]), large(LOSSY[1])])
    for place, image in enumerate(images):
        tifffile.imwrite(tmp_path / f"{place}.tif", image, metadata=None)
    source = open_source({"array": images, "list": list(images), "files": tmp_path}[kind])
    with caplog.at_level(logging.WARNING, "super_selfish"):
        for index in range(3):
            source.load(index)
    (record,) = caplog.records
    assert "`1" in record.getMessage()
    assert "float32" in record.getMessage()


def test_a_survey_lists_remarks_apart_from_damage(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "0.tif", large(LOSSY[1]), metadata=None)
    tifffile.imwrite(tmp_path / "1.tif", large(EXACT[0]), metadata=None)
    found = survey(str(tmp_path))
    assert [name for name, _ in found.pixels.remarks] == ["0.tif"]
    assert not found.pixels.damaged
    assert "1 with remarks" in str(found)
    assert "damaged" not in str(found)
