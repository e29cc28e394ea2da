"""The machinery of a run: settings, hooks, callbacks, files of weights."""

from super_selfish.engine.callbacks.progress import Progress
from super_selfish.engine.core.callback import Callback

__all__ = ["Callback", "Progress"]


def __dir__() -> list[str]:
    return sorted(__all__)
