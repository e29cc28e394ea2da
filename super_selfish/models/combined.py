"""A backbone and what stands behind it, as one network."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Collection, Iterator
from typing import Any, TypeVar, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from super_selfish.distributed.placement import Placed
from super_selfish.errors import CheckpointError, CheckpointMismatch, ConfigurationError
from super_selfish.files import RETRAIN, SUFFIX, base_path, with_suffix, write_with
from super_selfish.models.backbones import map_of

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


class CombinedNet(Placed):
    """A backbone followed by a predictor.

    Args:
        backbone: Images to features.
        predictor: Features to whatever the task needs; an ``nn.Linear`` gets flattened features.
        distributed: On several GPUs of one machine, split each batch over them (``nn.DataParallel``).
        of_map: Give the predictor the backbone's map, also where the backbone itself returns a vector.

    Attributes:
        lowered_to: ``torch.bfloat16`` or ``torch.float16``: the precision of the layers, inputs and outputs staying
            float32; None: that of the weights.

    Raises:
        ConfigurationError: If either is missing.

    Examples:
        >>> net = CombinedNet(nn.Flatten(), nn.Linear(3 * 8 * 8, 10))
        >>> net(torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 10])
    """

    lowered_to: torch.dtype | None = None
    images_at_once = 1  # of which it needs whole multiples

    def __init__(
        self,
        backbone: nn.Module | None = None,
        predictor: nn.Module | None = None,
        distributed: bool = False,
        *,
        of_map: bool = False,
    ) -> None:
        super().__init__()
        for role, module in (("backbone", backbone), ("predictor", predictor)):
            if not isinstance(module, nn.Module):
                raise ConfigurationError(
                    f"CombinedNet needs a {role}.", expected="an nn.Module", received=f"{role}={module!r}"
                )
        self.backbone = cast(nn.Module, backbone)
        self.predictor = cast(nn.Module, predictor)
        self.distributed = distributed
        self.of_map = of_map

    def __getattr__(self, name: str) -> Any:
        """``model`` and ``module``, names of the release of 2020: the network itself, unless a subclass has them."""
        if name in ("model", "module") and name not in dict(self.named_children()):
            return self
        return super().__getattr__(name)

    @lowered
    def forward(self, x: Tensor) -> Tensor:
        """The predictor's answer to the backbone's features of the images ``x``."""
        is_replica = next(self.parameters(), None) is None  # what data_parallel makes has tensors in their place
        if self.distributed and x.is_cuda and torch.cuda.device_count() > 1 and not is_replica:
            return nn.parallel.data_parallel(self, (x,))
        return self.predict(self.features(x))

    @lowered
    def features(self, x: Tensor) -> Tensor:
        """What the predictor is given."""
        return map_of(self.backbone, x) if self.of_map else cast(Tensor, self.backbone(x))

    @lowered
    def predict(self, features: Tensor, predictor: nn.Module | None = None) -> Tensor:
        """The predictor's answer to features, or that of another one."""
        head = self.predictor if predictor is None else predictor
        if isinstance(head, nn.Linear) and features.ndim > 2:
            features = features.flatten(1)
        return cast(Tensor, head(features))

    def with_frozen_backbone(self, x: Tensor) -> Tensor:
        """As ``forward``, with no gradient into the backbone."""
        with torch.no_grad():
            features = self.features(x)
        return self.predict(features)

    def save(self, name: str | os.PathLike[str] = "store/base") -> CombinedNet:
        """Write the weights to ``<name>.safetensors``, whole or not at all.

        Raises:
            CheckpointError: If the file cannot be written.
        """
        tensors = {key: value.detach().cpu().contiguous().clone() for key, value in self.state_dict().items()}
        write_with(with_suffix(base_path(name), SUFFIX), lambda path: save_file(tensors, path))
        return self

    def load(self, name: str | os.PathLike[str] = "store/base") -> CombinedNet:
        """Read weights written by :meth:`save`; all of them or none.

        Raises:
            CheckpointError: If there is no such file or it cannot be read.
            CheckpointMismatch: If it holds other networks than these.
        """
        path = with_suffix(base_path(name), SUFFIX)
        try:
            tensors = load_file(path)
        except (OSError, SafetensorError) as error:
            is_old = not path.exists() and path.with_suffix(".pt").exists()
            fix = RETRAIN if is_old else "Pass the `name` that was given to save()."
            raise CheckpointError(f"`{path}` cannot be read: {error}.", fix=fix) from error
        load_exactly(self, tensors, str(path))
        return self


def load_exactly(
    module: nn.Module, tensors: dict[str, Tensor], origin: str, parts: Collection[str] | None = None
) -> None:
    """Copy tensors into a module if names and shapes are the same, otherwise change nothing.

    A submodule may name buffers and parameters in ``resizable``: their first size is that of the file.

    Args:
        module: Where to.
        tensors: By name.
        origin: Where they are from.
        parts: Names of the modules, parameters and buffers of ``module`` that they are of; None: of all.

    Raises:
        CheckpointMismatch: With all that is missing, unexpected or of another shape.
    """
    own = {key: value for key, value in module.state_dict().items() if parts is None or key.split(".")[0] in parts}
    resized = {key: place for key, place in resizable_tensors(module).items() if key in own}
    problems = [f"missing {key} {tuple(own[key].shape)}" for key in own if key not in tensors]
    problems += [f"unexpected {key} {tuple(tensors[key].shape)}" for key in tensors if key not in own]
    problems += [
        f"{key} has shape {tuple(tensors[key].shape)} in the file, {tuple(own[key].shape)} here"
        for key in own
        if key in tensors and own[key].shape[key in resized :] != tensors[key].shape[key in resized :]
    ]
    if problems:
        shown = "; ".join(problems[:8]) + (f"; and {len(problems) - 8} more" if len(problems) > 8 else "")
        raise CheckpointMismatch(
            f"`{origin}` does not fit these networks: {shown}.",
            fix="Build the supervisor with the networks and settings it was trained with.",
        )
    for key, (part, name) in resized.items():
        empty = own[key].new_empty(tensors[key].shape)
        replaced = getattr(part, name)
        taken = isinstance(replaced, nn.Parameter)
        setattr(part, name, nn.Parameter(empty, replaced.requires_grad) if taken else empty)
    module.load_state_dict(tensors, strict=parts is None)


def resizable_tensors(module: nn.Module) -> dict[str, tuple[nn.Module, str]]:
    """Tensors whose first size is that of a file that is loaded, by name: their submodule, and their name in it."""
    return {
        f"{prefix}.{name}".lstrip("."): (part, name)
        for prefix, part in module.named_modules()
        for name in getattr(part, "resizable", ())
    }


@contextlib.contextmanager
def in_eval_mode(network: nn.Module) -> Iterator[None]:
    """Within the block the network is in eval mode; afterwards every part of it is in the mode it was in."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
