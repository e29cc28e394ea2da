"""Networks in half precision, between inputs and outputs in float32."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

Output = TypeVar("Output")
Method = TypeVar("Method", bound=Callable[..., Any])


def in_lower_precision(dtype: torch.dtype | None, call: Callable[..., Output], *inputs: Any) -> Output:
    """Call a network with the precision of its layers lowered where torch holds that to be safe.

    Weights stay as they are. A call within such a call is part of it, so that what passes between them stays lowered.

    Args:
        dtype: ``torch.bfloat16`` or ``torch.float16``; None: the call is an ordinary one.
        call: The network.
        *inputs: What it takes; the first is a tensor.

    Returns:
        What the network gives, its numbers in float32.

    Examples:
        >>> layer = torch.nn.Linear(4, 4)
        >>> in_lower_precision(torch.bfloat16, layer, torch.rand(1, 4)).dtype
        torch.float32
    """
    if dtype is None or torch.is_autocast_enabled(inputs[0].device.type):
        return call(*inputs)
    with torch.autocast(inputs[0].device.type, dtype):
        given = call(*inputs)
    return cast(Output, _in_float32(given))


def lowered(method: Method) -> Method:
    """A method of a network, run in the precision that the network's attribute ``lowered_to`` names."""

    @functools.wraps(method)
    def call(network: Any, *inputs: Any, **named: Any) -> Any:
        if network.lowered_to is None or not inputs:
            return method(network, *inputs, **named)
        return in_lower_precision(network.lowered_to, functools.partial(method, network, **named), *inputs)

    return cast(Method, call)


def _in_float32(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.float() if value.is_floating_point() else value
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_in_float32(part) for part in value))
    if type(value) in (tuple, list):
        return type(value)(_in_float32(part) for part in value)
    if type(value) is dict:
        return {key: _in_float32(part) for key, part in value.items()}
    return value
