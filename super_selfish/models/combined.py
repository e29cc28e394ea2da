"""A backbone followed by a predictor, as one network."""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Callable, Collection, Iterator
from typing import Any, TypeVar, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from super_selfish.distributed.placement import Placed
from super_selfish.errors import CheckpointError, CheckpointMismatch, ConfigurationError
from super_selfish.files import RETRAIN, SUFFIX, base_path, with_suffix, write_with
from super_selfish.models.backbones import map_of

_CLASSES = "classes"
Output = TypeVar("Output")
Method = TypeVar("Method", bound=Callable[..., Any])


def in_lower_precision(dtype: torch.dtype | None, call: Callable[..., Output], *inputs: Any) -> Output:
    """Call a network under ``torch.autocast`` and convert its outputs to float32.

    The dtype of the weights is not changed. Nested calls join the outer autocast region, and values that pass between
    them keep the lower precision.

    Args:
        dtype: ``torch.bfloat16`` or ``torch.float16``. None: call the network without autocast.
        call: The network.
        *inputs: Inputs of the network. The first one is a tensor.

    Returns:
        The output of the network, with floating-point tensors in float32.

    Examples:
        >>> layer = torch.nn.Linear(4, 4)
        >>> in_lower_precision(torch.bfloat16, layer, torch.rand(1, 4)).dtype
        torch.float32
    """
    if dtype is None or torch.is_autocast_enabled(inputs[0].device.type):
        return call(*inputs)
    with torch.autocast(inputs[0].device.type, dtype):
        output = call(*inputs)
    return cast(Output, _in_float32(output))


def in_module_precision(method: Method) -> Method:
    """Decorate a method of a network so that it runs in the precision of the network's attribute ``lowered_to``."""

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


def as_input_of(head: nn.Module, features: Tensor) -> Tensor:
    """Features as vectors if a head is an ``nn.Linear``, unchanged otherwise.

    Args:
        head: The head.
        features: Feature vectors (batch, channels) or maps (batch, channels, height, width). Maps are averaged over
            space if ``head`` has one input per channel, and flattened otherwise.

    Examples:
        >>> maps = torch.rand(2, 8, 3, 3)
        >>> as_input_of(nn.Linear(8, 1), maps).shape, as_input_of(nn.Linear(72, 1), maps).shape
        (torch.Size([2, 8]), torch.Size([2, 72]))
    """
    if not isinstance(head, nn.Linear) or features.ndim < 3:
        return features
    is_per_channel = head.in_features == features.shape[1] and features.ndim == 4
    return features.mean((2, 3)) if is_per_channel else features.flatten(1)


class CombinedNet(Placed):
    """A backbone followed by a predictor.

    Args:
        backbone: Maps images to features.
        predictor: Maps features to the output of the pretext task. An ``nn.Linear`` receives vectors: feature maps are
            averaged over space if it has one input per channel, and flattened otherwise.
        distributed: Split each batch over all GPUs of the machine (``nn.DataParallel``).
        of_map: Pass the backbone's feature map to the predictor, even if the backbone returns a vector.

    Attributes:
        classes: Class names in the order of the outputs, if the network was trained with named labels.
        lowered_to: Autocast dtype, ``torch.bfloat16`` or ``torch.float16``; inputs and outputs are float32. None: no
            autocast.

    Raises:
        ConfigurationError: If ``backbone`` or ``predictor`` is missing.

    Examples:
        >>> net = CombinedNet(nn.Flatten(), nn.Linear(3 * 8 * 8, 10))
        >>> net(torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 10])
    """

    classes: tuple[str, ...] | None = None
    lowered_to: torch.dtype | None = None
    images_at_once = 1  # the batch size has to be a multiple of this

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
        """Return the network itself for ``model`` and ``module``, names of 2020, unless a subclass defines them."""
        if name in ("model", "module") and name not in dict(self.named_children()):
            return self
        return super().__getattr__(name)

    @in_module_precision
    def forward(self, x: Tensor) -> Tensor:
        """Compute the predictor's output for images ``x``."""
        # replicas of data_parallel have plain tensors instead of parameters
        is_replica = next(self.parameters(), None) is None
        if self.distributed and x.is_cuda and torch.cuda.device_count() > 1 and not is_replica:
            return nn.parallel.data_parallel(self, (x,))
        return self.predict(self.features(x))

    @in_module_precision
    def features(self, x: Tensor) -> Tensor:
        """Compute the input of the predictor."""
        return map_of(self.backbone, x) if self.of_map else cast(Tensor, self.backbone(x))

    @in_module_precision
    def predict(self, features: Tensor, predictor: nn.Module | None = None) -> Tensor:
        """Compute the output of the predictor, or of another predictor, for features."""
        head = self.predictor if predictor is None else predictor
        return cast(Tensor, head(as_input_of(head, features)))

    def with_frozen_backbone(self, x: Tensor) -> Tensor:
        """Compute the output as ``forward`` does, without gradients for the backbone."""
        with torch.no_grad():
            features = self.features(x)
        return self.predict(features)

    def save(self, name: str | os.PathLike[str] = "store/base") -> CombinedNet:
        """Write the weights and the class names atomically to ``<name>.safetensors``.

        Raises:
            CheckpointError: If the file cannot be written.
        """
        tensors = {key: value.detach().cpu().contiguous().clone() for key, value in tensors_of(self).items()}
        metadata = None if self.classes is None else {_CLASSES: json.dumps(self.classes)}
        write_with(with_suffix(base_path(name), SUFFIX), lambda path: save_file(tensors, path, metadata))
        return self

    def load(self, name: str | os.PathLike[str] = "store/base") -> CombinedNet:
        """Load weights written by :meth:`save`. If any tensor does not match, no weights are changed.

        Raises:
            CheckpointError: If the file does not exist or cannot be read.
            CheckpointMismatch: If names or shapes of the tensors differ from those of this network.
        """
        path = with_suffix(base_path(name), SUFFIX)
        try:
            tensors = load_file(path)
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
        except (OSError, SafetensorError) as error:
            is_old = not path.exists() and path.with_suffix(".pt").exists()
            fix = RETRAIN if is_old else "Pass the `name` that was passed to save()."
            raise CheckpointError(f"`{path}` cannot be read: {error}.", fix=fix) from error
        load_exactly(self, tensors, str(path))
        if _CLASSES in metadata:
            self.classes = tuple(json.loads(metadata[_CLASSES]))
        return self


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """The ``state_dict`` of a module. Extra state (``get_extra_state``) is encoded as JSON in a tensor of bytes.

    Raises:
        ConfigurationError: If the extra state of a module is neither a tensor nor JSON-serialisable.

    Examples:
        >>> list(tensors_of(nn.Linear(2, 1)))
        ['weight', 'bias']
    """
    state = dict(module.state_dict().items())
    return {key: value if isinstance(value, Tensor) else _encoded(key, value) for key, value in state.items()}


