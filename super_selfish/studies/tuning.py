"""Fine-tuning of a network with labels, the same way in each arm."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from super_selfish.comparison.images import Pixels
from super_selfish.errors import ConfigurationError
from super_selfish.evaluation import split
from super_selfish.evaluation.features import as_network_input
from super_selfish.evaluation.score import Integers
from super_selfish.models.combined import CombinedNet, in_eval_mode
from super_selfish.seeding import KeyedGenerator, keyed_randomness
from super_selfish.studies.plan import RATES, VALIDATION
from super_selfish.studies.records import Hits

_DECAY = 0.05  # weight decay
_WARM_UP = 0.1  # fraction of the updates
_SHIFT = 8  # images are shifted by up to a fraction 1 / 8 of their side


class OutOfTime(Exception):
    """There was no time for a whole fine-tuning."""


class FineTuning:
    """Fine-tunes copies of networks: AdamW, a warm-up and a cosine schedule, random shifts of the images.

    Args:
        pixels: All labelled images (images, H, W, C).
        labels: Their classes, numbered from 0 (images,).
        groups: Their groups (images,); None: images are independent.
        batch_size: Number of images per update.
        device: Device of the networks.
        now: Function that returns the time in seconds.

    References:
        Loshchilov and Hutter, "Decoupled weight decay regularization", 2017.
    """

    def __init__(
        self,
        pixels: Pixels,
        labels: Integers,
        groups: Integers | None,
        batch_size: int,
        device: torch.device,
        now: Callable[[], float],
    ) -> None:
        self.pixels, self.labels, self.groups = pixels, labels, groups
        self.batch_size, self.device, self.now = batch_size, device, now

    def best_rate(self, network: nn.Module, chosen: Integers, steps: int, seed: int, end: float = math.inf) -> float:
        """The learning rate with the best accuracy on a validation fold of the training images ``chosen``.

        Where a fold is not possible, such as with one label a class, it is the middle one.

        Raises:
            OutOfTime: If the time is over.
        """
        groups = None if self.groups is None else self.groups[chosen]
        try:
            kept, held = split(self.labels[chosen], test=VALIDATION, groups=groups, seed=seed)
        except ConfigurationError:
            return RATES[len(RATES) // 2]
        found = []
        for rate in RATES:
            model = self.train(network, chosen[kept], rate, steps, seed, end)
            found.append(float(self.hits(model, chosen[held]).mean()))
        return RATES[int(np.argmax(found))]

    def train(
        self, network: nn.Module, chosen: Integers, rate: float, steps: int, seed: int, end: float = math.inf
    ) -> CombinedNet:
        """A copy of a network with a linear classifier, trained on the images ``chosen``.

        Raises:
            OutOfTime: If the time is over.
        """
        with keyed_randomness(seed, self.device):
            model = self.classifier(network)
            optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=_DECAY)
            warm_up = max(1, round(_WARM_UP * steps))
            schedule = torch.optim.lr_scheduler.LambdaLR(
                optimizer,
                lambda step: min((step + 1) / warm_up, 0.5 * (1 + math.cos(math.pi * step / steps))),
            )
            model.train()
            size = min(self.batch_size, len(chosen))
            for batch in batches(chosen, size, steps, seed):
                if self.now() > end:
                    raise OutOfTime
                images = shifted(self.inputs(network, batch))
                loss = nn.functional.cross_entropy(model(images), self.codes(batch))
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
        return model

    def hits(self, model: CombinedNet, chosen: Integers) -> Hits:
        """Whether each of the images ``chosen`` is classified correctly."""
        found = []
        with in_eval_mode(model), torch.no_grad():
            for start in range(0, len(chosen), 256):
                part = chosen[start : start + 256]
                found.append(model(self.inputs(model.backbone, part)).argmax(1) == self.codes(part))
        return torch.cat(found).cpu().numpy()

    def step_seconds(self, network: nn.Module, chosen: Integers, steps: int = 2) -> float:
        """Measured seconds per update."""
        self.train(network, chosen, RATES[0], 1, 0)
        begin = self.now()
        self.train(network, chosen, RATES[0], steps, 0)
        return (self.now() - begin) / steps

    def classifier(self, network: nn.Module) -> CombinedNet:
        """A copy of a network followed by a linear layer."""
        backbone = copy.deepcopy(network).to(self.device)
        with in_eval_mode(backbone), torch.no_grad():
            width = backbone(self.inputs(network, np.arange(1))).shape[1]
        head = nn.Linear(width, int(self.labels.max()) + 1)
        for parameter in backbone.parameters():
            parameter.requires_grad_(True)
        return CombinedNet(backbone, head).to(self.device)

    def inputs(self, network: nn.Module, batch: Integers) -> Tensor:
        """Images in the form that a network expects."""
        preprocessing = network.preprocessing
        return as_network_input(list(self.pixels[batch]), preprocessing).to(self.device)  # type: ignore[arg-type]

    def codes(self, batch: Integers) -> Tensor:
        """Labels of images."""
        return torch.from_numpy(self.labels[batch]).to(self.device)


def batches(chosen: Integers, size: int, steps: int, seed: int) -> list[Integers]:
    """Batches of a training in random order; every image is used equally often.

    Examples:
        >>> [len(each) for each in batches(np.arange(5), 2, 3, 0)]
        [2, 2, 2]
    """
    passes = -(-steps * size // len(chosen))
    orders = [KeyedGenerator("fine-tuning", seed, number).permutation(len(chosen)) for number in range(passes)]
    order = np.concatenate([np.array(each, np.int64) for each in orders])[: steps * size]
    return list(chosen[order].reshape(steps, size))


def shifted(images: Tensor) -> Tensor:
    """Shift each image (batch, C, H, W) by a random part of up to an eighth of its side; edges are repeated."""
    height, width = images.shape[2:]
    down, across = height // _SHIFT, width // _SHIFT
    padded = nn.functional.pad(images, (across, across, down, down), mode="replicate")
    rows = torch.randint(0, 2 * down + 1, (len(images),)).tolist()
    columns = torch.randint(0, 2 * across + 1, (len(images),)).tolist()
    parts = [
        image[:, row : row + height, column : column + width]
        for image, row, column in zip(padded, rows, columns, strict=True)
    ]
    return torch.stack(parts)
