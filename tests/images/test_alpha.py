"""Alpha channels: dropped, kept as channels, or blended with a background."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from super_selfish.datasets.sources import open_source
from super_selfish.images import image_files
from super_selfish.images.image_files import AlphaRule

RNG = np.random.default_rng(0)


def saved(path: Path, mode: str) -> np.ndarray:
    """Save a picture with alpha; returns what it holds."""
    picture = Image.fromarray(RNG.integers(0, 256, (20, 30, 2 if mode == "LA" else 4), dtype=np.uint8))
    picture = picture.quantize(16) if mode == "P" else picture
    picture.save(path, **({"lossless": True, "exact": True} if path.suffix == ".webp" else {}))
    return np.asarray(picture if mode == "LA" else picture.convert("RGBA"))


@pytest.mark.parametrize(
    ("mode", "suffix"), [("RGBA", "png"), ("RGBA", "tif"), ("RGBA", "webp"), ("LA", "png"), ("LA", "tif"), ("P", "png")]
)
def test_kept_or_blended_or_dropped(tmp_path: Path, mode: str, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    expected = saved(path, mode)
    colours = expected.shape[2] - 1
    keep = AlphaRule(channels=colours + 1)
    assert np.array_equal(image_files.load(path, alpha=keep).image, expected)
    assert image_files.contents(path, alpha=keep).header.channels == colours + 1
    assert not image_files.contents(path, alpha=keep).alpha
    dropped = image_files.load(path)
    assert np.array_equal(dropped.image, expected[:, :, :colours])
    assert dropped.alpha
    blended = image_files.load(path, alpha=AlphaRule(background=(1.0,)))
    assert not blended.alpha
    opacity = expected[:, :, colours:] / 255
    assert np.abs(blended.image - (expected[:, :, :colours] * opacity + 255 * (1 - opacity))).max() <= 1


def test_deep_png(tmp_path: Path) -> None:
    values = RNG.integers(0, 65536, (20, 30, 4), dtype=np.uint16)
    cv2.imwrite(str(tmp_path / "x.png"), values[:, :, [2, 1, 0, 3]])
    assert np.array_equal(image_files.load(tmp_path / "x.png", alpha=AlphaRule(4)).image, values)


@pytest.mark.parametrize("colour", [True, False])
def test_a_transparent_colour(tmp_path: Path, colour: bool) -> None:
    values = RNG.integers(0, 4, (20, 30, 3), dtype=np.uint8)[:, :, : 3 if colour else 1].squeeze()
    Image.fromarray(values).save(tmp_path / "x.png", transparency=(1, 2, 3) if colour else 2)
    kept = image_files.load(tmp_path / "x.png", alpha=AlphaRule(4 if colour else 2)).image
    expected = (values == (1, 2, 3)).all(axis=2) if colour else values == 2
    assert np.array_equal(kept[:, :, -1] == 0, expected)


def png_of(depth: int, values: np.ndarray, transparent: tuple[int, ...]) -> bytes:
    """An 8 px wide PNG of grey or RGB samples of ``depth`` bits, with one transparent colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, channels = values.shape
    bits = np.unpackbits(values.astype(">u2").reshape(height, -1).view(np.uint8), axis=1)
    rows = np.packbits(bits.reshape(height, -1, 16)[:, :, 16 - depth :].reshape(height, -1), axis=1)
    head = struct.pack(">IIBBBBB", width, height, depth, 2 if channels == 3 else 0, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    colour = struct.pack(f">{channels}H", *transparent)
    chunks = (b"IHDR", head), (b"tRNS", colour), (b"IDAT", data), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in chunks)


@pytest.mark.parametrize(("depth", "channels"), [(1, 1), (2, 1), (4, 1), (8, 1), (8, 3), (16, 1), (16, 3)])
def test_transparent_colours_are_compared_at_full_depth(tmp_path: Path, depth: int, channels: int) -> None:
    values = RNG.integers(0, 1 << depth, (6, 8, channels), dtype=np.uint16)
    values[0, 0] = values[-1, -1] ^ 1  # at 16 bits, differs in the lowest bit alone
    (tmp_path / "x.png").write_bytes(png_of(depth, values, tuple(values[-1, -1])))
    kept = image_files.load(tmp_path / "x.png", alpha=AlphaRule(channels + 1)).image
    white = 65535 if depth == 16 else 255
    assert np.array_equal(kept[:, :, :-1], values * (white // ((1 << depth) - 1)))
    assert np.array_equal(kept[:, :, -1] == 0, (values == values[-1, -1]).all(axis=2))
    assert kept[0, 0, -1] == white


def test_images_in_memory_and_encoded_ones() -> None:
    picture = Image.fromarray(RNG.integers(0, 256, (40, 40, 4), dtype=np.uint8))
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    source = open_source([picture, picture]).with_alpha(AlphaRule(4))
    assert np.array_equal(source.read(0), np.asarray(picture))
    encoded = open_source([{"image": {"bytes": stream.getvalue()}}] * 2).with_alpha(AlphaRule(4))
    assert np.array_equal(encoded.read(1), np.asarray(picture))
    blended = open_source([picture, picture]).with_alpha(AlphaRule(3, (0.0, 0.0, 0.0)))
    assert blended.read(0).shape == (40, 40, 3)


def test_what_is_dropped_is_a_warning_that_names_the_way_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for place in range(3):
        values = RNG.integers(0, 255, (48, 48, 4), dtype=np.uint8)
        tifffile.imwrite(tmp_path / f"{place}.tif", values, photometric="rgb", extrasamples=["unassalpha"])
    source = open_source(tmp_path)
    for reading in (source, source.covering((40, 40))):
        for index in range(3):
            reading.read(index)
            reading.header(index)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "channels=4" in record.getMessage()
    caplog.clear()
    assert source.with_alpha(AlphaRule(4)).read(0).shape == (48, 48, 4)
    assert not caplog.records


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("colours", [1, 3])
def test_colours_of_tiff_that_are_multiplied_by_alpha_are_divided(tmp_path: Path, dtype: Any, colours: int) -> None:
    white = 1.0 if dtype == np.float32 else np.iinfo(dtype).max
    values, opacity = RNG.random((20, 30, colours)), RNG.random((20, 30, 1)) * 0.9 + 0.1
    stored = np.concatenate([values * opacity, opacity], axis=2) * white
    stored = (stored if dtype == np.float32 else np.rint(stored)).astype(dtype)
    photometric = "rgb" if colours == 3 else "minisblack"
    options = {"photometric": photometric, "extrasamples": ["assocalpha"], "planarconfig": "contig", "metadata": None}
    tifffile.imwrite(tmp_path / "x.tif", stored, **options)
    found = image_files.load(tmp_path / "x.tif")
    assert found.alpha
    assert np.abs(found.image / white - values).max() < (0.06 if dtype == np.uint8 else 1e-3)
    kept = image_files.load(tmp_path / "x.tif", alpha=AlphaRule(colours + 1)).image
    assert np.array_equal(kept, np.concatenate([found.image, stored[:, :, colours:]], axis=2))
    behind = image_files.load(tmp_path / "x.tif", alpha=AlphaRule(colours, (1.0,))).image
    assert np.abs(behind / white - (values * opacity + 1 - opacity)).max() < (0.01 if dtype == np.uint8 else 1e-3)
