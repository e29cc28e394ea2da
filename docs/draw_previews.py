"""Draw the preview of algorithms on photographs that come with scikit-image, into docs/papers/previews.

usage: python docs/draw_previews.py [NAME ...]      all of them without names
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import skimage.data
from matplotlib import pyplot

from super_selfish.supervisors import all_supervisors

NAMES = ("astronaut", "chelsea", "coffee", "rocket")
FOLDER = Path(__file__).parent / "papers" / "previews"


def square(image: np.ndarray) -> np.ndarray:
    """The middle of an image."""
    side = min(image.shape[:2])
    top, left = ((length - side) // 2 for length in image.shape[:2])
    return image[top : top + side, left : left + side, :3]


def main() -> None:
    """Draw those that were asked for."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    images = [square(getattr(skimage.data, name)()) for name in NAMES]
    for name, algorithm in all_supervisors().items():
        if name not in (sys.argv[1:] or all_supervisors()):
            continue
        supervisor = algorithm(images, resolution=128, backbone="small_resnet")
        figure = supervisor.preview(count=3)
        figure.savefig(FOLDER / f"{name}.png", dpi=70, pil_kwargs={"optimize": True})
        pyplot.close(figure)


if __name__ == "__main__":
    main()
