"""The command ``super-selfish evaluate``."""

from __future__ import annotations

from super_selfish.cli.output import FOLDER, NAME, echo
from super_selfish.cli.shared_flags import NetworkFlags
from super_selfish.errors import check_argument


def evaluate(
    name: str = NAME,
    data: str = FOLDER,
    /,
    *,
    test: str | None = None,
    seeds: int = 3,
    num_workers: int = 0,
    published: str | None = None,
    network: NetworkFlags,
) -> int:
    """Evaluate trained features on labelled images against an untrained network, raw pixels and published weights.

    By kNN and a linear probe on frozen features. Each image is read once; a probe takes seconds to a minute. The last
    lines state whether the trained features are better than, no different from, or worse than those of the untrained
    network and raw pixels, with 95 % intervals. All results are saved in NAME.scores.json, for the report.

    Args:
        name: Name of the training.
        data: Folder with one subfolder per class, or CSV file of paths and classes. The subfolders train and test are
            used if both exist.
        test: Test images: folder or CSV file. Default: a random half of the images of each class.
        seeds: Number of random splits and probes to average over.
        num_workers: Number of data-loading worker processes.
        published: Backbone whose published weights are compared as they are, such as resnet18; downloaded if they are
            not cached. Default: the backbone of the training, if its published weights are cached.
        network: Flags of the network.
    """
    from super_selfish.cli.scores import scored, table

    check_argument(seeds >= 1, "seeds", seeds, "at least 1")
    check_argument(num_workers >= 0, "num_workers", num_workers, "at least 0")
    echo(table(scored(network.load(name), name, data, test, seeds, num_workers, published)))
    return 0
