"""The machinery of a run: settings, hooks, callbacks, files of weights."""

from super_selfish.engine.callbacks.diagnostics import diagnose
from super_selfish.engine.callbacks.early_stopping import EarlyStopping
from super_selfish.engine.callbacks.forecast import Forecast
from super_selfish.engine.callbacks.monitors import Probe
from super_selfish.engine.callbacks.progress import Progress
from super_selfish.engine.callbacks.tensorboard import TensorBoardCallback
from super_selfish.engine.callbacks.weights_and_biases import WandbCallback
from super_selfish.engine.core.callback import Callback, Column
from super_selfish.renamed import old_names

__all__ = [
    "Callback",
    "Column",
    "EarlyStopping",
    "Forecast",
    "Probe",
    "Progress",
    "TensorBoardCallback",
    "WandbCallback",
    "diagnose",
]
__getattr__ = old_names(__name__)


def __dir__() -> list[str]:
    return sorted(__all__)
