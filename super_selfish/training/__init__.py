"""The machinery of a run: settings, hooks, callbacks, files of weights."""

from super_selfish.training.callbacks import Callback
from super_selfish.training.progress import Progress

__all__ = ["Callback", "Progress"]


def __dir__() -> list[str]:
    return sorted(__all__)
