"""Survey of a data set before training: unreadable, constant, tiny and duplicate images."""

from super_selfish.datasets.survey.findings import Survey
from super_selfish.datasets.survey.reading import survey

__all__ = ["Survey", "survey"]
