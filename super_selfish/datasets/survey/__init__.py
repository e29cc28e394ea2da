"""What is in a data set, before hours are spent on it: what cannot be read, what says nothing, what is there twice."""

from super_selfish.datasets.survey.findings import Survey
from super_selfish.datasets.survey.reading import survey

__all__ = ["Survey", "survey"]
