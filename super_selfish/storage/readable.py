"""Reading what a training left behind, whether it came to its end or not."""

from __future__ import annotations

import os

from super_selfish.files import SUFFIX, base_path, with_suffix
from super_selfish.storage.checkpoint import CheckpointFolder
from super_selfish.storage.weights_file import Artefact, read_artefact


def read_any(name: str | os.PathLike[str]) -> Artefact:
    """The weights stored under a name, or, if a training has not come to its end, those of its newest checkpoint.

    Raises:
        CheckpointError: If there is neither, or it is damaged.
    """
    base = base_path(name)
    if not with_suffix(base, SUFFIX).is_file() and not with_suffix(base, ".pt").is_file():
        found = CheckpointFolder(base).newest_valid()
        if found is not None:
            return Artefact(found.path, found.read("model"), found.manifest)
    return read_artefact(name)
