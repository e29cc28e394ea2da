"""Values that are no measurements, and values beyond the sampled range: what they do to a training."""

from __future__ import annotations

import logging
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from super_selfish.datasets.image_dataset import ImageDataset
from super_selfish.datasets.labels import with_classes
from super_selfish.datasets.preprocessed import Preprocessing
from super_selfish.datasets.preprocessing import fit_preprocessing
from super_selfish.datasets.sources import open_source
from super_selfish.datasets.survey import survey
from super_selfish.errors import CheckpointError, ConfigurationError, DataError
from super_selfish.images import functional
from super_selfish.images.fitting import Fit
from super_selfish.images.image_files import AlphaRule
from super_selfish.supervisors import all_supervisors

SIZE = (48, 48)


def elevation(place: int) -> np.ndarray:
    y, x = np.mgrid[:48, :48]
    return (300 + 200 * np.sin(x / 9 + place) * np.cos(y / 11)).astype(np.float32)


def folder(root: Path, nodata: float | None, declared: bool = True, count: int = 8, dtype: Any = np.float32) -> Path:
    """Elevations; every fourth has a corner without data."""
    for place in range(count):
        values = elevation(place).astype(dtype)
        if nodata is not None and place % 4 == 0:
            values[:20, :30] = nodata
        tag = [(42113, "s", 0, repr(nodata), True)] if declared and nodata is not None else []
        tifffile.imwrite(root / f"{place:02d}.tif", values, metadata=None, extratags=tag)
    return root


