"""JPEG files: the header is right, and damage of any kind is refused."""

from __future__ import annotations

import contextlib
import io
import random
import struct

import numpy as np
import pytest
from PIL import Image

from super_selfish.errors import DataError
from super_selfish.images.image_files import decode, inspect_image
from super_selfish.images.jpeg import reduction


def encoded(mode: str = "RGB", size: tuple[int, int] = (40, 30), **options: object) -> bytes:
    bands = len(Image.new(mode, (1, 1)).getbands())
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], bands), np.uint8)
    stream = io.BytesIO()
    Image.frombytes(mode, size, noise.tobytes()).save(stream, "JPEG", **options)
    return stream.getvalue()


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x010F] = "a camera"
    tags[0x0112] = orientation
    return tags


def header(data: bytes) -> tuple[object, ...]:
    return inspect_image(io.BytesIO(data))[0]


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 5}, {"comment": b"x" * 99}]
)
@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("L", 1), ("CMYK", 3)])
def test_header(mode: str, channels: int, options: dict[str, object]) -> None:
    data = encoded(mode, **options)
    assert header(data) == (30, 40, channels, "uint8")
    assert decode(io.BytesIO(data))[0].shape == (30, 40, channels)


@pytest.mark.parametrize("orientation", range(1, 10))
@pytest.mark.parametrize("order", ["<", ">"])
def test_orientation(orientation: int, order: str) -> None:
    tags = exif(orientation)
    tags.endian = order
    sides = (40, 30) if 5 <= orientation <= 8 else (30, 40)
    assert header(encoded(exif=tags)) == (*sides, 3, "uint8")


def test_several_images_in_a_file_give_the_first() -> None:
    several = io.BytesIO()
    pictures = [Image.new("RGB", (20, 10), colour) for colour in ("red", "blue")]
    pictures[0].save(several, "MPO", save_all=True, append_images=pictures[1:])
    image, _ = decode(several)
    assert image.shape == (10, 20, 3)
    assert np.abs(image.astype(int) - (255, 0, 0)).max() < 4


def test_unusual_frames_are_refused() -> None:
    data = encoded()
    start = data.index(b"\xff\xc0")
    for damaged in (
        data[: start + 4] + b"\x0c" + data[start + 5 :],  # 12 bits
        data[: start + 5] + struct.pack(">H", 0) + data[start + 7 :],  # height given at the end
    ):
        with pytest.raises(DataError):
            decode(io.BytesIO(damaged))


def test_damage_raises_nothing_but_data_errors() -> None:
    data, dice = encoded(exif=exif(6)), random.Random(0)
    for _ in range(1000):
        damaged = bytearray(data[: dice.randrange(len(data))])
        for _ in range(dice.randrange(4)):
            if damaged:
                damaged[dice.randrange(min(300, len(damaged)))] = dice.randrange(256)
        for read in (inspect_image, decode):
            with contextlib.suppress(DataError):
                read(io.BytesIO(damaged), max_pixels=1 << 20)


@pytest.mark.parametrize(
    ("size", "cover", "orientation", "expected"),
    [
        ((1200, 1600), (225, 225), 1, 4),
        ((1200, 1600), None, 1, 1),
        ((450, 900), (225, 225), 1, 2),
        ((449, 900), (225, 225), 1, 1),
        ((100, 100), (225, 225), 1, 1),
        ((9999, 9999), (225, 225), 1, 8),
        ((900, 450), (225, 450), 1, 1),
        ((900, 450), (225, 450), 6, 2),
    ],
)
def test_as_small_as_covers(
    size: tuple[int, int], cover: tuple[int, int] | None, orientation: int, expected: int
) -> None:
    assert reduction(*size, cover, orientation) == expected
