"""Two-dimensional maps of features."""

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
_MIN_TSNE_IMAGES = 30  # PCA alone is used for fewer images
_DIMENSIONS = 50
_MARKERS = "osD^v<>PX*"


@validate_keywords()
def project(features: Features, *, seed: int = 0) -> Points:
    """Project features to two dimensions.

    Features are standardised, reduced to 50 dimensions by PCA and embedded by t-SNE. With fewer than 30 images, PCA
    alone is used. Near points are similar images; distances between clusters are not meaningful.

    Args:
        features: Features (images, dim) of at least two images.
        seed: Random seed of t-SNE.

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
    dimensions = min(*rows.shape, _DIMENSIONS if len(rows) >= _MIN_TSNE_IMAGES else 2)
    with threadpool_limits(1):  # for reproducibility, and because spinning threads are slow on a busy machine
        rows = PCA(dimensions, svd_solver="full").fit_transform(rows)
        if len(rows) >= _MIN_TSNE_IMAGES and dimensions > 1:
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
    """Scatter plot of projected features for each network, coloured by class.

    Classes differ in colour and marker. A class whose name is a single letter or digit has that character as marker.

    Args:
        features: Features (images, dim), or a mapping from names of networks to features.
        labels: Integer class labels (images,).
        names: Class names, indexed by label.
        seed: Random seed of the projection.
        title: Title of the figure.
        subtitle: Line below the title.
        legend: Title of the legend.
        size: Width of a plot in inches.

    Raises:
        DataError: If features and labels differ in length.
    """
    by_network = features if isinstance(features, Mapping) else {"": features}
    class_labels = as_labels(np.asarray(labels))
    classes = np.unique(class_labels)
    figure = DisplayableFigure(
        figsize=(size * len(by_network) + 1.2, size + 0.4 + heading_height(title, subtitle)), layout="constrained"
    )
    axes_list = figure.subplots(1, len(by_network), squeeze=False).ravel()
    handles: list[Line2D] = []
    for axes, (name, rows) in zip(axes_list, by_network.items(), strict=True):
        as_labels(class_labels, len(as_features(rows)), "labels")
        points = project(rows, seed=seed)
        handles = []
        for position, label in enumerate(classes.tolist()):
            text = str(label) if names is None else names[label]
            members = points[class_labels == label]
            marker = f"${text}$" if len(text) == 1 and text.isalnum() else _MARKERS[position % len(_MARKERS)]
            colour = PALETTE[position % len(PALETTE)]
            handles += axes.plot(members[:, 0], members[:, 1], linestyle="", marker=marker, color=colour, ms=6, mew=0.4)
            handles[-1].set_label(text)
        axes.set_title(name, fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
    figure.legend(handles=handles, loc="outside right upper", frameon=False, fontsize=10, title=legend, markerscale=1.4)
    heading(figure, title, subtitle)
    return figure
