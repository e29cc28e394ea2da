"""The forward pass of a run: its loss is recorded, and errors that settings cause are explained."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from super_selfish.engine.core.base import SupervisorBase
from super_selfish.engine.loop.run import Run
from super_selfish.errors import ConfigurationError
from super_selfish.models.shapes import feature_shape


@contextlib.contextmanager
def observed(supervisor: SupervisorBase, run: Run) -> Iterator[None]:
    """Context manager: the run records every return value of ``_forward``."""
    own = vars(supervisor).get("_forward")  # if the user assigned it to the instance
    forward = supervisor._forward

    def call(*given: Any, **named: Any) -> Any:
        run.begin_forward()
        with explained_batch_norm():
            result = forward(*given, **named)
        run.record_loss(result)
        return result

    setattr(supervisor, "_forward", call)  # noqa: B010 - instance attribute that shadows the method
    try:
        yield
    finally:
        delattr(supervisor, "_forward")
        if own is not None:
            setattr(supervisor, "_forward", own)  # noqa: B010


@contextlib.contextmanager
def explained_batch_norm() -> Iterator[None]:
    """Context manager: explain the error of torch for a norm that has one value per channel in training.

    Raises:
        ConfigurationError: If a norm is trained on a single value per channel.
    """
    try:
        yield
    except ValueError as error:
        if "Expected more than 1" not in str(error):
            raise
        raise ConfigurationError(
            "Batch norm cannot be trained on a single value per channel.",
            expected="batches, and with `accumulate` micro-batches, of at least 2 images",
            received=str(error),
            fix="Raise `batch_size`, lower `accumulate`, or pass networks without batch norm.",
        ) from error


def check_networks(supervisor: SupervisorBase) -> None:
    """Check before training that all weights have shapes, and that the networks take float32 images.

    Raises:
        ConfigurationError: If they do not.
    """
    named = dict(supervisor.named_parameters())
    lazy = [name for name, weight in named.items() if isinstance(weight, nn.UninitializedParameter)]
    if lazy:
        raise ConfigurationError(
            "Lazy layers have no weights yet.",
            expected="networks whose weights have shapes",
            received=", ".join(lazy[:4]),
            fix="Call the network once on a batch, for instance net(torch.zeros(2, 3, 32, 32)), or pass input sizes.",
        )
    dtypes = {weight.dtype for weight in named.values() if weight.is_floating_point()}
    if dtypes <= {torch.float32}:
        return
    images = supervisor.preprocessing
    if supervisor.feature_shape is not None:  # known from the constructor, so the weights were converted since then
        feature_shape(supervisor.model.backbone, images.channels, images.resolution)
    elif torch.float32 not in dtypes and supervisor.forwards_as_planned:
        raise ConfigurationError(
            "The networks do not take float32 images.",
            expected="weights in float32",
            received=", ".join(sorted(map(str, dtypes))),
            fix='Call network.float(). For mixed precision, pass precision="bf16" to supervise().',
        )
