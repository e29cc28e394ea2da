"""The machinery of a run: settings, hooks, callbacks, files of weights."""

from super_selfish.engine.callbacks.diagnostics import diagnose
from super_selfish.engine.callbacks.forecast import Forecast
from super_selfish.engine.callbacks.monitors import Probe
from super_selfish.engine.callbacks.progress import Progress
from super_selfish.engine.callbacks.tensorboard import TensorBoard
from super_selfish.engine.core.callback import Callback, Column

__all__ = ["Callback", "Column", "Forecast", "Probe", "Progress", "TensorBoard", "diagnose"]


def __dir__() -> list[str]:
    return sorted(__all__)
