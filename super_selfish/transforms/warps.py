"""Affine warps and elastic deformations. Warps are composed first, so that pixels are interpolated only once.

Each operation is a pure function of an H×W×C array that returns an array of the same dtype. Images are uint8 in
[0, 255], uint16 in [0, 65535] or float32 in [0, 1], with any number of channels.
"""

from __future__ import annotations

import functools
import math
import struct

import numpy as np
import numpy.typing as npt

from super_selfish.images import functional
from super_selfish.images.functional import Image

InverseMatrix = tuple[float, float, float, float, float, float]
"""Inverse affine matrix m, in px: output (x, y) is sampled at (m[0] x + m[1] y + m[2], m[3] x + m[4] y + m[5])."""

IDENTITY: InverseMatrix = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
"""The identity warp."""

_SIX = struct.Struct("6d")


def affine(
    image: Image,
    angle: float = 0.0,
    translate: tuple[float, float] = (0.0, 0.0),
    scale: float = 1.0,
    shear: tuple[float, float] = (0.0, 0.0),
) -> Image:
    """Shear, scale, rotate and translate about the centre in one bilinear warp with reflection padding.

    Args:
        image: H×W×C array.
        angle: Rotation angle in degrees, counter-clockwise (torchvision rotates clockwise).
        translate: Translation to the right and downwards in px.
        scale: Positive scale factor. Factors above 1 enlarge the image.
        shear: Shear factors (sx, sy). A point moves right by sx times its distance below the centre, then down by sy
            times its distance to the right of the centre. torchvision's angles are (-atan sx, -atan sy).

    Examples:
        >>> affine(np.array([[[1], [2], [3], [4]]], np.uint8), translate=(1, 0)).ravel().tolist()
        [2, 1, 2, 3]
    """
    return placed(image, inverse_matrix(image.shape, angle, translate, scale, shear))


def inverse_matrix(
    shape: tuple[int, ...],
    angle: float = 0.0,
    translate: tuple[float, float] = (0.0, 0.0),
    scale: float = 1.0,
    shear: tuple[float, float] = (0.0, 0.0),
) -> InverseMatrix:
    """Return the inverse matrix of :func:`affine` for an image of shape (H, W, ...).

    Examples:
        >>> inverse_matrix((9, 9, 3), translate=(2, 1))
        (1.0, 0.0, -2.0, 0.0, 1.0, -1.0)
    """
    radians = math.radians(angle)
    cos, sin = math.cos(radians) / scale, math.sin(radians) / scale
    shear_x, shear_y = shear
    both = 1.0 + shear_x * shear_y
    xx, xy = both * cos - shear_x * sin, -both * sin - shear_x * cos  # inverse rotation, then inverse shear
    yx, yy = sin - shear_y * cos, cos + shear_y * sin
    x, y = (shape[1] - 1) / 2, (shape[0] - 1) / 2
    right, below = x + translate[0], y + translate[1]
    return xx, xy + 0.0, x - xx * right - xy * below, yx, yy, y - yx * right - yy * below


def compose(first: InverseMatrix, second: InverseMatrix) -> InverseMatrix:
    """Return the inverse matrix of applying ``first``, then ``second``.

    Examples:
        >>> compose(inverse_matrix((9, 9), translate=(2, 1)), inverse_matrix((9, 9), translate=(1, 1)))
        (1.0, 0.0, -3.0, 0.0, 1.0, -2.0)
    """
    xx, xy, x, yx, yy, y = first
    ax, ay, a, bx, by, b = second
    return (
        *(xx * ax + xy * bx, xx * ay + xy * by, xx * a + xy * b + x),
        *(yx * ax + yy * bx, yx * ay + yy * by, yx * a + yy * b + y),
    )


def placed(image: Image, matrix: InverseMatrix) -> Image:
    """Apply an affine warp with bilinear interpolation and reflection padding."""
    height, width = image.shape[:2]
    xx, xy, x, yx, yy, y = matrix
    if (xx, xy, yx, yy) == (1.0, 0.0, 0.0, 1.0) and x == int(x) and y == int(y) and abs(x) < width and abs(y) < height:
        return _shifted(_shifted(image, int(x), 1), int(y), 0)  # integer translations: four times as fast
    return functional.warp(image, np.frombuffer(_SIX.pack(*matrix)).reshape(2, 3), (height, width))


