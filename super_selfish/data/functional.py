"""Operations on one image: pure functions from an H×W×C array to an H×W×C array of the same dtype.

Images are uint8 in [0, 255] or float32 in [0, 1], with any number of channels. This is the one file that imports
OpenCV.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[Any]

cv2.setNumThreads(0)  # one image is too little work to share; workers and prefetching threads give the parallelism


def _with_channels(image: Image) -> Image:
    return image[:, :, None] if image.ndim == 2 else image  # OpenCV drops the axis of a single channel


def _groups_of_four(image: Image) -> list[Image]:
    return [np.ascontiguousarray(image[:, :, first : first + 4]) for first in range(0, image.shape[2], 4)]


def resize(image: Image, height: int, width: int) -> Image:
    """Resample to exactly ``height`` × ``width``: by area when shrinking, bilinearly when enlarging."""
    if image.shape[:2] == (height, width):
        return image
    shrinking = height * width < image.shape[0] * image.shape[1]
    method = cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
    groups = [image] if image.shape[2] <= 4 else _groups_of_four(image)  # OpenCV averages areas of four at a time
    resized = [_with_channels(cv2.resize(group, (width, height), interpolation=method)) for group in groups]
    return resized[0] if len(resized) == 1 else np.concatenate(resized, axis=2)


def center_crop(image: Image, height: int, width: int) -> Image:
    """The middle ``height`` × ``width`` of an image that is at least as large; odd remainders favour top and left."""
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def fit(image: Image, height: int, width: int) -> Image:
    """Scale until the image covers ``height`` × ``width`` with nothing to spare on one side, then crop the middle."""
    if image.shape[:2] == (height, width):
        return image
    scale = max(height / image.shape[0], width / image.shape[1])
    covering = (max(height, round(image.shape[0] * scale)), max(width, round(image.shape[1] * scale)))
    return center_crop(resize(image, *covering), height, width)


def square(image: Image) -> Image:
    """The largest square in the middle."""
    side = min(image.shape[:2])
    return center_crop(image, side, side)


def crop_resize(image: Image, top: float, left: float, height: float, width: float, size: tuple[int, int]) -> Image:
    """Resample a rectangle, which may lie between pixels, to a size, bilinearly.

    Args:
        image: H×W×C.
        top: Upper edge of the rectangle in px, in [0, H - height].
        left: Left edge in px, in [0, W - width].
        height: Of the rectangle in px.
        width: Of the rectangle in px.
        size: Height and width of the result; meant for enlarging, or for shrinking by less than two.
    """
    down, across = height / size[0], width / size[1]
    matrix = np.array([[across, 0, left + across / 2 - 0.5], [0, down, top + down / 2 - 0.5]])  # pixel centres
    return _warp(image, matrix, size, cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def _warp(image: Image, matrix: npt.NDArray[Any], size: tuple[int, int], flags: int) -> Image:
    groups = [image[:, :, first : first + 4] for first in range(0, image.shape[2], 4)]  # OpenCV warps four at a time
    warped = [
        _with_channels(
            cv2.warpAffine(
                np.ascontiguousarray(group), matrix, size[::-1], flags=flags, borderMode=cv2.BORDER_REFLECT_101
            )
        )
        for group in groups
    ]
    return warped[0] if len(warped) == 1 else np.concatenate(warped, axis=2)


def rotate(image: Image, angle: float) -> Image:
    """Rotate a square image counter-clockwise about its centre.

    Args:
        image: A square image.
        angle: Degrees, counter-clockwise. Multiples of 90 move pixels and change none; other angles are bilinear, with
            the image reflected at its border.
    """
    quarter, rest = divmod(angle % 360.0, 90.0)
    if rest == 0:
        return np.rot90(image, int(quarter))
    side = image.shape[0]
    centre = (side - 1) / 2
    matrix = cv2.getRotationMatrix2D((centre, centre), angle, 1.0)
    return _warp(image, matrix, (side, side), cv2.INTER_LINEAR)


def inscribed_side(side: int, angle: float) -> int:
    """Side of the largest centred upright square that holds only original pixels after rotating by ``angle`` degrees.

    A square of side s rotated by a has an inscribed upright square of side s / (|sin a| + |cos a|).
    """
    radians = math.radians(angle % 90.0)
    return max(1, math.floor(side / (abs(math.sin(radians)) + abs(math.cos(radians))) + 1e-9))


def decode_png16(data: bytes, colour: bool) -> Image | None:
    """Decode a PNG file of 16 bits a sample, which Pillow would reduce to 8.

    Args:
        data: The content of the file.
        colour: Whether the file stores colours (else one grey channel is returned).

    Returns:
        H×W×3 or H×W×1 of uint16 without alpha, orientation not applied, or None if OpenCV cannot decode it.
    """
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None or image.dtype != np.uint16:
        return None
    image = _with_channels(image)
    return np.ascontiguousarray(image[:, :, 2::-1] if colour else image[:, :, :1])
