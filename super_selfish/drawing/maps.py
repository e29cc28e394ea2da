"""Features as points on a plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from super_selfish.drawing.figures import PALETTE, DisplayableFigure, heading, heading_height
from super_selfish.errors import ConfigurationError, validate_keywords
from super_selfish.evaluation.score import Features, as_features, as_labels

Points = npt.NDArray[np.float64]
_MANY = 30  # images that t-SNE needs to be worth more than PCA
_DIMENSIONS = 50
_SHAPES = "osD^v<>PX*"


@validate_keywords()
def project(features: Features, *, seed: int = 0) -> Points:
    """Features on a plane: neighbours stay neighbours, distances between groups mean little.

    Standardised, reduced to 50 dimensions by PCA, then t-SNE; fewer than 30 images by PCA alone.

    Args:
        features: One row for each image (images, dim), at least two.
        seed: Of t-SNE.

    Returns:
        Coordinates (images, 2).

    Raises:
        DataError: If features are missing or not finite.
        ConfigurationError: If there is only one image.

    References:
        van der Maaten and Hinton, "Visualizing data using t-SNE", 2008.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped] # comes with scikit-learn

    rows = as_features(features).cpu().numpy().astype(np.float64)
    if len(rows) < 2:
        raise ConfigurationError("A map needs at least two images.", received=f"{len(rows)}")
    deviation = rows.std(axis=0)
    rows = (rows - rows.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
    kept = min(*rows.shape, _DIMENSIONS if len(rows) >= _MANY else 2)
    with threadpool_limits(1):  # the same map on every machine; threads that wait cost dearly on a busy one
        rows = PCA(kept, svd_solver="full").fit_transform(rows)
        if len(rows) >= _MANY and kept > 1:
            rows = TSNE(2, init="pca", perplexity=min(30.0, len(rows) / 4), random_state=seed).fit_transform(rows)
    points = np.zeros((len(rows), 2))
    points[:, : rows.shape[1]] = rows
    return points


@validate_keywords()
def feature_map(
    features: Mapping[str, Features] | Features,
    labels: Sequence[int] | npt.NDArray[np.int64],
    *,
    names: Sequence[str] | None = None,
    seed: int = 0,
    title: str | None = None,
    subtitle: str | None = None,
    legend: str = "class",
    size: float = 5.0,
) -> Figure:
    """A map of features for each network, coloured by class.

    Classes differ in colour and in shape; a class whose name is one letter or digit is drawn as that.

    Args:
        features: Rows for each image (images, dim), or several of these by the name of their network.
        labels: An integer for each image.
        names: Of the classes, by label.
        seed: Of the projection.
        title: Of the whole picture.
        subtitle: A line below the title.
        legend: What the classes are.
        size: Width of a map in inches.

    Raises:
        DataError: If features and labels do not fit.
    """
    given = features if isinstance(features, Mapping) else {"": features}
    codes = as_labels(np.asarray(labels))
    classes = np.unique(codes)
    figure = DisplayableFigure(
        figsize=(size * len(given) + 1.2, size + 0.4 + heading_height(title, subtitle)), layout="constrained"
    )
    cells = figure.subplots(1, len(given), squeeze=False).ravel()
    handles: list[Line2D] = []
    for axes, (name, rows) in zip(cells, given.items(), strict=True):
        as_labels(codes, len(as_features(rows)), "labels")
        points = project(rows, seed=seed)
        handles = []
        for place, label in enumerate(classes.tolist()):
            text = str(label) if names is None else names[label]
            mine = points[codes == label]
            shape = f"${text}$" if len(text) == 1 and text.isalnum() else _SHAPES[place % len(_SHAPES)]
            colour = PALETTE[place % len(PALETTE)]
            handles += axes.plot(mine[:, 0], mine[:, 1], linestyle="", marker=shape, color=colour, ms=6, mew=0.4)
            handles[-1].set_label(text)
        axes.set_title(name, fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
    figure.legend(handles=handles, loc="outside right upper", frameon=False, fontsize=10, title=legend, markerscale=1.4)
    heading(figure, title, subtitle)
    return figure
