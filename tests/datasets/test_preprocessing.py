"""What an image means to a network."""

import json
import logging
import pickle

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from super_selfish.datasets.preprocessing import ImageDataset, Preprocessing, fit_preprocessing
from super_selfish.datasets.sources import open_source
from super_selfish.errors import CheckpointError, ConfigurationError, DataError
from super_selfish.images import fitting, functional
from super_selfish.images.image_files import Header


def plain(resolution=(32, 32), channels=3, value_range=None, mean=None, std=None):
    return Preprocessing(resolution, channels, value_range, mean, std)


def fit(data, **options):
    return fit_preprocessing(open_source(data), **options)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def folder(tmp_path):
    def make(*modes):
        (tmp_path / "photos").mkdir()
        for number, mode in enumerate(modes):
            Pillow.new(mode, (40, 50 + number)).save(tmp_path / "photos" / f"{number}.png")
        return tmp_path / "photos"

    return make


class TestImage:
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
    @pytest.mark.parametrize("channels", [1, 2, 3, 13, 64])
    def test_any_size_and_number_of_channels(self, rng, dtype, channels):
        image = (rng.random((50, 70, channels)) * (1 if dtype == np.float32 else np.iinfo(dtype).max)).astype(dtype)
        for resolution in ((32, 32), (100, 40), (50, 70)):
            result = plain(resolution, channels).image(image)
            assert result.shape == (*resolution, channels)
            assert result.dtype == (np.uint8 if dtype == np.uint8 else np.float32)
            assert result.dtype == np.uint8 or (result.min() >= 0 and 0.4 < result.mean() < 0.6 and result.max() <= 1)

    def test_bands_are_resized_alike(self, rng):
        image = rng.random((50, 70, 13), dtype=np.float32)
        together = plain((32, 32), 13).image(image)
        for band in range(13):
            alone = plain((32, 32), 1).image(np.ascontiguousarray(image[:, :, band : band + 1]))
            np.testing.assert_allclose(together[:, :, band], alone[:, :, 0], atol=1e-6)

    def test_the_middle_is_kept(self):
        image = np.zeros((32, 96, 1), np.uint8)
        image[:, 32:64] = 255
        assert plain((32, 32), 1).image(image).min() == 255

    def test_scale(self):
        image = np.full((32, 32, 1), 1000, np.uint16)
        assert plain(channels=1, value_range=(0.0, 4000.0)).image(image).max() == np.float32(0.25)
        assert plain(channels=1, value_range=(500.0, 900.0)).image(image).max() == 1
        assert plain(channels=1, value_range=(2000.0, 2500.0)).image(image).max() == 0
        np.testing.assert_allclose(plain(channels=1).image(image), 1000 / 65535)
        assert plain(channels=1, value_range=(0.0, 4000.0)).image(np.full((32, 32, 1), 200, np.uint8)).max() == 200

    def test_the_argument_is_left_alone(self, rng):
        image = rng.random((32, 32, 1), dtype=np.float32)
        before = image.copy()
        plain(channels=1, value_range=(0.2, 0.4)).image(image)
        np.testing.assert_array_equal(image, before)

    def test_channels(self):
        grey = np.full((32, 32, 1), 7, np.uint8)
        assert (plain(channels=3).image(grey) == 7).all()
        colour = np.full((32, 32, 3), (255, 100, 10), np.uint8)
        assert (plain(channels=1).image(colour) == round(0.299 * 255 + 0.587 * 100 + 0.114 * 10)).all()
        np.testing.assert_allclose(plain(channels=1).image(np.ones((32, 32, 3), np.float32)), 1, atol=1e-6)
        for found, wanted in ((2, 3), (13, 3), (3, 13), (4, 1)):
            with pytest.raises(DataError, match=f"{found} channels, but the network takes {wanted}"):
                plain(channels=wanted).image(np.zeros((32, 32, found), np.uint8))

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_not_finite(self, value):
        image = np.zeros((32, 32, 1), np.float32)
        image[3, 3] = value
        with pytest.raises(DataError, match="not finite"):
            plain(channels=1).image(image)


