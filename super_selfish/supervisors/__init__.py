"""The algorithms."""

import importlib
import pkgutil

from super_selfish.supervisors.bank import BankSupervisor
from super_selfish.supervisors.base import Supervisor
from super_selfish.supervisors.bi_gan import BiGanSupervisor
from super_selfish.supervisors.byol import BYOLSupervisor
from super_selfish.supervisors.context_net import ContextNetSupervisor
from super_selfish.supervisors.contrastive_multiview_coding import ContrastiveMultiviewCodingSupervisor
from super_selfish.supervisors.contrastive_predictive_coding import ContrastivePredictiveCodingSupervisor
from super_selfish.supervisors.denoise_net import DenoiseNetSupervisor
from super_selfish.supervisors.exemplar_net import ExemplarNetSupervisor
from super_selfish.supervisors.gan import GanSupervisor
from super_selfish.supervisors.instance_discrimination import InstanceDiscriminationSupervisor
from super_selfish.supervisors.jigsaw_net import JigsawNetSupervisor
from super_selfish.supervisors.label import LabelSupervisor
from super_selfish.supervisors.momentum_contrast import MomentumContrastSupervisor
from super_selfish.supervisors.pirl import PIRLSupervisor
from super_selfish.supervisors.rotate_net import RotateNetSupervisor
from super_selfish.supervisors.setup import LISTED
from super_selfish.supervisors.split_brain_net import SplitBrainNetSupervisor

__all__ = [
    "BYOLSupervisor",
    "BankSupervisor",
    "BiGanSupervisor",
    "ContextNetSupervisor",
    "ContrastiveMultiviewCodingSupervisor",
    "ContrastivePredictiveCodingSupervisor",
    "DenoiseNetSupervisor",
    "ExemplarNetSupervisor",
    "GanSupervisor",
    "InstanceDiscriminationSupervisor",
    "JigsawNetSupervisor",
    "LabelSupervisor",
    "MomentumContrastSupervisor",
    "PIRLSupervisor",
    "RotateNetSupervisor",
    "SplitBrainNetSupervisor",
    "Supervisor",
    "all_supervisors",
]

for _module in pkgutil.iter_modules(__path__):  # an algorithm is a file here with a class that is `@listed`
    importlib.import_module(f"{__name__}.{_module.name}")


def all_supervisors() -> dict[str, type[Supervisor]]:
    """Every algorithm by its name.

    Examples:
        >>> all_supervisors()["rotate_net"].__name__
        'RotateNetSupervisor'
    """
    return dict(LISTED)
