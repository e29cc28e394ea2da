"""Importing the library is cheap and silent: nothing heavy, no GPU, no network."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

PROBE = """
import socket
import sys

def refuse(*args, **kwargs):
    raise RuntimeError("a socket was opened")

socket.socket.__init__ = refuse
socket.getaddrinfo = refuse
import {module}

heavy = {{"sklearn", "scipy", "skimage", "matplotlib"}} & set(sys.modules)
torch = sys.modules.get("torch")
if heavy:
    raise SystemExit(f"loaded: {{sorted(heavy)}}")
if torch is not None and torch.cuda.is_initialized():
    raise SystemExit("CUDA was initialised")
"""


@pytest.mark.parametrize("module", ["super_selfish", "super_selfish.supervisors"])
def test_import_is_light(module: str, run_python: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    run = run_python("-W", "error", "-c", PROBE.format(module=module))
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
