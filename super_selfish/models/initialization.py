"""Weight initialisation: preserving the variance of activations, and initial weights for a copy of a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.utils import parametrize

from super_selfish.models.averages import copied

Network = TypeVar("Network", bound=nn.Module)


def keep_variance(module: nn.Module, fan_in: int | None = None) -> None:
    """Initialise the convolutions of a module in place, so that outputs have about the variance of the inputs.

    Weights are sampled from a normal distribution with variance 1 / fan_in, truncated at two standard deviations.
    Biases are set to zero. PyTorch's default has a third of this variance, which shrinks the activations in layers
    without normalisation.

    Args:
        module: Module whose ``nn.Conv2d`` layers are initialised.
        fan_in: Number of inputs of each output. None: the number of unmasked weights of a kernel.

    Examples:
        >>> convolution = nn.Conv2d(256, 64, 1)
        >>> keep_variance(convolution)
        >>> round(16 * convolution.weight.std().item(), 1)  # below 1, because of the truncation
        0.9

    References:
        LeCun et al., "Efficient BackProp", 1998, section 4.6.
    """
    for convolution in module.modules():
        if not isinstance(convolution, nn.Conv2d):
            continue
        std = (fan_in or _fan_in(convolution)) ** -0.5
        nn.init.trunc_normal_(convolution.weight, std=std, a=-2 * std, b=2 * std)
        if convolution.bias is not None:
            nn.init.zeros_(convolution.bias)


def _fan_in(convolution: nn.Conv2d) -> float:
    """Return the number of unmasked inputs of each output of a convolution."""
    mask = getattr(convolution, "mask", None)
    kernel = torch.ones_like(convolution.weight[0])
    return float((kernel if mask is None else kernel * mask.to(kernel)).count_nonzero())


def rebuildable(network: Network, build: Callable[[], nn.Module]) -> Network:
    """Record on a network how to build it again, for :func:`initialised_copy`."""
    object.__setattr__(network, "rebuild", build)
    return network


def fresh_copy(network: nn.Module) -> nn.Module:
    """Return a copy of a network with initial weights; see :func:`initialised_copy`."""
    return initialised_copy(network)[0]


@torch.no_grad()
def initialised_copy(network: nn.Module) -> tuple[nn.Module, list[str]]:
    """Return a copy of a network with initial weights, independent of the present ones.

    Networks of this library are built again, and layers of torch draw new weights. Other parameters, which are defined
    by a custom module, are drawn from a normal distribution with the mean and the standard deviation of the present
    values.

    Args:
        network: The network, on any device.

    Returns:
        The copy, and the names of the parameters that were drawn from a normal distribution.

    Examples:
        >>> twin, redrawn = initialised_copy(nn.Linear(2, 3))
        >>> redrawn
        []
    """
    twin = copied(network)
    done: set[nn.Module] = set()
    redrawn = []
    for module in twin.modules():
        if module not in done:
            done |= _initialise(module)
    for name, module in twin.named_modules():
        if module in done:
            continue
        before = {key: value.clone() for key, value in module.named_parameters(recurse=False)}
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
        for key, value in module.named_parameters(recurse=False):
            if torch.equal(before[key], value) and len(value.unique()) > 1:
                value.copy_(torch.randn_like(value) * value.std() + value.mean())
                redrawn.append(f"{name}.{key}".strip("."))
    return twin, redrawn


def _initialise(module: nn.Module) -> set[nn.Module]:
    """Initialise a module that is built as a whole; return the modules that need no further initialisation."""
    build = getattr(module, "rebuild", None)
    if callable(build):
        built: nn.Module = build()
    elif isinstance(module, nn.MultiheadAttention):
        built = nn.MultiheadAttention(
            module.embed_dim,
            module.num_heads,
            bias=module.in_proj_bias is not None,
            add_bias_kv=module.bias_k is not None,
            kdim=module.kdim,
            vdim=module.vdim,
        )
    elif parametrize.is_parametrized(module) and hasattr(module, "reset_parameters"):
        return _initialise_parametrized(module)
    else:
        return set()
    if {key: value.shape for key, value in built.state_dict().items()} != {
        key: value.shape for key, value in module.state_dict().items()
    }:
        return set()  # it was changed after it was built
    module.load_state_dict(built.state_dict())
    return set(module.modules())


def _initialise_parametrized(module: nn.Module) -> set[nn.Module]:
    """Initialise a layer of torch whose weights are computed from others, as by weight norm."""
    parametrizations: Any = module.parametrizations
    cls: Any = parametrize.type_before_parametrizations(module)
    plain = cls.__new__(cls)
    nn.Module.__init__(plain)
    attributes = {key: value for key, value in vars(module).items() if key not in vars(plain)}
    for key, value in attributes.items():
        setattr(plain, key, value)
    for key in {**vars(module)["_parameters"], **parametrizations}:
        value = getattr(module, key)
        plain.register_parameter(key, None if value is None else nn.Parameter(value.detach().clone()))
    plain.reset_parameters()
    invertible = all(hasattr(part, "right_inverse") for parts in parametrizations.values() for part in parts)
    for key, value in plain.named_parameters():
        if key not in parametrizations:
            getattr(module, key).copy_(value)
        elif invertible:
            setattr(module, key, value.detach())
    return set(module.modules()) if invertible else {module}
