"""Pixels that a file declares to hold no data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from super_selfish.images import image_files
from super_selfish.images.image_files import read_image

SMALLEST = "-3.4028234663852886e+38"


def tagged(path: Path, values: np.ndarray, nodata: str, **options: Any) -> Path:
    tifffile.imwrite(path, values, metadata=None, extratags=[(42113, "s", 0, nodata, True)], **options)
    return path


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [
        ("uint8", "0"),
        ("uint8", "255 "),
        ("int16", "-9999"),
        ("uint16", "65535"),
        ("int32", "-2147483648"),
        ("float32", "-9999"),
        ("float32", "nan"),
        ("float32", SMALLEST),
        ("float64", "-1.7976931348623157e+308"),
    ],
)
def test_gdals_value(tmp_path: Path, dtype: str, nodata: str, orientation: int) -> None:
    values = np.random.default_rng(0).integers(1, 200, (20, 30)).astype(dtype)
    values[:5] = np.array(float(nodata)).astype(dtype)
    path = tmp_path / "x.tif"
    extra = [(42113, "s", 0, nodata, True), (274, "H", 1, orientation, True)]
    tifffile.imwrite(path, values, metadata=None, extratags=extra)
    found = image_files.load(path)
    assert found.missing is not None
    expected = np.zeros((20, 30), np.bool_)
    expected[:5] = True
    assert np.array_equal(found.missing[:, :, 0], np.rot90(expected, -1) if orientation == 6 else expected)
    assert found.missing.shape[:2] == found.image.shape[:2]


def test_a_colour_has_no_data_where_all_its_channels_say_so(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(1, 200, (20, 30, 3), dtype=np.uint8)
    values[:5], values[10, 10] = 0, (200, 0, 0)
    missing = image_files.load(tagged(tmp_path / "x.tif", values, "0", photometric="rgb")).missing
    assert missing is not None
    assert missing.sum() == 5 * 30


def test_bands_have_no_data_each_for_itself(tmp_path: Path) -> None:
    values = np.ones((20, 30, 7), np.float32)
    values[:5, :, 2] = -1
    path = tagged(tmp_path / "x.tif", values, "-1", photometric="minisblack", planarconfig="contig")
    missing = image_files.load(path).missing
    assert missing is not None
    assert missing.sum(axis=(0, 1)).tolist() == [0, 0, 150, 0, 0, 0, 0]


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_mask_pages(tmp_path: Path, dtype: str) -> None:
    valid = np.random.default_rng(0).random((20, 30)) > 0.5
    with tifffile.TiffWriter(tmp_path / "x.tif") as file:
        file.write(np.ones((20, 30), dtype), metadata=None)
        file.write(valid, photometric="mask", subfiletype=4, metadata=None)
    found = image_files.load(tmp_path / "x.tif")
    assert found.missing is not None
    assert np.array_equal(found.missing[:, :, 0], ~valid)
    assert found.left_out == 0


def test_what_is_no_number_is_noted(tmp_path: Path) -> None:
    path = tagged(tmp_path / "x.tif", np.ones((20, 30), np.uint16), "none")
    assert "none" in str(image_files.contents(path).notes)


def test_values_stay_as_they_are(tmp_path: Path) -> None:
    values = np.full((20, 30), -9999, np.int16)
    assert read_image(tagged(tmp_path / "x.tif", values, "-9999")).max() == -9999
