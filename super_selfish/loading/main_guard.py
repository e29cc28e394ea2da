"""Scripts without a main guard, which processes started by ``spawn`` or ``forkserver`` run again."""

from __future__ import annotations

import multiprocessing
import sys

from super_selfish.errors import ConfigurationError

WORKER_NAME = "super_selfish_worker"
MAIN_GUARD = "Start the training below `if __name__ == '__main__':`, or pass num_workers=0."


def check_main_guard() -> None:
    """Check that this process does not train because it imports the script of the process that started it.

    Raises:
        ConfigurationError: If it is a data-loading worker, or another process that is still importing the script.
    """
    script = sys.modules.get("__mp_main__")  # in such a process; becomes __main__ when it has been imported
    is_importing = getattr(script, "__name__", None) == "__mp_main__" and script is not sys.modules.get("__main__")
    if is_importing or multiprocessing.current_process().name == WORKER_NAME:
        raise ConfigurationError("A worker process imported the script and started a training.", fix=MAIN_GUARD)
