"""The queue of MoCo: keys of previous batches."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from super_selfish.errors import ConfigurationError, check_argument, is_count
from super_selfish.suggestions import ADVICE

logger = logging.getLogger("super_selfish")


class BatchedQueue(nn.Module):
    """Ring buffer of embeddings. New embeddings replace the oldest ones.

    The queue is part of the ``state_dict`` of the module that contains it.

    Args:
        K: Capacity in batches.
        batch_size: Number of embeddings per batch.
        embedding_size: Dimension of the embeddings.
        init_tensor: Initial embeddings (K · batch_size, embedding_size). None: random L2-normalised embeddings.

    Attributes:
        rows: Embeddings (K · batch_size, embedding_size), in storage order.
        pointer: Index of the next row to overwrite.

    Raises:
        ConfigurationError: If a size is out of range.

    Examples:
        >>> queue = BatchedQueue(K=2, batch_size=2, embedding_size=3)
        >>> queue.enqueue(torch.eye(3))  # any number of rows
        >>> queue.data()[:3]
        tensor([[1., 0., 0.],
                [0., 1., 0.],
                [0., 0., 1.]])

    References:
        He, Fan, Wu, Xie and Girshick, "Momentum Contrast for Unsupervised Visual Representation Learning", 2020.
    """

    resizable = ("rows",)
    """Buffers whose first dimension depends on the settings. It is resized when weights are loaded."""

    rows: Tensor
    pointer: Tensor

    def __init__(
        self, K: int = 8, batch_size: int = 128, embedding_size: int = 64, init_tensor: Tensor | None = None
    ) -> None:
        super().__init__()
        for name, value, least in (("K", K, 0), ("batch_size", batch_size, 0), ("embedding_size", embedding_size, 1)):
            check_argument(is_count(value, least), name, value, f"an integer of at least {least}")
        shape = (K * batch_size, embedding_size)
        if init_tensor is not None and tuple(init_tensor.shape) != shape:
            raise ConfigurationError(
                "The shape of `init_tensor` is wrong.", expected=f"{shape}", received=f"{tuple(init_tensor.shape)}"
            )
        rows = F.normalize(torch.randn(shape)) if init_tensor is None else init_tensor.detach().clone()
        self.register_buffer("rows", rows)
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))

    def __len__(self) -> int:
        return len(self.rows)

    def resize(self, rows: int) -> None:
        """Replace the embeddings by ``rows`` random L2-normalised embeddings, and reset the pointer."""
        shape, device = (rows, self.rows.shape[1]), self.rows.device
        self.rows = F.normalize(torch.randn(shape)).to(device)
        self.reset_pointer()

    def reset_pointer(self) -> None:
        """Set the pointer to the first row."""
        self.pointer.zero_()

    def increment(self, step: int = 1) -> None:
        """Advance the pointer by a number of rows, with wrap-around."""
        self.pointer.add_(step).remainder_(max(1, len(self)))

    @torch.no_grad()
    def enqueue(self, k: Tensor) -> None:
        """Add embeddings (any number, embedding_size), oldest first, with wrap-around at the end of the buffer."""
        check_argument(k.shape[1:] == self.rows.shape[1:], "k", tuple(k.shape), f"(any, {self.rows.shape[1]})")
        count, size = len(k), len(self)
        kept = k.detach()[-size:] if size else k[:0]
        offsets = torch.arange(count - len(kept), count, device=self.rows.device)
        self.rows[(self.pointer + offsets).remainder(max(1, size))] = kept.to(self.rows)
        self.increment(count)

    @torch.no_grad()
    def init_w_loader_and_model(self, train_loader: Iterable[Any], model: nn.Module) -> None:
        """Fill the queue with a model's embeddings of the first view of each batch of a loader.

        Pass a separate loader, as this one is advanced. The mode of the model is not changed.
        """
        filled = 0
        for data in train_loader:
            images = data[0] if isinstance(data, tuple | list) else data
            rows = F.normalize(model(images.to(self.rows.device)))
            self.enqueue(rows)
            filled += len(rows)
            if filled >= len(self):
                return

    def warn_of_own_keys(self, images: int, batch_size: int, keys: int = 1) -> None:
        """Log a warning if keys of an image remain in the queue until the image is a query again.

        Args:
            images: Number of images in the data set.
            batch_size: Number of images per step.
            keys: Number of keys per image.
        """
        longest = keys * max(0, images - batch_size)
        if len(self) > longest:
            logger.warning(
                "The queue of %d keys is too long for %d images at batch_size=%d: it contains keys of the query's own "
                "image, which are wrong negatives. Pass queue_size=%d%s.",
                len(self),
                images,
                batch_size,
                longest,
                " or less" if longest else ", which contrasts the images of a batch",
                extra=ADVICE,
            )

    def data(self) -> Tensor:
        """Return all embeddings (K · batch_size, embedding_size) in storage order, without gradients."""
        return self.rows
