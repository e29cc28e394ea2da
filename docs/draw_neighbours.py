"""Draw nearest neighbours of labelled photographs before and after a training, into docs/figures/neighbours.png.

usage: python docs/draw_neighbours.py NAME LABELLED

NAME is a stored training, LABELLED a folder with a subfolder for each class.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib import pyplot
from PIL import Image

import super_selfish
from super_selfish.cli.scores import untrained_backbone
from super_selfish.data import open_source
from super_selfish.evaluation import extract_features
from super_selfish.evaluation.baseline import adapt_batch_norm
from super_selfish.reports import nearest, neighbours

OUTPUT = Path(__file__).parent / "figures" / "neighbours.png"
QUERIES, NEIGHBOURS = 5, 5


def square(image: np.ndarray) -> np.ndarray:
    """The middle of an image."""
    side = min(image.shape[:2])
    top, left = ((length - side) // 2 for length in image.shape[:2])
    return image[top : top + side, left : left + side]


def main() -> None:
    """Search the images of the folder for each query, with the features of both networks."""
    name, folder = sys.argv[1:]
    supervisor, source = super_selfish.load(name), open_source(folder)
    torch.manual_seed(0)
    untrained, _ = untrained_backbone(supervisor)
    adapt_batch_norm(untrained, source)
    networks = {"untrained network": untrained, "trained without labels": supervisor.get_backbone()}
    found, shares = {}, []
    for title, network in networks.items():
        features, labels = extract_features(network, folder)
        nearest_of_all = nearest(features, features, k=NEIGHBOURS + 1)[:, 1:]  # the nearest is the query itself
        queries = [int(np.flatnonzero(labels == label)[3]) for label in np.unique(labels)[:QUERIES]]
        found[title] = nearest_of_all[queries]
        same = (np.asarray(labels)[nearest_of_all] == np.asarray(labels)[:, None]).mean()
        shares.append(f"{title} {100 * same:.1f} %")
    images = [square(source.read(index)) for index in range(len(source))]
    figure = neighbours(
        [images[index] for index in queries],
        images,
        found,
        labels=labels,
        query_labels=labels[queries],
        title=f"Nearest neighbours among {len(images)} photographs that were not trained on",
        subtitle=f"Of the same class among the {NEIGHBOURS} nearest of all: {', '.join(shares)}",
    )
    OUTPUT.parent.mkdir(exist_ok=True)
    figure.savefig(OUTPUT, dpi=90)
    pyplot.close(figure)
    with Image.open(OUTPUT) as drawn:
        drawn.convert("RGB").quantize(256).save(OUTPUT, optimize=True)  # a third of the size


if __name__ == "__main__":
    main()
