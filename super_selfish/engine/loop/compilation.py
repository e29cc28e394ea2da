"""Compilation of the networks during a run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from torch import nn

from super_selfish.errors import ConfigurationError


@contextlib.contextmanager
def compiled(networks: Sequence[nn.Module]) -> Iterator[None]:
    """Context manager: compile networks with ``torch.compile``.

    Raises:
        ConfigurationError: If compilation fails.
    """
    try:
        for network in networks:
            network.compile()
        yield
    except Exception as error:
        if not type(error).__module__.startswith("torch._dynamo"):  # torch has no public class of these errors
            raise
        reason = " ".join(str(error).split("\n\n")[0].split()) or type(error).__name__
        raise ConfigurationError(
            f"The networks cannot be compiled: {reason[:300].rstrip('.')}.",
            received="compile=True",
            fix="Install a C++ compiler (g++), which torch.compile needs on a CPU, or omit `compile`.",
        ) from error
    finally:
        for network in networks:
            network.compile(disable=True)
