"""Transformations of Exemplar CNNs: compositions of random operations."""

from __future__ import annotations

from dataclasses import dataclass

from super_selfish.errors import check_argument
from super_selfish.images.functional import Image
from super_selfish.renamed import old_names
from super_selfish.seeding import KeyedGenerator
from super_selfish.suggestions import did_you_mean
from super_selfish.transforms import warps
from super_selfish.transforms.base import Transform
from super_selfish.transforms.pool import POOL, Operation, Uniform, deform


@dataclass(frozen=True)
class ExemplarTransform(Transform):
    """A fixed set of operations with random magnitudes.

    Translation, rotation, scaling and shear are applied first, as a single affine warp.

    Args:
        names: Keys of :data:`OPERATIONS`, at most one of each kind.

    Raises:
        ConfigurationError: If an operation is unknown, or two are of the same kind.

    Examples:
        >>> import numpy as np
        >>> ExemplarTransform(("rotate", "hue")).augment(np.zeros((8, 9, 3), np.uint8), KeyedGenerator(0)).shape
        (8, 9, 3)
    """

    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        kinds = [OPERATIONS[name].kind for name in self.names if name in OPERATIONS]
        is_valid = len(kinds) == len(self.names) == len(set(kinds))
        fix = next((did_you_mean(name, tuple(OPERATIONS)) for name in self.names if name not in OPERATIONS), None)
        expected = f"a subset of {', '.join(OPERATIONS)}, at most one of a kind"
        check_argument(is_valid, "names", self.names, expected, fix)

    def augment(self, image: Image, generator: KeyedGenerator) -> Image:
        """Return a random view. Without operations, return the image itself."""
        operations = [OPERATIONS[name] for name in self.names]
        affine = [operation for operation in operations if operation.apply is warps.affine]
        warp = {key: value for operation in affine for key, value in operation.draw(generator, image.shape).items()}
        view = image
        for operation in operations:  # the affine warp and the deformation are one interpolation
            if operation.apply is deform:
                matrix = warps.inverse_matrix(image.shape, **warp)
                view, warp = deform(image, matrix=matrix, **operation.draw(generator, image.shape)), {}
        view = warps.affine(image, **warp) if warp else view
        for operation in operations:
            if operation.apply not in (warps.affine, deform):
                view = operation(view, generator)
        return view


# Differs from the paper: AutoAugment's operations, elastic deformation, sharpness and occlusion come in addition
OPERATIONS: dict[str, Operation] = {
    **{name: POOL[name] for name in ("translate", "scale", "shear_x", "shear_y", "elastic", "hue", "sharpness")},
    **{name: POOL[name] for name in ("autocontrast", "equalize", "principal_contrast", "gamma", "colour", "grey")},
    **{name: POOL[name] for name in ("saturation_value", "cutout", "invert", "solarize", "posterize")},
    "rotate": POOL["rotate"]._replace(draw=Uniform("angle", -20.0, 20.0)),
    "contrast": POOL["contrast"]._replace(draw=Uniform("factor", 0.5, 2.0, log=True)),
    "brightness": POOL["brightness"]._replace(draw=Uniform("factor", 0.7, 1.4, log=True)),
}
"""The available operations by name. Magnitudes follow the paper where it gives a range."""


__getattr__ = old_names(__name__)
