"""Affine and smooth warps: where each pixel comes from is worked out first, and pixels are interpolated once.

As in ``functional``, each is a pure function from an H×W×C array to an array of the same shape and type; images are
uint8 in [0, 255], uint16 in [0, 65535] or float32 in [0, 1], with any number of channels.
"""

from __future__ import annotations

import functools
import math
import struct

import numpy as np
import numpy.typing as npt

from super_selfish.images import functional
from super_selfish.images.functional import Image

Origin = tuple[float, float, float, float, float, float]
"""Six numbers: (x, y) is taken from (n[0] · x + n[1] · y + n[2], n[3] · x + n[4] · y + n[5]), in px."""

NOWHERE_ELSE: Origin = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
"""Each pixel stays in its place."""

_SIX = struct.Struct("6d")


def affine(
    image: Image,
    angle: float = 0.0,
    translate: tuple[float, float] = (0.0, 0.0),
    scale: float = 1.0,
    shear: tuple[float, float] = (0.0, 0.0),
) -> Image:
    """Shear, scale, rotate and translate about the centre in one bilinear warp, the image reflected at its border.

    Args:
        image: H×W×C.
        angle: Degrees, counter-clockwise (torchvision's are clockwise).
        translate: Right and down, in px.
        scale: Factor, positive; above 1 enlarges.
        shear: Factors: a point moves right by the first times its distance below the centre, then down by the second
            times its distance right of the centre. (sx, sy) are the angles (-atan sx, -atan sy) of torchvision.

    Examples:
        >>> affine(np.array([[[1], [2], [3], [4]]], np.uint8), translate=(1, 0)).ravel().tolist()
        [2, 1, 2, 3]
    """
    return placed(image, origin_of(image.shape, angle, translate, scale, shear))


def origin_of(
    shape: tuple[int, ...],
    angle: float = 0.0,
    translate: tuple[float, float] = (0.0, 0.0),
    scale: float = 1.0,
    shear: tuple[float, float] = (0.0, 0.0),
) -> Origin:
    """Where :func:`affine` takes the pixels of an image of a shape (H, W, ...) from.

    Examples:
        >>> origin_of((9, 9, 3), translate=(2, 1))
        (1.0, 0.0, -2.0, 0.0, 1.0, -1.0)
    """
    radians = math.radians(angle)
    cos, sin = math.cos(radians) / scale, math.sin(radians) / scale
    across, down = shear
    both = 1.0 + across * down
    xx, xy = both * cos - across * sin, -both * sin - across * cos  # turned back, then sheared back
    yx, yy = sin - down * cos, cos + down * sin
    x, y = (shape[1] - 1) / 2, (shape[0] - 1) / 2
    right, below = x + translate[0], y + translate[1]
    return xx, xy + 0.0, x - xx * right - xy * below, yx, yy, y - yx * right - yy * below


def through(first: Origin, second: Origin) -> Origin:
    """Where pixels come from that are placed twice, so that one warp does both.

    Examples:
        >>> through(origin_of((9, 9), translate=(2, 1)), origin_of((9, 9), translate=(1, 1)))
        (1.0, 0.0, -3.0, 0.0, 1.0, -2.0)
    """
    xx, xy, x, yx, yy, y = first
    ax, ay, a, bx, by, b = second
    return (
        *(xx * ax + xy * bx, xx * ay + xy * by, xx * a + xy * b + x),
        *(yx * ax + yy * bx, yx * ay + yy * by, yx * a + yy * b + y),
    )


def placed(image: Image, origin: Origin) -> Image:
    """The image with its pixels taken from elsewhere, bilinearly, the image reflected at its border."""
    height, width = image.shape[:2]
    xx, xy, x, yx, yy, y = origin
    if (xx, xy, yx, yy) == (1.0, 0.0, 0.0, 1.0) and x == int(x) and y == int(y) and abs(x) < width and abs(y) < height:
        return _moved(_moved(image, int(x), 1), int(y), 0)  # whole pixels, in a quarter of the time
    matrix = np.frombuffer(_SIX.pack(*origin)).reshape(2, 3)
    return functional.warp(image, matrix, (height, width))