class TestJson:
    full = Preprocessing((32, 64), 2, (-1.5, 3.0), (0.5, 0.25), (0.1, 0.2), 1000)

    @pytest.mark.parametrize("value", [full, plain()])
    def test_there_and_back(self, value):
        assert Preprocessing.from_json(json.loads(json.dumps(value.as_json()))) == value

    @pytest.mark.parametrize(
        "change",
        [
            {"resolution": [32]},
            {"resolution": [32.0, 32]},
            {"resolution": None},
            {"channels": "2"},
            {"channels": True},
            {"channels": 0},
            {"value_range": [3, 1]},
            {"value_range": [0, float("nan")]},
            {"mean": [0.5]},
            {"mean": None},
            {"std": [0.1, 0]},
            {"max_pixels": None},
            {"extra": 1},
        ],
    )
    def test_damage(self, change):
        with pytest.raises(CheckpointError, match="damaged"):
            Preprocessing.from_json({**self.full.as_json(), **change})

    @pytest.mark.parametrize("value", [None, [], {}])
    def test_something_else(self, value):
        with pytest.raises(CheckpointError):
            Preprocessing.from_json(value)

    def test_describe(self):
        assert plain().describe() == "32×32 pixels, 3 channels"
        assert plain((32, 48)).describe() == "32×48 pixels (height×width), 3 channels"
        assert "-1.5 to 3" in self.full.describe()
        assert "0.250" in self.full.describe()


class TestResolution:
    def test_without_images(self):
        assert fit_preprocessing(None) == Preprocessing((225, 225), 3, None, None, None)
        assert fit_preprocessing(None, resolution=(64, 96), channels=1).resolution == (64, 96)

    def test_files(self, folder):
        assert fit(folder("RGB", "RGB")).resolution == (225, 225)

    @pytest.mark.parametrize(("shape", "expected"), [((40, 60), (40, 60)), ((28, 28), (32, 32)), ((20, 40), (32, 64))])
    def test_in_memory(self, shape, expected):
        assert fit(np.zeros((3, *shape), np.uint8)).resolution == expected
        assert fit([np.zeros(shape, np.uint8)] * 3).resolution == expected

    def test_several_sizes(self):
        assert fit([np.zeros((40, 40)), np.zeros((40, 41))]).resolution == (225, 225)

    def test_given(self):
        data = np.zeros((3, 40, 40), np.uint8)
        assert fit(data, resolution=64).resolution == (64, 64)
        assert fit(data, resolution=(32, 64)).resolution == (32, 64)

    @pytest.mark.parametrize("resolution", [31, (64, 8), 0, -1, 64.0, "64", True, (64,), (64, 64, 3)])
    def test_impossible(self, resolution):
        with pytest.raises(ConfigurationError, match="resolution"):
            fit(np.zeros((3, 40, 40), np.uint8), resolution=resolution)


class TestChannels:
    @pytest.mark.parametrize(("modes", "expected"), [("RR", 3), ("LL", 1), ("LR", 3), ("L1", 1), ("PA", 3)])
    def test_files(self, folder, modes, expected):
        names = {"R": "RGB", "A": "RGBA", "P": "P", "L": "L", "1": "1"}
        assert fit(folder(*(names[mode] for mode in modes))).channels == expected

    def test_bands(self):
        assert fit(np.zeros((3, 40, 40, 13), np.uint8)).channels == 13
        assert fit([np.zeros((40, 40, 2))] * 2).channels == 2

    def test_given(self, folder):
        assert fit(folder("RGB", "L"), channels=1).channels == 1
        for channels in (0, "3", 1.0, True):
            with pytest.raises(ConfigurationError, match="channels"):
                fit_preprocessing(None, channels=channels)

    def test_what_cannot_be_converted_is_named_at_once(self, folder):
        root = folder("RGB", "RGB")
        tifffile.imwrite(root / "bands.tif", np.zeros((40, 40, 13), np.uint16))
        with pytest.raises(DataError, match=r"bands\.tif.*13 channels, but the network takes 3"):
            fit(root)
        with pytest.raises(DataError, match="3 channels, but the network takes 2"):
            fit(np.zeros((2, 40, 40, 3)), channels=2)

    def test_alpha_is_reported_once(self, folder, caplog):
        with caplog.at_level(logging.INFO, "super_selfish"):
            fit(folder("RGBA", "RGBA"))
        assert caplog.text.count("alpha channel") == 1


