"""Evaluation of features: kNN, linear probe and label-free metrics."""

from super_selfish.evaluation.classification import classification_loss, test
from super_selfish.evaluation.features import extract_features
from super_selfish.evaluation.knn import knn, knn_predict
from super_selfish.evaluation.linear import linear_probe
from super_selfish.evaluation.pretext import PretextScore
from super_selfish.evaluation.quality import Quality, quality
from super_selfish.evaluation.score import Score
from super_selfish.evaluation.splits import split

__all__ = [
    "PretextScore",
    "Quality",
    "Score",
    "classification_loss",
    "extract_features",
    "knn",
    "knn_predict",
    "linear_probe",
    "quality",
    "split",
    "test",
]


def __dir__() -> list[str]:
    return sorted(__all__)
