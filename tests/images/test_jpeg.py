"""What a JPEG says of itself is what Pillow says of it."""

from __future__ import annotations

import io
import random
import struct

import numpy as np
import pytest
from PIL import Image

from super_selfish.images.jpeg import HEAD, Frame, read_frame, reduction


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


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 5}, {"comment": b"x" * 99}]
)
@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("L", 1)])
def test_size_and_channels(mode: str, channels: int, options: dict[str, object]) -> None:
    assert read_frame(encoded(mode, **options)) == Frame(30, 40, channels, 1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_the_orientation(orientation: int, order: str) -> None:
    tags = exif(orientation)
    tags.endian = order
    assert read_frame(encoded(exif=tags)) == Frame(30, 40, 3, orientation)


def test_the_beginning_of_a_file_is_enough() -> None:
    data = encoded(size=(900, 900), quality=100)
    assert len(data) > HEAD
    assert read_frame(data[:HEAD]) == Frame(900, 900, 3, 1)


def test_what_is_out_of_the_ordinary_is_left_to_pillow() -> None:
    assert read_frame(encoded("CMYK")) is None
    assert read_frame(encoded(exif=exif(9))) is None
    several = io.BytesIO()
    pictures = [Image.new("RGB", (20, 10)), Image.new("RGB", (20, 10))]
    pictures[0].save(several, "MPO", save_all=True, append_images=pictures[1:])
    assert read_frame(several.getvalue()) is None
    data = encoded()
    start = data.index(b"\xff\xc0")
    assert read_frame(data[: start + 4] + b"\x0c" + data[start + 5 :]) is None  # 12 bits
    assert read_frame(data[: start + 5] + struct.pack(">H", 0) + data[start + 7 :]) is None  # height told at the end


def test_damage_is_no_error() -> None:
    data, dice = encoded(exif=exif(6)), random.Random(0)
    for _ in range(3000):
        damaged = bytearray(data[: dice.randrange(len(data))])
        for _ in range(dice.randrange(4)):
            if damaged:
                damaged[dice.randrange(min(300, len(damaged)))] = dice.randrange(256)
        found = read_frame(bytes(damaged))
        assert found is None or (found.channels in (1, 3) and 1 <= found.orientation <= 8)


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
