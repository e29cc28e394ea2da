"""Draw nearest neighbours of labelled photographs before and after a training, into docs/figures/neighbours.png.

usage: python docs/draw_neighbours.py NAME LABELLED

NAME is a stored training, LABELLED a folder with a subfolder for each class.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib import pyplot

import super_selfish
from super_selfish.cli.scores import untrained_backbone
from super_selfish.data import open_source
from super_selfish.evaluation import extract_features
from super_selfish.evaluation.baseline import adapt_batch_norm
from super_selfish.reports import nearest, neighbours

OUTPUT = Path(__file__).parent / "figures" / "neighbours.png"
QUERIES, NEIGHBOURS = 5, 5


def main() -> None:
    """Search the images of the folder for each query, with the features of both networks."""
    name, folder = sys.argv[1:]
    supervisor, source = super_selfish.load(name), open_source(folder)
    untrained, _ = untrained_backbone(supervisor)
    adapt_batch_norm(untrained, source)
    found = {}
    for title, network in {
        "untrained network": untrained,
        "trained, without labels": supervisor.get_backbone(),
    }.items():
        features, labels = extract_features(network, folder)
        queries = [int(np.flatnonzero(labels == label)[3]) for label in np.unique(labels)[:QUERIES]]
        found[title] = nearest(features[queries], features, k=NEIGHBOURS + 1)[:, 1:]  # the nearest is the query itself
    images = [source.read(index) for index in range(len(source))]
    figure = neighbours(
        [images[index] for index in queries], images, found, labels=labels, query_labels=labels[queries]
    )
    OUTPUT.parent.mkdir(exist_ok=True)
    figure.savefig(OUTPUT, dpi=80, pil_kwargs={"optimize": True})
    pyplot.close(figure)


if __name__ == "__main__":
    main()
