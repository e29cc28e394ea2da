"""The command ``super-selfish evaluate``."""

from __future__ import annotations

from typing import Any

from super_selfish.cli.output import FOLDER, NAME, echo
from super_selfish.cli.shared_flags import NetworkFlags
from super_selfish.errors import check_argument


def evaluate(
    name: str = NAME,
    data: str = FOLDER,
    /,
    *,
    test: str | None = None,
    groups: str | None = None,
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
        groups: Regular expression that finds the group of a labelled image in its path, such as "patient_[0-9]+".
            Images of a group stay together in the splits, and intervals are over groups.
        seeds: Number of random splits and probes to average over.
        num_workers: Number of data-loading worker processes.
        published: Backbone whose published weights are compared as they are, such as resnet18; downloaded if they are
            not cached. Default: the backbone of the training, if its published weights are cached.
        network: Flags of the network.
    """
    from super_selfish.cli.scores import scored

    check_argument(seeds >= 1, "seeds", seeds, "at least 1")
    check_argument(num_workers >= 0, "num_workers", num_workers, "at least 0")
    echo(table(scored(network.load(name), name, data, test, seeds, num_workers, published, groups)))
    return 0


def table(found: dict[str, Any]) -> str:
    """The scores as text, and the verdicts."""
    width = max(12, *(len(name) + 2 for name in found["scores"]))
    lines = [f"{'features':{width}}{'kNN accuracy':>16}{'linear probe accuracy':>24}{'effective rank':>18}"]
    for name, row in found["scores"].items():
        near, probe = (f"{100 * row[key]['mean']:.1f} % ± {100 * row[key]['sd']:.1f}" for key in ("knn", "probe"))
        measured = row["quality"]
        lines.append(
            f"{name:{width}}{near:>16}{probe:>24}{measured['effective_rank']:>11.1f} of {measured['dimensions']}"
        )
    lines += ["", found["protocol"], *found.get("notes", [])]
    lines += [found["scores"]["trained"][key]["protocol"] for key in ("knn", "probe")]
    lines += ["", *(verdict["text"] for verdict in found["verdicts"])]
    return "\n".join(lines)
