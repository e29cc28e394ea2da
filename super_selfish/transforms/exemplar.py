"""The transformations of Exemplar CNNs: one composition of random operations per variant."""

from __future__ import annotations

from dataclasses import dataclass

from super_selfish.errors import check_argument, did_you_mean
from super_selfish.images.functional import Image
from super_selfish.renamed import old_names
from super_selfish.seeding import KeyedGenerator
from super_selfish.transforms import warps
from super_selfish.transforms.base import Transform
from super_selfish.transforms.pool import POOL, Operation, Uniform, deform


@dataclass(frozen=True)
class ExemplarTransform(Transform):
    """Some operations, each time with other magnitudes.

    Shifts, rotation, scaling and shear are done in one warp, before all else.

    Args:
        names: Of :data:`OPERATIONS`, at most one of a kind.

    Raises:
        ConfigurationError: If an operation is unknown, or two are of one kind.

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
        check_argument(is_valid, "names", self.names, f"some of {', '.join(OPERATIONS)}, at most one of a kind", fix)

    def augment(self, image: Image, generator: KeyedGenerator) -> Image:
        """A version of an image; without operations, the image itself."""
        chosen = [OPERATIONS[name] for name in self.names]
        affine = [operation for operation in chosen if operation.apply is warps.affine]
        placed = {key: value for operation in affine for key, value in operation.draw(generator, image.shape).items()}
        version = image
        for operation in chosen:  # all geometry is one warp, where it comes first
            if operation.apply is deform:
                origin = warps.origin_of(image.shape, **placed)
                version, placed = deform(image, origin=origin, **operation.draw(generator, image.shape)), {}
        version = warps.affine(image, **placed) if placed else version
        for operation in chosen:
            if operation.apply not in (warps.affine, deform):
                version = operation(version, generator)
        return version


# Differs from the paper: AutoAugment's operations, elastic deformation, sharpness and occlusion come in addition
OPERATIONS: dict[str, Operation] = {
    **{name: POOL[name] for name in ("translate", "scale", "shear_x", "shear_y", "elastic", "hue", "sharpness")},
    **{name: POOL[name] for name in ("autocontrast", "equalize", "principal_contrast", "gamma", "colour", "grey")},
    **{name: POOL[name] for name in ("saturation_value", "cutout", "invert", "solarize", "posterize")},
    "rotate": POOL["rotate"]._replace(draw=Uniform("angle", -20.0, 20.0)),
    "contrast": POOL["contrast"]._replace(draw=Uniform("factor", 0.5, 2.0, log=True)),
    "brightness": POOL["brightness"]._replace(draw=Uniform("factor", 0.7, 1.4, log=True)),
}
"""What recipes are made of, within the paper's ranges where it has any."""


__getattr__ = old_names(__name__)
