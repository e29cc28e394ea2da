"""How fast are views? Ours, lightly's, torchvision v2's and kornia's, on one core, in turn.

From images in memory to normalised float batches of two views: each library gets what it takes best (arrays here, PIL
images for lightly, uint8 tensors for torchvision v2). Each round runs all of them one after the other; what is
reported is the median over rounds, and for the ratio the median of the rounds' ratios. Time is that of the process, all
of which is computed in one thread, so that what else runs on the machine matters less.

    python benchmarks/views.py [--rounds 9] [--sizes 32 96 224]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peers import ROOT, run_with

run_with(*(("lightly", "kornia") if __name__ == "__main__" else ("lightly",)))

import lightly.transforms  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from lightly.transforms import (  # noqa: E402
    BYOLView1Transform,
    BYOLView2Transform,
    MoCoV2Transform,
)
from PIL import Image  # noqa: E402
from timing import introduce, ratios, write  # noqa: E402
from torchvision.transforms import v2  # noqa: E402

from super_selfish.data import AugmentationDataset, BYOLTransform, ImageSource, MoCoTransform, Preprocessing  # noqa: E402
from super_selfish.images.buffers import Buffers  # noqa: E402
from super_selfish.images.functional import fit  # noqa: E402
from super_selfish.images.image_files import Header  # noqa: E402
from super_selfish.loading.collate import Collator, to_device  # noqa: E402
from super_selfish.loading.keyed import ImageRequest, KeyedDataset  # noqa: E402
from super_selfish.pretext.base import PretextDataset  # noqa: E402

DATA = Path(os.environ.get("SUPER_SELFISH_DATA", ROOT.parent / "shared" / "data"))
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CPU = torch.device("cpu")
OURS, PEERS = "super_selfish", ("lightly", "torchvision v2", "kornia")


def photographs(count: int) -> list[np.ndarray]:
    """Photographs with a short side of 256 px; pictures that scikit-image ships where there is no folder of data."""
    archive = DATA / "clothing10_256.tar"
    if archive.is_file():
        with tarfile.open(archive) as files:
            members = [member for member in files if member.name.endswith(".jpg")]
            chosen = members[:: len(members) // count][:count]
            return [np.asarray(Image.open(files.extractfile(member)).convert("RGB")) for member in chosen]
    from skimage import data

    shipped = [
        fit(np.ascontiguousarray(image[:, :, :3]), 256, 341)
        for image in (data.astronaut(), data.chelsea(), data.coffee(), data.rocket())
    ]
    return [shipped[index % len(shipped)] for index in range(count)]


def images_for(size: int) -> list[np.ndarray]:
    """What views of this size are usually made of: 32 px images, 96 px images, photographs of 256 px."""
    if size <= 48 and (DATA / "cifar10_sub.npz").is_file():
        return list(np.load(DATA / "cifar10_sub.npz")["x_train"][:128])
    photos = photographs(32)
    return photos if size > 128 else [np.ascontiguousarray(fit(photo, size, size)) for photo in photos]


class Held(ImageSource):
    """Images in memory, of any sizes."""

    thread_safe = True

    def __init__(self, images: list[np.ndarray]) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: int) -> np.ndarray:
        return self.images[index]

    def header(self, index: int) -> Header:
        return Header(*self.images[index].shape, "uint8")

    def fingerprint(self) -> dict[str, int | str]:
        return {"length": len(self.images)}


def ours(dataset: PretextDataset, count: int, size: int) -> Callable[[int], Any]:
    """What the training loader does with a batch, in one process and one thread."""
    keyed = KeyedDataset(dataset, 0, None, "raise")
    collate, buffers = Collator(dataset.batched), Buffers()
    preprocessing = Preprocessing((size, size), 3, None, MEAN, STD)

    def batch(turn: int) -> Any:
        items = keyed.__getitems__([ImageRequest(turn, index) for index in range(count)])
        return to_device(collate(items), CPU, preprocessing, buffers=buffers)

    return batch


def stacked(transform: Callable[[Any], Any], images: list[Any]) -> Callable[[int], Any]:
    return lambda _turn: [torch.stack(views) for views in zip(*(transform(image) for image in images), strict=True)]


def v2_views(size: int, scale: float, saturation: float, blurs: tuple[float, float], solarize: float) -> Any:
    def view(blur: float, solarized: float) -> v2.Transform:
        return v2.Compose(
            [
                v2.RandomResizedCrop(size, scale=(scale, 1.0), antialias=True),
                v2.RandomHorizontalFlip(),
                v2.RandomApply([v2.ColorJitter(0.4, 0.4, saturation, 0.1)], p=0.8),
                v2.RandomGrayscale(0.2),
                v2.RandomApply([v2.GaussianBlur(max(3, size // 10 // 2 * 2 + 1), (0.1, 2.0))], p=blur),
                v2.RandomSolarize(128, p=solarized),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(MEAN, STD),
            ]
        )

    first, second = view(blurs[0], 0.0), view(blurs[1], solarize)
    return lambda image: (first(image), second(image))


def kornia_views(
    images: list[np.ndarray], size: int, scale: float, saturation: float, blurs: tuple[float, float], solarize: float
) -> Callable[[int], Any]:
    """Batches of float tensors, which have to be of one size: images are cut to squares beforehand."""
    from kornia import augmentation as K

    side = min(images[0].shape[:2])
    squares = np.stack([fit(image, side, side) for image in images])
    batch = torch.from_numpy(squares).permute(0, 3, 1, 2).contiguous()
    taps = max(3, size // 10 // 2 * 2 + 1)

    def view(blur: float, solarized: float) -> torch.nn.Module:
        return torch.nn.Sequential(
            K.RandomResizedCrop((size, size), scale=(scale, 1.0)),
            K.RandomHorizontalFlip(),
            K.ColorJiggle(0.4, 0.4, saturation, 0.1, p=0.8),
            K.RandomGrayscale(p=0.2),
            K.RandomGaussianBlur((taps, taps), (0.1, 2.0), p=blur),
            *([K.RandomSolarize(0.0, 0.0, p=solarized)] if solarized else []),
            K.Normalize(torch.tensor(MEAN), torch.tensor(STD)),
        )

    first, second = view(blurs[0], 0.0), view(blurs[1], solarize)
    return lambda _turn: [made(batch.float() / 255) for made in (first, second)]


def contestants(size: int) -> dict[str, dict[str, Callable[[int], Any]]]:
    images = images_for(size)
    pictures = [Image.fromarray(image) for image in images]
    tensors = [torch.from_numpy(image.copy()).permute(2, 0, 1).contiguous() for image in images]
    byol = lightly.transforms.BYOLTransform(BYOLView1Transform(size), BYOLView2Transform(size))
    held = Held(images)
    views = AugmentationDataset(held, BYOLTransform(size), BYOLTransform(size, 2))
    return {
        "MoCo v2": {
            "super_selfish": ours(AugmentationDataset(held, MoCoTransform(size)), len(images), size),
            "lightly": stacked(MoCoV2Transform(size), pictures),
            "torchvision v2": stacked(v2_views(size, 0.2, 0.4, (0.5, 0.5), 0.0), tensors),
            "kornia": kornia_views(images, size, 0.2, 0.4, (0.5, 0.5), 0.0),
        },
        "BYOL": {
            "super_selfish": ours(views, len(images), size),
            "lightly": stacked(byol, pictures),
            "torchvision v2": stacked(v2_views(size, 0.08, 0.2, (1.0, 0.1), 0.2), tensors),
            "kornia": kornia_views(images, size, 0.08, 0.2, (1.0, 0.1), 0.2),
        },
    }


def microseconds(function: Callable[[int], Any], turn: int, views: int, repeats: int) -> float:
    begin = time.process_time()
    for repeat in range(repeats):
        function(1000 * turn + repeat)
    return (time.process_time() - begin) / views / repeats * 1e6


def measure(functions: dict[str, Callable[[int], Any]], views: int, rounds: int) -> dict[str, list[float]]:
    """Microseconds a view, of each in each round; ours is repeated so that all rounds take about as long."""
    repeats = dict.fromkeys(functions, 1)
    repeats["super_selfish"] = 8
    for function in functions.values():
        function(0)
    return {
        name: list(times)
        for name, times in zip(
            functions,
            zip(
                *(
                    [microseconds(function, turn, views, repeats[name]) for name, function in functions.items()]
                    for turn in range(rounds)
                ),
                strict=True,
            ),
            strict=True,
        )
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 96, 224])
    options = parser.parse_args()
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    introduce("lightly", "kornia")
    print("One core; µs a view; medians of", options.rounds, "rounds.\n")
    print("| views | px | super_selfish |", " | ".join(f"{peer} | ratio | worst – best round" for peer in PEERS), "|")
    print("|---" * (3 + 3 * len(PEERS)) + "|")
    results, figures = [], {}
    for size in options.sizes:
        for recipe, functions in contestants(size).items():
            times = measure(functions, 2 * len(images_for(size)), options.rounds)
            cells = [recipe, str(size), f"{statistics.median(times[OURS]):.0f}"]
            for peer in PEERS:
                found = ratios(times[peer], times[OURS])
                figures[f"{recipe} {size} px, {peer}"] = found
                cells += [f"{statistics.median(times[peer]):.0f}", f"**{statistics.median(found):.1f}**"]
                cells.append(f"{min(found):.1f} – {max(found):.1f}")
            print(f"| {' | '.join(cells)} |", flush=True)
            results.append({"recipe": recipe, "size": size, "microseconds": times})
    write("views", figures, results, "lightly", "kornia")


if __name__ == "__main__":
    main()
