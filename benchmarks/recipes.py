"""What does an exercise cost? Ours, and the same operations of torchvision v2 where it has them, on one core, in turn.

From photographs of 225×225 px in memory to normalised float batches. torchvision v2 gets uint8 tensors, its operations
directly where its transforms draw less than we do, and of two ways to do a thing the one that is faster for it: its
elastic deformation is a grid of nine points that is enlarged, as ours is, and a tenth of the time of ElasticTransform.

    python benchmarks/recipes.py [--rounds 7] [--images 16]
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
from collections.abc import Callable
from typing import Any

import torch
from timing import introduce, ratios, write
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F
from views import MEAN, STD, Held, measure, ours, photographs

from super_selfish.data import (
    AugmentationIndexedDataset,
    AugmentationLabIndexedDataset,
    BiDataset,
    CMCTransform,
    ContextDataset,
    ContrastivePredictiveCodingDataset,
    DenoiseDataset,
    ExemplarDataset,
    ExemplarTransform,
    JigsawDataset,
    MoCoTransform,
    RotateDataset,
    SplitBrainDataset,
)
from super_selfish.images.functional import fit
from super_selfish.pretext.pirl import image_and_jigsaw

SIZE = 225
BILINEAR = InterpolationMode.BILINEAR
between = random.uniform
Operation = Callable[[Tensor], Tensor]

NORMALISE = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])


def shear(across: float, down: float) -> Operation:
    """By factors of up to 0.3, which is 16.7 degrees."""
    return lambda x: F.affine(x, 0.0, [0, 0], 1.0, [between(-across, across), between(-down, down)], BILINEAR)


def shift(across: float, down: float) -> Operation:
    def moved(x: Tensor) -> Tensor:
        right, below = across * x.shape[2], down * x.shape[1]
        return F.affine(x, 0.0, [round(between(-right, right)), round(between(-below, below))], 1.0, [0.0])

    return moved


def cutout(x: Tensor) -> Tensor:
    side = max(1, round(between(0, 0.2) * x.shape[1]))
    top, left = random.randint(0, x.shape[1] - side), random.randint(0, x.shape[2] - side)
    return F.erase(x, top, left, side, side, torch.full((3, 1, 1), 128, dtype=torch.uint8))


def elastic(x: Tensor) -> Tensor:
    """Nine points moved by 0.045 of a side each, with a shear."""
    grid = torch.nn.functional.interpolate(
        torch.randn(1, 2, 3, 3) * 0.09, size=x.shape[1:], mode="bicubic", align_corners=True
    )
    return shear(16.7, 16.7)(F.elastic(x, grid.permute(0, 2, 3, 1), BILINEAR))


POOL: dict[str, Operation] = {
    "shear_x": shear(16.7, 0.0), "shear_y": shear(0.0, 16.7),
    "translate_x": shift(0.3, 0.0), "translate_y": shift(0.0, 0.3),
    "rotate": lambda x: F.rotate(x, between(-30, 30), BILINEAR),
    "autocontrast": F.autocontrast, "invert": F.invert, "equalize": F.equalize,
    "solarize": lambda x: F.solarize(x, between(0, 255)),
    "posterize": lambda x: F.posterize(x, random.randint(4, 8)),
    "contrast": lambda x: F.adjust_contrast(x, between(0.1, 1.9)),
    "colour": lambda x: F.adjust_saturation(x, between(0.1, 1.9)),
    "brightness": lambda x: F.adjust_brightness(x, between(0.1, 1.9)),
    "sharpness": lambda x: F.adjust_sharpness(x, between(0.1, 1.9)),
    "cutout": cutout,
}  # fmt: skip
EXEMPLARS = POOL | {
    "elastic": elastic,
    "scale": lambda x: F.affine(x, 0.0, [0, 0], between(0.7, 1.4), [0.0], BILINEAR),
    "gamma": lambda x: F.adjust_gamma(x, between(0.7, 1.4)),
    "grey": lambda x: F.rgb_to_grayscale(x, 3),
    "hue": lambda x: F.adjust_hue(x, between(-0.1, 0.1)),
}


def cpc(x: Tensor) -> tuple[Tensor]:
    """49 patches of 56 px, each changed by itself."""
    x = F.horizontal_flip(x) if random.random() < 0.5 else x
    patches = x.unfold(1, 56, 28).unfold(2, 56, 28).flatten(1, 2).unbind(1)
    return (NORMALISE(torch.stack([CPC_COLOURS(patch_changed(patch)) for patch in patches])),)


def patch_changed(patch: Tensor) -> Tensor:
    for operation in random.sample(list(POOL.values()), 2):
        patch = operation(patch)
    patch = elastic(patch) if random.random() < 0.2 else patch
    return F.adjust_gamma(patch, between(0.7, 1.4)) if random.random() < 0.2 else patch


CPC_COLOURS = v2.Compose([v2.RandomApply([v2.ColorJitter(32 / 255, 0.5, 0.5, 0.2)], p=0.8), v2.RandomGrayscale(0.25)])
PIRL_JITTER, PIRL_GREY = v2.ColorJitter(0.4, 0.4, 0.4, 0.2), v2.RandomGrayscale(0.2)
JIGSAW_JITTER = v2.ColorJitter(0.4, 0.4, 0.4, 0.1)


def pirl_colours(x: Tensor) -> Tensor:
    x = PIRL_JITTER(x)
    if random.random() < 0.66:
        x = F.adjust_sharpness(F.posterize(x, random.randint(4, 8)), between(0.1, 1.9))
        x = F.autocontrast(F.solarize(x, between(0, 255)))
    return PIRL_GREY(x)


def pirl(x: Tensor) -> tuple[Tensor, Tensor]:
    """A view of the image, and nine patches of it in another order, as one image."""
    puzzle = v2.RandomResizedCrop(SIZE, scale=(0.6, 1.0))(x)
    finish = v2.Compose([v2.RandomCrop(64), v2.RandomHorizontalFlip(), pirl_colours, v2.Resize(75)])
    view = pirl_colours(F.horizontal_flip(IMAGE_CROP(x)) if random.random() < 0.5 else IMAGE_CROP(x))
    return NORMALISE(view), NORMALISE(laid([finish(cell) for cell in cells(puzzle)]))


IMAGE_CROP = v2.RandomResizedCrop(SIZE, scale=(0.08, 1.0))


def cells(x: Tensor) -> list[Tensor]:
    return [x[:, 75 * row : 75 * row + 75, 75 * column : 75 * column + 75] for row in range(3) for column in range(3)]


def laid(tiles: list[Tensor]) -> Tensor:
    random.shuffle(tiles)
    return torch.cat([torch.cat(tiles[first : first + 3], 2) for first in (0, 3, 6)], 1)


def jigsaw(x: Tensor) -> tuple[Tensor]:
    """Nine tiles in another order, each jittered, enlarged and normalised (but without shifts between channels)."""
    x = F.rgb_to_grayscale(x, 3) if random.random() < 0.3 else x
    crop = v2.RandomCrop(64)
    tiles = [F.resize(JIGSAW_JITTER(crop(cell)), [75, 75]).to(torch.float32) for cell in cells(x)]
    return (laid([F.normalize(tile, *_moments(tile)) for tile in tiles]),)


def _moments(tile: Tensor) -> list[list[float]]:
    return [values.clamp_min(1e-3).tolist() for values in reversed(torch.std_mean(tile, (1, 2)))]


def exemplar(recipes: list[list[Operation]]) -> Callable[[Tensor], tuple[Tensor]]:
    def version(x: Tensor) -> tuple[Tensor]:
        for operation in random.choice(recipes):
            x = operation(x)
        return (NORMALISE(x),)

    return version


def batched(transform: Callable[[Tensor], tuple[Tensor, ...]], tensors: list[Tensor]) -> Callable[[int], Any]:
    return lambda _turn: [torch.stack(parts) for parts in zip(*(transform(x) for x in tensors), strict=True)]


def contestants(count: int) -> dict[str, dict[str, Callable[[int], Any]]]:
    """Each exercise: ours, and torchvision's if it has the operations."""
    images = [fit(photo, SIZE, SIZE).copy() for photo in photographs(count)]
    tensors = [torch.from_numpy(image).permute(2, 0, 1).contiguous() for image in images]
    held = Held(images)
    exemplars = ExemplarDataset(held)
    shared = [[name for name in recipe.names if name in EXEMPLARS] for recipe in exemplars.transforms]
    exemplars.transforms = tuple(ExemplarTransform(tuple(names)) for names in shared)
    others = [[EXEMPLARS[name] for name in names] for names in shared]
    pretexts = {
        "CPC, 49 patches": (ContrastivePredictiveCodingDataset(held), cpc),
        "PIRL, image and 3×3 puzzle": (image_and_jigsaw()(held), pirl),
        "Jigsaw, 3×3 tiles": (JigsawDataset(held, crops=3, total_perms=64), jigsaw),
        "ExemplarNet, without operations that torchvision lacks": (exemplars, exemplar(others)),
        "InstanceDiscrimination, one view": (AugmentationIndexedDataset(held, MoCoTransform(), views=1), None),
        "CMC, two views in Lab": (AugmentationLabIndexedDataset(held, CMCTransform()), None),
        "RotateNet, four turns": (RotateDataset(held), None),
        "Denoise": (DenoiseDataset(held), None),
        "Context": (ContextDataset(held), None),
        "SplitBrain": (SplitBrainDataset(held), None),
        "BiGAN": (BiDataset(held), None),
    }
    made: dict[str, dict[str, Callable[[int], Any]]] = {}
    for name, (dataset, peer) in pretexts.items():
        made[name] = {"super_selfish": ours(dataset, count, SIZE)}
        if peer is not None:
            made[name]["torchvision v2"] = batched(peer, tensors)
    return made