@pytest.mark.parametrize(("nodata", "dtype"), [(-9999.0, "float32"), (float("nan"), "float32"), (-32768.0, "int16")])
def test_declared_ones_change_no_other_image(tmp_path: Path, nodata: float, dtype: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    masked = fit_preprocessing(open_source(folder(tmp_path / "a", nodata, dtype=dtype)), normalize="dataset")
    plain = fit_preprocessing(open_source(folder(tmp_path / "b", None, dtype=dtype)), normalize="dataset")
    for found, expected in zip(masked.value_range or (), plain.value_range or (), strict=True):
        assert found == pytest.approx(expected, abs=5)
    assert masked.mean == pytest.approx(plain.mean, abs=0.05)
    assert masked.std == pytest.approx(plain.std, abs=0.05)
    image = ImageDataset(open_source(tmp_path / "a"), masked).read(1)
    assert image.std() > 0.1


@pytest.mark.parametrize(("fill", "expected"), [(None, 0.0), (300.0, 0.6), (1e9, 1.0)])
def test_declared_ones_are_filled(tmp_path: Path, fill: float | None, expected: float) -> None:
    source = open_source(folder(tmp_path, -9999.0))
    fitted = fit_preprocessing(source, resolution=48, value_range=(0, 500), fill=fill)
    image = ImageDataset(source, fitted).read(0)
    assert np.allclose(image[:20, :30], expected)
    assert Preprocessing.from_json(fitted.as_json()) == fitted


def test_eight_bits_stay_eight_bits(tmp_path: Path) -> None:
    for place in range(2):
        values = np.full((48, 48), 200, np.uint8)
        values[:10] = 7
        tifffile.imwrite(tmp_path / f"{place}.tif", values, metadata=None, extratags=[(42113, "s", 0, "7", True)])
    fitted = fit_preprocessing(open_source(tmp_path), resolution=48, normalize="dataset", fill=99)
    assert fitted.mean == pytest.approx([200 / 255])
    image = ImageDataset(open_source(tmp_path), fitted).read(0)
    assert image.dtype == np.uint8
    assert np.unique(image).tolist() == [99, 200]


def test_nan_that_nothing_declares_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    source = open_source(folder(tmp_path, float("nan"), declared=False))
    with pytest.raises(DataError, match=r"00\.tif.*fill="):
        fit_preprocessing(source)
    fitted = fit_preprocessing(source, resolution=48, fill=300)
    assert fitted.value_range == pytest.approx((0, 500), abs=5)
    assert np.allclose(ImageDataset(source, fitted).read(0)[:20, :30], 300 / fitted.value_range[1])


def test_masked_arrays(tmp_path: Path) -> None:
    values = np.stack([elevation(place) for place in range(4)])
    data = np.ma.masked_array(values, np.zeros(values.shape, bool))
    data[0, :20, :30] = -9999
    data[0, :20, :30] = np.ma.masked
    for kind in (data, list(data)):
        source = open_source(kind)
        fitted = fit_preprocessing(source)
        assert fitted.value_range == pytest.approx((0, 500), abs=5)
        assert (ImageDataset(source, fitted).read(0)[:20, :30] == 0).all()


@pytest.mark.parametrize("name", all_supervisors())
def test_every_algorithm_takes_the_options(name: str) -> None:
    images = np.random.default_rng(0).random((8, 40, 40, 3)).astype(np.float32)
    images[0, :3] = np.nan
    options = {"backbone": "small_resnet", "resolution": 40}
    supervisor = all_supervisors()[name](images, fill=0.5, background=1.0, **options)
    assert supervisor.preprocessing.fill == 0.5
    assert supervisor.preprocessing.background == (1.0,)
    assert np.allclose(supervisor.dataset.images.read(0)[:3], 0.5)


@pytest.mark.parametrize(
    "options", [{"fill": "black"}, {"fill": True}, {"background": 2.0}, {"background": (0.0, 1.0)}]
)
def test_options_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        fit_preprocessing(open_source(np.zeros((4, 40, 40), np.uint8)), **options)


@pytest.mark.parametrize("field", [{"fill": "x"}, {"background": [1, 2]}, {"other": 1}])
def test_damaged_fields_are_refused(field: dict[str, Any]) -> None:
    fields = Preprocessing((40, 40), 3, None, None, None).as_json() | field
    with pytest.raises(CheckpointError):
        Preprocessing.from_json(fields)


def test_a_survey_counts_them(tmp_path: Path) -> None:
    found = survey(folder(tmp_path, -9999.0))
    assert [name for name, _ in found.pixels.nodata] == ["00.tif", "04.tif"]
    assert found.pixels.nodata[0][1] == pytest.approx(600 / 48**2)
    assert "00.tif" in str(found)
    assert not found.unreadable
    undeclared = tmp_path / "nan"
    undeclared.mkdir()
    assert len(survey(folder(undeclared, float("nan"), declared=False)).unreadable) == 2


def test_exact_copies_may_have_pixels_without_data(tmp_path: Path) -> None:
    root = folder(tmp_path, float("nan"))
    (root / "again.tif").write_bytes((root / "00.tif").read_bytes())
    found = survey(root)
    assert found.copies == [("00.tif", "again.tif")]
    assert not found.duplicates
    assert not found.unreadable


def test_other_labels_leave_pixels_as_they_are(tmp_path: Path) -> None:
    for place, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        folder(tmp_path / name, -9999.0, count=4)
        rgba = np.random.default_rng(place).integers(0, 256, (48, 48, 4), np.uint8)
        Image.fromarray(rgba).save(tmp_path / name / "transparent.png")
    source = open_source(tmp_path)
    other = with_classes(source, ["b", "a"])
    assert [source.load(index).label for index in (0, 5)] == [0, 1]
    assert [other.load(index).label for index in (0, 5)] == [1, 0]
    missing = other.load(0).missing
    assert missing is not None
    assert missing.sum() == 600
    assert other.examine(0)[0].missing is not None
    assert other.with_alpha(AlphaRule(4)).read(4).shape == (48, 48, 4)


def deep(count: int, highest: int) -> np.ndarray:
    images = np.random.default_rng(0).integers(0, 4000, (count, 40, 40)).astype(np.uint16)
    images[1, :20] = highest
    return images


def test_values_beyond_the_sampled_range_are_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    images = list(deep(200, 60_000))
    source = open_source(images)
    fitted = fit_preprocessing(source)
    assert fitted.value_range == (0, 4095)  # image 1 is not in the sample
    dataset = ImageDataset(source, fitted, sampled_range=True)
    for _ in range(2):
        for index in range(3):
            dataset.read(index)
    (said,) = caplog.messages
    assert "50 %" in said
    assert 'value_range="all"' in said
    assert fit_preprocessing(source, value_range="all").value_range == (0, 60_000)
    found = survey(images)
    assert [name for name, _ in found.pixels.clipped] == ["1"]
    assert found.pixels.highest == 60_000


def test_percentiles_and_given_ranges_are_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    floats = np.random.default_rng(0).normal(0, 100, (8, 40, 40)).astype(np.float32)
    source = open_source(floats)
    dataset = ImageDataset(source, fit_preprocessing(source), sampled_range=True)
    given = ImageDataset(source, fit_preprocessing(source, value_range=(0, 1)))
    with caplog.at_level(logging.WARNING):
        for index in range(8):
            dataset.read(index)
            given.read(index)
    assert not caplog.messages
    assert fit_preprocessing(source, value_range="all").value_range == (float(floats.min()), float(floats.max()))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", [(9, 300), (300, 9), (1, 500), (40, 900), (3, 3000)])
def test_long_images_are_enlarged_as_the_whole_would_be(shape: tuple[int, int], dtype: Any) -> None:
    random = np.random.default_rng(0).random((*shape, 3))
    image = (random * 255).astype(np.uint8) if dtype == np.uint8 else random.astype(np.float32)
    found = Preprocessing(SIZE, 3, None, None, None).image(image)
    expected = functional.fit(image, *SIZE)
    assert found.shape == expected.shape
    assert np.abs(found.astype(float) - expected).mean() < 0.01 * functional.peak(image)


def test_enlarging_takes_no_more_memory_than_the_result() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for shape in ((1, 40_000, 3), (40_000, 1, 3), (2, 70_000, 1)):
        Preprocessing((225, 225), 3, None, None, None).image(np.zeros(shape, np.uint8))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


def test_only_what_is_used_of_an_image_is_computed_with() -> None:
    fit = Fit.of((40, 40_000, 3), (32, 32))
    assert fit.crop(np.zeros((40, 40_000, 1), np.uint8)).shape == (40, 40, 1)
