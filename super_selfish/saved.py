"""Load saved trainings by their name."""

from __future__ import annotations

import os
from typing import Any

from super_selfish.engine.core.identity import full_signature
from super_selfish.engine.persistence import restore
from super_selfish.errors import validate_keywords
from super_selfish.supervisors import Supervisor, all_supervisors

CONSTRUCTOR_ARGUMENTS = frozenset(name for cls in all_supervisors().values() for name in full_signature(cls).parameters)
"""Names of the arguments of all algorithms."""


@validate_keywords(["name", *sorted(CONSTRUCTOR_ARGUMENTS)])
def load(name: str | os.PathLike[str] = "store/base", **given: Any) -> Supervisor:
    """Load a trained supervisor: its class, networks, weights, preprocessing and history.

    It is on the CPU until it is moved or trained.

    Args:
        name: As given to ``supervise`` or ``save``.
        **given: User-supplied networks that it was built with, such as ``backbone=MyNet()``, and, to continue training,
            ``dataset``.

    Raises:
        CheckpointError: If there is no such file, or it is damaged.
        CheckpointMismatch: If it does not fit, or needs a network that was not given.
    """
    return restore(name, all_supervisors(), given)