def row(name: str, times: dict[str, list[float]]) -> tuple[str, dict[str, Any]]:
    """A line of the table, and what is written down."""
    own = statistics.median(times["super_selfish"])
    result: dict[str, Any] = {"exercise": name, "microseconds": times, "images_per_second": 1e6 / own}
    line = f"| {name} | {own:.0f} | {1e6 / own:.0f} |"
    if "torchvision v2" not in times:
        return line + " | | |", result
    found = sorted(ratios(times["torchvision v2"], times["super_selfish"]))
    result["ratio"] = statistics.median(found)
    peer = statistics.median(times["torchvision v2"])
    return line + f" {peer:.0f} | **{result['ratio']:.1f}** | {found[0]:.1f} – {found[-1]:.1f} |", result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--only", default="", help="exercises whose name begins so")
    options = parser.parse_args()
    torch.set_num_threads(1)
    random.seed(0)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    introduce()
    print(f"One core; µs an image of {SIZE} px; medians of {options.rounds} rounds.\n")
    print("| exercise | super_selfish | images/s | torchvision v2 | ratio | worst – best round |")
    print("|---|---|---|---|---|---|")
    results = []
    for name, functions in contestants(options.images).items():
        if name.startswith(options.only):
            line, result = row(name, measure(functions, options.images, options.rounds))
            print(line, flush=True)
            results.append(result)
    figures = {
        row["exercise"].partition(",")[0]: ratios(
            row["microseconds"]["torchvision v2"], row["microseconds"]["super_selfish"]
        )
        for row in results
        if "ratio" in row
    }
    write("recipes", figures, results)


if __name__ == "__main__":
    main()