class TestValueRange:
    @pytest.mark.parametrize(
        ("highest", "expected"), [(0, 255), (255, 255), (256, 1023), (4095, 4095), (4096, 16383), (65535, 65535)]
    )
    def test_uint16_by_bits(self, highest, expected):
        data = np.zeros((3, 40, 40), np.uint16)
        data[1, 5, 5] = highest
        assert fit(data).value_range == (0, expected)

    def test_uint8_needs_none(self, folder):
        assert fit(np.zeros((3, 40, 40), np.uint8)).value_range is None
        assert fit(folder("L", "RGB")).value_range is None

    def test_floats(self, rng):
        data = rng.random((4, 40, 40)).astype(np.float64)
        assert fit(data).value_range is None
        data *= 1000
        low, high = fit(data).value_range
        assert (low, round(high, -1)) == (0, 1000)
        low, high = fit(data - 500).value_range
        assert -500 <= low < -498
        assert 498 < high <= 500
        assert fit(np.full((3, 40, 40), -5.0)).value_range == (-5, -4)

    def test_wide_integers(self):
        data = np.zeros((3, 40, 40), np.int64)
        data[:, 0, 0] = 200
        assert fit(data).value_range == (0, 255)
        data[:, 0] = 100_000
        assert fit(data).value_range == (0, 100_000)

    def test_one_deep_file_among_many(self, folder):
        root = folder("L", "L", "L")
        tifffile.imwrite(root / "deep.tif", np.full((40, 40), 4000, np.uint16))
        fitted = fit(root)
        assert fitted.value_range == (0, 4095)
        images = ImageDataset(open_source(root), fitted)
        assert images.read(0).dtype == np.uint8
        np.testing.assert_allclose(images.read(3), 4000 / 4095, rtol=1e-6)

    def test_given(self):
        assert fit(np.zeros((3, 40, 40), np.uint16), value_range=(10, 20)).value_range == (10, 20)
        for wrong in ("full", (5, 5), (0, np.inf), (1,), 3, None):
            with pytest.raises(ConfigurationError, match="value_range"):
                fit(np.zeros((3, 40, 40), np.uint16), value_range=wrong)

    def test_not_finite(self):
        data = np.zeros((3, 40, 40))
        data[1, 2, 3] = np.nan
        with pytest.raises(DataError, match=r"`1`.*not finite"):
            fit(data)