def _shifted(image: Image, offset: int, axis: int) -> Image:
    """Sample position n of an axis at n + offset, with reflection padding."""
    result = np.empty(image.shape, image.dtype)
    old, new = image.swapaxes(0, axis), result.swapaxes(0, axis)
    reflected = old[::-1]
    if offset >= 0:
        new[: len(old) - offset] = old[offset:]
        new[len(old) - offset :] = reflected[1 : 1 + offset]
    else:
        new[-offset:] = old[:offset]
        new[:-offset] = reflected[offset - 1 : -1]
    return result


def elastic(image: Image, displacement: npt.NDArray[np.floating], matrix: InverseMatrix = IDENTITY) -> Image:
    """Apply an elastic deformation with bilinear interpolation and reflection padding.

    The displacements of nine control points are given: the corners, the midpoints of the sides, and the centre. Between
    the points, displacements are interpolated by a cubic spline with mirror boundary conditions. The result stays
    within the value range of the image.

    Args:
        image: H×W×C array.
        displacement: Displacements (2, 3, 3) in px: the (vertical, horizontal) offset at which the output at each
            control point is sampled.
        matrix: Affine warp to apply before the deformation, in the same interpolation.

    Examples:
        >>> ramp = np.arange(5, dtype=np.uint8)[None, :, None]
        >>> elastic(ramp, np.stack([np.zeros((3, 3)), np.ones((3, 3))])).ravel().tolist()
        [1, 2, 3, 4, 3]
    """
    affine_part = np.frombuffer(_SIX.pack(*matrix)).reshape(2, 3)
    weights = np.zeros((2, 5, 5), np.float32)  # of x and y: one weight for each pair of row and column basis functions
    weights[:, :3, :3] = (affine_part[:, 1::-1] @ displacement.reshape(2, 9)).reshape(2, 3, 3)
    weights[:, 3, 3], weights[:, 3, 4], weights[:, 4, 3] = affine_part[:, 2], affine_part[:, 0], affine_part[:, 1]
    x, y = _basis(image.shape[0]) @ weights @ _basis(image.shape[1]).T
    return functional.remap(image, x, y)


@functools.lru_cache(maxsize=256)
def _basis(size: int) -> npt.NDArray[np.float32]:
    """Basis functions (size, 5) at each pixel of an axis: three spline weights, 1, and the coordinate.

    The spline weights belong to the control points at the start, the middle and the end of the axis. Mirror boundary
    conditions make the slope zero at both ends. The slope in the middle is then 3/4 of the difference between the ends,
    and each half is the cubic with these slopes.
    """
    pixels = np.arange(size)
    position = pixels * (2.0 / max(size - 1, 1))
    t = np.where(position <= 1.0, position, 2.0 - position)[:, None]  # distance from the nearer end
    rise = t * t * (3.0 - 2.0 * t)
    tilt = 0.75 * t * t * (t - 1.0)
    near = np.concatenate([1.0 - rise - tilt, rise, tilt], axis=1)
    weights = np.where(position[:, None] <= 1.0, near, near[:, ::-1])
    basis = np.column_stack([weights, np.ones(size), pixels]).astype(np.float32)
    basis.setflags(write=False)
    return basis


def zoom(image: Image, top: float, left: float, height: float, width: float, size: tuple[int, int]) -> Image:
    """Resize a rectangle with fractional coordinates by bilinear interpolation, without anti-aliasing.

    Args:
        image: H×W×C array.
        top: Top edge of the rectangle in px, in [0, H - height].
        left: Left edge of the rectangle in px, in [0, W - width].
        height: Height of the rectangle in px.
        width: Width of the rectangle in px.
        size: Height and width of the result in px. Suitable for enlarging, or for downscaling by less than 2.
    """
    down, across = height / size[0], width / size[1]
    matrix = np.array([[across, 0, left + across / 2 - 0.5], [0, down, top + down / 2 - 0.5]])  # pixel centres
    return functional.warp(image, matrix, size)


def rotate(image: Image, angle: float) -> Image:
    """Rotate a square image counter-clockwise about its centre.

    Args:
        image: A square image.
        angle: Rotation angle in degrees, counter-clockwise. Multiples of 90 are exact. Other angles use bilinear
            interpolation and reflection padding.
    """
    quarters, remainder = divmod(angle % 360.0, 90.0)
    if remainder == 0:
        return functional.quarter_turns(image, int(quarters))
    return affine(image, angle)