def _moved(image: Image, by: int, axis: int) -> Image:
    """Pixel n of an axis taken from n + by, where the axis is reflected at its ends."""
    made = np.empty(image.shape, image.dtype)
    old, new = image.swapaxes(0, axis), made.swapaxes(0, axis)
    back = old[::-1]
    if by >= 0:
        new[: len(old) - by] = old[by:]
        new[len(old) - by :] = back[1 : 1 + by]
    else:
        new[-by:] = old[:by]
        new[:-by] = back[by - 1 : -1]
    return made


def elastic(image: Image, displacement: npt.NDArray[np.floating], origin: Origin = NOWHERE_ELSE) -> Image:
    """Deform smoothly: every pixel is taken from elsewhere, bilinearly, the image reflected at its border.

    The displacements are given at nine points: the corners, the middles of the sides and the centre. Between them they
    are interpolated by the cubic spline that is mirrored at the border, along rows and columns. No value leaves the
    range of the image's own.

    Args:
        image: H×W×C.
        displacement: (2, 3, 3): how far (down, right) in px of each of the points its new pixel is found.
        origin: Where the pixels that are deformed come from in the image; one warp does both.

    Examples:
        >>> ramp = np.arange(5, dtype=np.uint8)[None, :, None]
        >>> elastic(ramp, np.stack([np.zeros((3, 3)), np.ones((3, 3))])).ravel().tolist()
        [1, 2, 3, 4, 3]
    """
    matrix = np.frombuffer(_SIX.pack(*origin)).reshape(2, 3)
    parts = np.zeros((2, 5, 5), np.float32)  # of columns and of rows: by each pair of the parts of a place
    parts[:, :3, :3] = (matrix[:, 1::-1] @ displacement.reshape(2, 9)).reshape(2, 3, 3)
    parts[:, 3, 3], parts[:, 3, 4], parts[:, 4, 3] = matrix[:, 2], matrix[:, 0], matrix[:, 1]
    x, y = _parts(image.shape[0]) @ parts @ _parts(image.shape[1]).T
    return functional.remap(image, x, y)


@functools.lru_cache(maxsize=256)
def _parts(size: int) -> npt.NDArray[np.float32]:
    """Of each pixel of an axis (size, 5): the weights of three values at its ends and middle, 1, and its coordinate.

    Mirroring makes the slope zero at both ends, so the slope in the middle is 3/4 of the difference of the ends; in
    each half the spline is the cubic with these slopes.
    """
    pixels = np.arange(size)
    place = pixels * (2.0 / max(size - 1, 1))
    t = np.where(place <= 1.0, place, 2.0 - place)[:, None]  # from the nearer end
    rise = t * t * (3.0 - 2.0 * t)
    tilt = 0.75 * t * t * (t - 1.0)
    near = np.concatenate([1.0 - rise - tilt, rise, tilt], axis=1)
    weights = np.where(place[:, None] <= 1.0, near, near[:, ::-1])
    parts = np.column_stack([weights, np.ones(size), pixels]).astype(np.float32)
    parts.setflags(write=False)
    return parts


def zoom(image: Image, top: float, left: float, height: float, width: float, size: tuple[int, int]) -> Image:
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
    return functional.warp(image, matrix, size)


def rotate(image: Image, angle: float) -> Image:
    """Rotate a square image counter-clockwise about its centre.

    Args:
        image: A square image.
        angle: Degrees, counter-clockwise. Multiples of 90 move pixels and change none; other angles are bilinear, with
            the image reflected at its border.
    """
    quarter, rest = divmod(angle % 360.0, 90.0)
    if rest == 0:
        return functional.quarter_turns(image, int(quarter))
    return affine(image, angle)
