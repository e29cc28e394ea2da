"""Self-supervised learning on images.

A folder of images and two lines give a backbone worth transferring::

    from super_selfish.supervisors import RotateNetSupervisor

    supervisor = RotateNetSupervisor("photos/")
    supervisor.supervise(lr=1e-3, epochs=50, batch_size=64, name="store/base")
    backbone = supervisor.get_backbone()

Later, in another process, ``super_selfish.load("store/base")`` gives the trained supervisor back, and
``.extract("photos/")`` the features of images. ``super_selfish.evaluation`` tells what they are worth.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from super_selfish.supervisors.base import Supervisor
    from super_selfish.training.inspection import Inspection

__version__ = "0.1.0"
__all__ = ["__version__", "inspect", "load"]


def load(name: str | os.PathLike[str] = "store/base", **given: Any) -> Supervisor:
    """The supervisor that was trained under a name: its class, networks, weights, preprocessing and history.

    Args:
        name: As given to ``supervise`` or ``save``.
        **given: Networks of your own that it was made of, such as ``backbone=MyNet()``, and, to train on, ``dataset``.

    Raises:
        CheckpointError: If there is no such file, or it is damaged.
        CheckpointMismatch: If it does not fit, or needs a network that was not given.
    """
    from super_selfish.supervisors import all_supervisors
    from super_selfish.supervisors.persistence import restore

    return restore(name, all_supervisors(), given)


def inspect(name: str | os.PathLike[str] = "store/base") -> Inspection:
    """Everything that is stored under a name, and whether it is whole, without loading a tensor.

    Args:
        name: As given to ``supervise`` or ``save``.

    Raises:
        CheckpointError: If there is nothing.
    """
    from super_selfish.training.inspection import inspect as look

    return look(name)
