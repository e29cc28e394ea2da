"""How fast do JPEG files become views? Ours, lightly's and torchvision v2's, on one core, in turn.

From files to normalised float batches of two 224 px views by the recipe of MoCo v2. Ours is read as a supervisor reads
a folder (images of 225 px, of which views are made); lightly gets PIL images opened from the same files; torchvision
decodes to uint8 tensors. The last columns are ours from ``cache="resized"`` and from the same images as an array. All
files are in the memory of the system before the clock starts, which counts the time that the processor spends on this
process, so that other programs disturb less.

    python benchmarks/files.py [--rounds 9] [--count 32]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peers import run_with

run_with("lightly")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from lightly.transforms import MoCoV2Transform  # noqa: E402
from PIL import Image  # noqa: E402
from timing import introduce, ratios, write  # noqa: E402
from torchvision.io import ImageReadMode, decode_jpeg, read_file  # noqa: E402
from views import CPU, DATA, MEAN, STD, photographs, v2_views  # noqa: E402

from super_selfish.data import AugmentationDataset, ImageDataset, MoCoTransform, Preprocessing, open_source  # noqa: E402
from super_selfish.images.buffers import Buffers  # noqa: E402
from super_selfish.loading.collate import Collator, to_device  # noqa: E402
from super_selfish.loading.keyed import ImageRequest, KeyedDataset  # noqa: E402

SIZE = 224
SETTLED = Preprocessing((225, 225), 3, None, MEAN, STD)
KINDS = {"short side 256": None, "1600×1200": (1600, 1200)}


def write_files(folder: Path, count: int, size: tuple[int, int] | None) -> list[Path]:
    """Photographs as JPEG files: with a short side of 256 px, or enlarged to width × height at quality 90."""
    folder.mkdir()
    archive = DATA / "clothing10_256.tar"
    if size is None and archive.is_file():
        with tarfile.open(archive) as files:
            members = [member for member in files if member.name.endswith(".jpg")]
            for place, member in enumerate(members[:: len(members) // count][:count]):
                (folder / f"{place:03}.jpg").write_bytes(files.extractfile(member).read())
        return sorted(folder.iterdir())
    paths = []
    for place, photo in enumerate(photographs(count)):
        picture = Image.fromarray(photo)
        if size is not None:
            picture = picture.transpose(Image.Transpose.ROTATE_90) if picture.height > picture.width else picture
            picture = picture.resize(size, Image.Resampling.BICUBIC)
        paths.append(folder / f"{place:03}.jpg")
        picture.save(paths[-1], quality=90)
    return paths


def ours(images: ImageDataset) -> Callable[[int], Any]:
    """What the training loader does with a batch, in one process and one thread."""
    transform = MoCoTransform(SIZE)
    keyed = KeyedDataset(AugmentationDataset(images, transform, transform), 0, None, "raise")
    collate, buffers = Collator(), Buffers()

    def batch(turn: int) -> Any:
        items = keyed.__getitems__([ImageRequest(turn, index) for index in range(len(images))])
        return to_device(collate(items), CPU, SETTLED, buffers=buffers)

    return batch


def opened(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("RGB")


def decoded(path: Path) -> torch.Tensor:
    return decode_jpeg(read_file(str(path)), ImageReadMode.RGB)


def stacked(transform: Callable[[Any], Any], read: Callable[[Path], Any], paths: list[Path]) -> Callable[[int], Any]:
    return lambda _turn: [torch.stack(views) for views in zip(*(transform(read(path)) for path in paths), strict=True)]


def measure(functions: dict[str, Callable[[int], Any]], images: int, rounds: int) -> dict[str, list[float]]:
    """Microseconds an image, of each in each round; ours is repeated, so that its part is about as long."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        function(0)
    for turn in range(rounds):
        for name, function in functions.items():
            repeats = 6 if name.startswith("super_selfish") else 1
            begin = time.process_time()
            for repeat in range(repeats):
                function(1000 * turn + repeat)
            times[name].append((time.process_time() - begin) / images / repeats * 1e6)
    return times


def cached(folder: Path, kept: Path, rounds: int) -> dict[str, list[float]]:
    """The same batches from ``cache="resized"``, filled, and from the same images as one array."""
    images = ImageDataset(open_source(folder), SETTLED)
    array = np.stack([images.read(index) for index in range(len(images))])
    functions = {
        "super_selfish cache": ours(ImageDataset(open_source(folder), SETTLED, kept)),
        "super_selfish array": ours(ImageDataset(open_source(array), SETTLED)),
    }
    return measure(functions, len(images), 3 * rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--count", type=int, default=32, help="files of each kind")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    introduce("lightly")
    print(f"One core; µs an image of two {SIZE} px views; medians of {options.rounds} rounds.")
    print(
        "\n| JPEG files | super_selfish | lightly | ratio | worst – best round | torchvision v2 | ratio "
        "| from cache | from an array | ratio |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    results, figures = [], {}
    for kind, size in KINDS.items():
        with tempfile.TemporaryDirectory() as scratch:
            paths = write_files(Path(scratch, "photos"), options.count, size)
            functions = {
                "super_selfish": ours(ImageDataset(open_source(Path(scratch, "photos")), SETTLED)),
                "lightly": stacked(MoCoV2Transform(SIZE), opened, paths),
                "torchvision v2": stacked(v2_views(SIZE, 0.2, 0.4, (0.5, 0.5), 0.0), decoded, paths),
            }
            times = measure(functions, len(paths), options.rounds)
            times |= cached(Path(scratch, "photos"), Path(scratch, "kept"), options.rounds)
        medians = {name: statistics.median(values) for name, values in times.items()}
        peers = {peer: sorted(ratios(times[peer], times["super_selfish"])) for peer in ("lightly", "torchvision v2")}
        peers["array"] = sorted(ratios(times["super_selfish cache"], times["super_selfish array"]))
        middle = {peer: statistics.median(values) for peer, values in peers.items()}
        print(
            f"| {kind} | {medians['super_selfish']:.0f} | {medians['lightly']:.0f} | **{middle['lightly']:.1f}** "
            f"| {peers['lightly'][0]:.1f} – {peers['lightly'][-1]:.1f} "
            f"| {medians['torchvision v2']:.0f} | {middle['torchvision v2']:.1f} "
            f"| {medians['super_selfish cache']:.0f} | {medians['super_selfish array']:.0f} | {middle['array']:.2f} |",
            flush=True,
        )
        figures[kind.removeprefix("short side ")] = ratios(times["lightly"], times["super_selfish"])
        figures.setdefault("cache over arrays", peers["array"])
        results.append({"files": kind, "microseconds": times, "ratio": middle})
    write("files", figures, results, "lightly")


if __name__ == "__main__":
    main()