class TestNormalize:
    def test_data_set(self, rng):
        data = rng.integers(0, 256, (20, 40, 40, 3), dtype=np.uint8)
        data[..., 2] = 51
        fitted = fit(data, normalize="dataset")
        np.testing.assert_allclose(fitted.mean, data.mean(axis=(0, 1, 2)) / 255, rtol=1e-9)
        np.testing.assert_allclose(fitted.std[:2], data.std(axis=(0, 1, 2))[:2] / 255, rtol=1e-9)
        assert fitted.std[2] == 1e-3

    def test_deep_images_are_measured_on_the_same_scale(self, rng):
        data = rng.integers(0, 4096, (20, 40, 40), dtype=np.uint16)
        fitted = fit(data, normalize="dataset")
        np.testing.assert_allclose(fitted.mean, data.mean() / 4095, rtol=1e-5)

    def test_given(self):
        fitted = fit(np.zeros((3, 40, 40, 2)), normalize=([0.1, 0.2], np.array([1, 2])))
        assert (fitted.mean, fitted.std) == ((0.1, 0.2), (1.0, 2.0))

    def test_imagenet(self):
        fitted = fit_preprocessing(None, normalize="imagenet")
        assert (fitted.mean, fitted.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        with pytest.raises(ConfigurationError, match="channels=3"):
            fit(np.zeros((3, 40, 40)), normalize="imagenet")
        with pytest.raises(ConfigurationError, match=r"or \"imagenet\".*Did you mean 'imagenet'"):
            fit_preprocessing(None, normalize="imagenett")

    @pytest.mark.parametrize(
        "wrong", ["imagenet", ([0.5], [0.5]), ([0.5, 0.5], [1, 0]), ([0.5, np.nan], [1, 1]), (0.5, 0.5), 3, ([], [])]
    )
    def test_impossible(self, wrong):
        with pytest.raises(ConfigurationError, match="normalize"):
            fit(np.zeros((3, 40, 40, 2)), normalize=wrong)

    def test_needs_images(self):
        with pytest.raises(ConfigurationError, match="images"):
            fit_preprocessing(None, normalize="dataset")


class TestUnreadable:
    def test_raised_or_passed_over(self, folder):
        root = folder("L", "L")
        (root / "bad.png").write_bytes(b"nothing")
        with pytest.raises(DataError, match=r"bad\.png"):
            fit(root)
        assert fit(root, on_error="skip", normalize="dataset").channels == 1
        with pytest.raises(ConfigurationError, match="on_error"):
            fit(root, on_error="ignore")

    def test_all_of_them(self, tmp_path):
        (tmp_path / "bad.png").write_bytes(b"nothing")
        with pytest.raises(DataError, match=r"None of the images.*bad\.png"):
            fit([tmp_path / "bad.png"] * 2, on_error="skip")

    def test_large_files_are_refused_when_opened(self, folder):
        root = folder("L", "L")
        with pytest.raises(DataError, match=r"1\.png.*max_pixels"):
            fit_preprocessing(open_source(root, max_pixels=2000))


class TestImageDataset:
    def test_reads_preprocessed(self, folder):
        images = ImageDataset.from_(folder("RGB", "L"), plain((32, 48)))
        assert len(images) == 2
        assert images.read(1).shape == (32, 48, 3)
        assert images.header(1) == Header(32, 48, 3, "uint8")
        assert (images.name(1), images.label(1), images.kind, images.thread_safe) == ("1.png", None, "files", True)
        assert images.fingerprint() == images.source.fingerprint()
        assert open_source(images) is images
        assert pickle.loads(pickle.dumps(images)).read(0).shape == (32, 48, 3)

    def test_labels(self):
        images = ImageDataset.from_((np.zeros((2, 40, 40)), [4, 5]), plain())
        assert images.item(1)[1] == images.label(1) == 5
        assert ImageDataset.from_(images, plain((64, 64))).read(0).shape == (64, 64, 3)

    def test_the_image_at_fault_is_named(self):
        data = np.zeros((2, 40, 40))
        data[1, 0, 0] = np.nan
        with pytest.raises(DataError, match=r"`1`.*not finite"):
            ImageDataset.from_(data, plain()).read(1)


def test_files_are_decoded_no_larger_than_needed(tmp_path, monkeypatch):
    for place in range(2):
        smooth = np.add.outer(np.arange(400), np.arange(600))[:, :, None] / 1000 * np.array([200, 150, 255])
        Pillow.fromarray(smooth.astype(np.uint8)).save(tmp_path / f"{place}.jpg", quality=95)
    source = open_source(tmp_path)
    dataset = ImageDataset(source, Preprocessing((96, 96), 3, None, None, None))
    seen = []
    of = fitting.Fit.of
    monkeypatch.setattr(fitting.Fit, "of", lambda shape, size: seen.append(shape) or of(shape, size))
    small = dataset.read(0)
    assert seen == [(100, 150, 3)]
    assert np.array_equal(small, dataset.item(0)[0])
    assert source.read(0).shape == (400, 600, 3)
    assert source.header(0)[:2] == (400, 600)
    dataset.preprocessing = Preprocessing((200, 96), 3, None, None, None)
    dataset.read(1)
    assert seen[-1] == (200, 300, 3)


@pytest.mark.parametrize("size", [(64, 64), (73, 110), (110, 73), (300, 400), (65, 64), (63, 90), (40, 300)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_the_middle_is_scaled_to_cover_the_resolution(size, dtype):
    """The same as scaling everything and cropping then, but for a pixel or two that the crop is rounded to."""
    y, x = np.mgrid[: size[0], : size[1]] * (64 / min(size))
    smooth = np.stack([128 + 60 * np.sin(x / 9), 128 + 60 * np.cos(y / 7), x + y], axis=2) / 255
    image = (smooth * 255).astype(np.uint8) if dtype == np.uint8 else smooth.clip(0, 1).astype(np.float32)
    found = plain((64, 64)).image(image)
    expected = functional.fit(image, 64, 64)
    assert found.shape == (64, 64, 3)
    assert found.dtype == dtype
    assert np.abs(found.astype(float) - expected).mean() < 0.02 * functional.peak(image)
    assert np.array_equal(plain(size).image(image), image)