def _encoded(key: str, value: Any) -> Tensor:
    try:
        text = json.dumps(value)
        is_same = json.loads(text) == value
    except (TypeError, ValueError):
        is_same = False
    if not is_same:
        raise ConfigurationError(
            f"The extra state `{key}` of a network cannot be stored.",
            expected="get_extra_state() that returns a tensor, or numbers, strings, lists and dicts with string keys",
            received=type(value).__name__,
        )
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)


def load_exactly(
    module: nn.Module, tensors: dict[str, Tensor], origin: str, parts: Collection[str] | None = None
) -> None:
    """Load tensors into a module if all names and shapes match. Otherwise leave the module unchanged.

    Buffers and parameters listed in a submodule's ``resizable`` take their first dimension from the tensors.

    Args:
        module: The module to load into.
        tensors: Tensors by name.
        origin: Their source, for error messages.
        parts: Names of the children, parameters and buffers of ``module`` to load. None: all.

    Raises:
        CheckpointMismatch: Lists missing tensors, unexpected tensors, and tensors with a different shape.
    """
    state = module.state_dict()
    own = {key: value for key, value in tensors_of(module).items() if parts is None or key.split(".")[0] in parts}
    extra = {key for key in own if not isinstance(state[key], Tensor)}
    resized = {key: place for key, place in resizable_tensors(module).items() if key in own}
    problems = [f"missing {key} {tuple(own[key].shape)}" for key in own if key not in tensors]
    problems += [f"unexpected {key} {tuple(tensors[key].shape)}" for key in tensors if key not in own]
    problems += [
        f"{key} has shape {tuple(tensors[key].shape)} in the file, {tuple(own[key].shape)} here"
        for key in own
        if key in tensors
        and key not in extra
        and own[key].shape[key in resized :] != tensors[key].shape[key in resized :]
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
        is_parameter = isinstance(replaced, nn.Parameter)
        setattr(part, name, nn.Parameter(empty, replaced.requires_grad) if is_parameter else empty)
    decoded = {key: json.loads(bytes(tensors[key].tolist())) for key in extra}
    module.load_state_dict({**tensors, **decoded}, strict=parts is None)


def resizable_tensors(module: nn.Module) -> dict[str, tuple[nn.Module, str]]:
    """The tensors whose first dimension follows the file, by name: their submodule, and their name in it."""
    return {
        f"{prefix}.{name}".lstrip("."): (part, name)
        for prefix, part in module.named_modules()
        for name in getattr(part, "resizable", ())
    }


@contextlib.contextmanager
def in_eval_mode(network: nn.Module) -> Iterator[None]:
    """Context manager that sets a network to eval mode and restores the mode of each submodule afterwards."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
