"""Loading of saved trainings."""

from __future__ import annotations

import os
from typing import Any

from super_selfish.engine.persistence import restore
from super_selfish.supervisors import Supervisor, all_supervisors


def load(name: str | os.PathLike[str] = "store/base", **given: Any) -> Supervisor:
    """Load a trained supervisor: class, networks, weights, preprocessing and history.

    The supervisor is on the CPU until it is moved or trained.

    Args:
        name: Name of the training, as passed to ``supervise`` or ``save``.
        **given: User-supplied networks of the supervisor, such as ``backbone=MyNet()``, and ``dataset`` to resume
            training.

    Raises:
        CheckpointError: If there is no file with this name, or it is damaged.
        CheckpointMismatch: If the weights do not match the networks, or a user-supplied network is missing.
    """
    return restore(name, all_supervisors(), given)
