"""Vision models of Hugging Face transformers as backbones."""

from __future__ import annotations

import inspect
from typing import Any, cast

from torch import Tensor, nn

from super_selfish.errors import ConfigurationError
from super_selfish.models.named.trunks import as_grid

_POSITIONS = "interpolate_pos_encoding"


class VisionModel(nn.Module):
    """A vision model of Hugging Face ``transformers``, whose output has ``last_hidden_state``, as a backbone.

    The pooled features are ``pooler_output``, or without it the class token, or without that the mean of the tokens.
    Position encodings are interpolated if the model has the option.

    Args:
        net: The model, such as ``ViTModel``, ``Dinov2Model``, ``SwinModel`` or ``ConvNextModel``.

    Examples:
        >>> is_vision_model(nn.Linear(1, 1))
        False
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self._options = {_POSITIONS: True} if _POSITIONS in inspect.signature(net.forward).parameters else {}

    def map(self, x: Tensor) -> Tensor:
        """Compute the map (batch, channels, rows, columns) of the patch tokens, or the last feature map."""
        hidden = self._outputs(x).last_hidden_state
        if hidden.ndim == 4:
            return cast(Tensor, hidden)
        return as_grid(hidden[:, self._prefix(hidden, x) :], x.shape[-2], x.shape[-1])

    def pooled(self, x: Tensor) -> Tensor:
        """Compute the pooled features (batch, channels)."""
        outputs = self._outputs(x)
        pooled, hidden = getattr(outputs, "pooler_output", None), outputs.last_hidden_state
        if pooled is not None:
            return cast(Tensor, pooled.flatten(1))
        if hidden.ndim == 4:
            return cast(Tensor, hidden.mean((2, 3)))
        return cast(Tensor, hidden[:, 0] if self._prefix(hidden, x) else hidden.mean(1))

    def forward(self, x: Tensor) -> Tensor:
        """Compute the pooled features (batch, channels)."""
        return self.pooled(x)

    def _outputs(self, x: Tensor) -> Any:
        outputs = self.net(x, **self._options)
        if not hasattr(outputs, "last_hidden_state"):
            raise ConfigurationError(
                "The output of the backbone has no `last_hidden_state`.",
                expected="a model of transformers without a task head",
                received=f"{type(self.net).__name__}, which returns {type(outputs).__name__}",
                fix="Pass its base model: backbone=model.base_model.",
            )
        return outputs

    def _prefix(self, hidden: Tensor, x: Tensor) -> int:
        """Number of leading tokens that are not patches, such as the class token."""
        patch = getattr(self.net.config, "patch_size", 1)
        height, width = (patch, patch) if isinstance(patch, int) else patch
        rows, columns = x.shape[-2] // height, x.shape[-1] // width
        while rows * columns > hidden.shape[1]:  # hierarchical transformers halve the grid
            rows, columns = (rows + 1) // 2, (columns + 1) // 2
        return int(hidden.shape[1] - rows * columns)


def is_vision_model(network: nn.Module) -> bool:
    """Whether a network is a model of ``transformers``, by its configuration."""
    return isinstance(getattr(getattr(network, "config", None), "model_type", None), str)
