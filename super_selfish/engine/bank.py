"""Base class of algorithms with a memory bank: contrast an image with the bank entries of other images."""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from super_selfish.datasets.scaling import as_float
from super_selfish.distributed import gather
from super_selfish.engine.core.expected_loss import CollapseRisk, temperature_risk
from super_selfish.engine.core.identity import is_default
from super_selfish.engine.core.setup import Setup
from super_selfish.engine.supervisor import Supervisor
from super_selfish.errors import (
    COUNT,
    PROBABILITY,
    SWITCH,
    Rule,
    check_argument,
    is_count,
    is_number,
    one_of,
    validate_arguments,
)
from super_selfish.evaluation.pretext import PretextScore, in_batches, retrieval_score
from super_selfish.loading.collate import Collator
from super_selfish.loading.keyed import ImageRequest, KeyedDataset
from super_selfish.loading.loader import TrainLoader
from super_selfish.losses import NCELoss, contrastive_logits
from super_selfish.memory import BatchedMemory
from super_selfish.models.combined import CombinedNet, in_eval_mode
from super_selfish.pretext.base import PretextDataset, check_indexed, image_count
from super_selfish.pretext.preview import CaptionedImage
from super_selfish.seeding import make_key
from super_selfish.suggestions import ADVICE

logger = logging.getLogger("super_selfish")

BANK_RULES = {
    "embedding_size": COUNT,
    "n": Rule(lambda n: is_count(n, 0), "an integer of at least 0; 0: all other images"),
    "t": Rule(lambda t: is_number(t, 1e-6, math.inf), "a number above 0", "The papers use 0.07."),
    "memory_m": PROBABILITY,
    "loss_type": one_of("info_nce", "nce"),
    "shared_negatives": SWITCH,
    "bank_init": one_of("random", "forward"),
    "bank_precision": one_of("32", "16"),
}
"""Rules for the arguments that these algorithms have in common."""

LossType = Literal["info_nce", "nce"]
BankInit = Literal["random", "forward"]
BankPrecision = Literal["32", "16"]


class BankSupervisor(Supervisor):
    """Trains embeddings to match the bank entry of their own image, contrasted with entries of other images.

    A subclass defines the embeddings that the banks store (:meth:`embeddings`) and calls :meth:`contrast` in its loss.

    Args:
        model: The network.
        dataset: Data set of the pretext task, whose items end with the index of the image.
        loss: Criterion of (logits, index of the positive); the index is always 0. None: cross entropy.
        embedding_size: Length of the embeddings.
        n: Number of negatives per anchor, at most all other images. 0: all other images.
        t: Temperature.
        memory_m: Weight of the new embedding in the update of a bank entry, in [0, 1]; 1 replaces the entry.
        loss_type: ``"info_nce"``, or ``"nce"``: noise-contrastive estimation with a constant Z.
        shared_negatives: Draw n distinct entries per step for the whole batch, and mask an anchor's own entry. False: n
            per anchor, with replacement, which is many times slower.
        bank_init: ``"random"``, or ``"forward"``: embeddings of the untrained network (one pass over the images).
        bank_precision: Bits per value of the bank. ``"16"`` halves the memory, except with n=0: all entries are then
            negatives and are converted to 32 bits.
        setup: Images and arguments.

    Attributes:
        memory: The bank.
        constants: NCE losses with their constants Z, one module per bank.
    """

    former_defaults: ClassVar[Mapping[str, Any]] = {"centred": False}

    @validate_arguments(BANK_RULES)
    def __init__(
        self,
        model: CombinedNet,
        dataset: Any = None,
        loss: Callable[..., Tensor] | None = None,
        *,
        embedding_size: int,
        n: int,
        t: float,
        memory_m: float,
        loss_type: LossType,
        shared_negatives: bool,
        bank_init: BankInit,
        bank_precision: BankPrecision,
        setup: Setup,
    ) -> None:
        one_loss = loss_type == "info_nce" or loss is None
        check_argument(one_loss, "loss", loss, 'None with loss_type="nce"', "Or leave out `loss_type`.")
        super().__init__(model, dataset, loss, setup=setup)
        self.embedding_size = embedding_size
        self.n = n
        self.t = t
        self.memory_m = memory_m
        self.loss_type = loss_type
        self.shared_negatives = shared_negatives
        self.bank_init = bank_init
        self.bank_precision = bank_precision
        self.constants = nn.ModuleList()
        self.memory = self.new_bank()
        self._new: list[tuple[Tensor, ...]] = []

    def new_bank(self) -> BatchedMemory:
        """A new bank with one entry per image; with NCE, its loss is added to ``constants``."""
        images = 0 if self.dataset is None else len(self.dataset)
        if self.loss_type == "nce":
            self.constants.append(NCELoss(max(1, images)))
        dtype = torch.float16 if self.bank_precision == "16" else torch.float32
        return BatchedMemory(images, self.embedding_size, momentum=self.memory_m, dtype=dtype)

    def banks(self) -> tuple[BatchedMemory, ...]:
        """All banks."""
        return (self.memory,)

    @abstractmethod
    def embeddings(self, data: Any) -> tuple[Tensor, ...]:
        """L2-normalised embeddings (batch, embedding_size) to store, one tensor per bank."""

    def _follow_images(self, before: npt.NDArray[np.int64] | None, now: npt.NDArray[np.int64] | None) -> None:
        if before is None or now is None or len(before) != len(self.memory):
            return  # the bank is reinitialised
        _, theirs, ours = np.intersect1d(before, now, return_indices=True)
        for bank in self.banks():
            rows = bank.memory[torch.from_numpy(theirs).to(bank.memory.device)]
            bank.resize(len(now))
            bank.memory[torch.from_numpy(ours).to(bank.memory.device)] = rows
        logger.warning("The bank keeps the entries of %d images; %d images are new.", len(ours), len(now) - len(ours))
        self.is_same_dataset = True

    def _prepare(self, train_loader: TrainLoader) -> None:
        self._new.clear()
        dataset = self.dataset if train_loader.dataset is None else train_loader.dataset
        if not (self.forwards_as_planned or hasattr(dataset, "__len__")):
            return  # a custom `_forward` may not use the bank
        images, begins, others = image_count(dataset), self._train_state.step == 0, len(self.memory)
        if others != images or not self.is_same_dataset:
            if not begins:
                logger.warning("The bank of %d other images is reinitialised for %d images.", others, images)
            for bank in self.banks():
                bank.resize(images)
            for constant in self.constants:
                constant.forget()  # type: ignore[operator]
            begins = self.is_same_dataset = True
        for constant in self.constants:
            constant.images = images  # type: ignore[assignment]
        if self.n >= images and not is_default(self, "n"):
            text = "n=%d is more than the %d other images; all of them are negatives."
            logger.warning(text, self.n, images - 1, extra=ADVICE)
        if self.forwards_as_planned:
            check_indexed(dataset, images)
        if begins and self.bank_init == "forward":
            self._embed_all(dataset, train_loader)

    def contrast(
        self, anchors: Tensor, bank: BatchedMemory, indices: Tensor, positives: Tensor | None = None
    ) -> Tensor:
        """Contrastive loss of anchors against their own bank entries and negatives, averaged over the batch.

        All calls within a step use the same negatives.

        Args:
            anchors: L2-normalised embeddings (batch, embedding_size).
            bank: Bank of positives and negatives; its entries get no gradient.
            indices: Indices of the anchors' images (batch,).
            positives: Positives (batch, embedding_size) to use instead of bank entries.
        """
        logits = self.logits(anchors, bank, indices, positives)
        target = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
        if self.loss_type == "nce":
            place = next(place for place, own in enumerate(self.banks()) if own is bank)
            return self.constants[place](logits, target)  # type: ignore[no-any-return]
        return self.loss(logits, target)

    def logits(self, anchors: Tensor, bank: BatchedMemory, indices: Tensor, positives: Tensor | None = None) -> Tensor:
        """Logits (batch, 1 + negatives): cosine similarity / temperature, positive first; -∞ masks own entries."""
        key = make_key(0 if self._settings is None else self._settings.seed, self._train_state.step, "negatives")
        own = bank[indices] if positives is None else positives
        if not self.shared_negatives:
            rows = bank.negatives_for_each(self.n, indices, key)
            return contrastive_logits(anchors, own, bank[rows], self.t)
        chosen = bank.negatives(self.n, key)
        logits = contrastive_logits(anchors, own, bank.rows() if chosen is None else bank[chosen], self.t)
        chosen = torch.arange(len(bank), device=indices.device) if chosen is None else chosen
        logits[:, 1:].masked_fill_(chosen == indices[:, None], -math.inf)
        return logits

    def remember(self, embeddings: tuple[Tensor, ...], indices: Tensor) -> None:
        """Store embeddings in the banks after the next optimizer step, if the loss is used for training.

        Args:
            embeddings: One tensor per bank, as :meth:`embeddings` returns them.
            indices: Indices of their images (batch,).
        """
        if self.training:
            new = *(gather(embedding.detach()) for embedding in embeddings), gather(indices)
            self.keep_if_trained(self._new, new)

    def _skip_update(self) -> None:
        self._new.clear()

    def _after_update(self) -> None:
        if self._new:
            *embeddings, indices = (torch.cat(parts) for parts in zip(*self._new, strict=True))
            for bank, embedding in zip(self.banks(), embeddings, strict=True):
                bank.update(embedding, indices)
        self._new.clear()

    def _collapse_risk(self, batch_size: int) -> CollapseRisk | None:  # noqa: ARG002 - the bank holds the negatives
        if not isinstance(self.loss, nn.CrossEntropyLoss) or self.loss_type == "nce":
            return None
        others = max(1, len(self.memory) - 1)
        candidates = 1 + min(self.n or others, others)
        return temperature_risk(self.t, 0.07, len(self.banks()) * math.log(candidates))

    def _score_pretext(self, data: Any, draw_again: Callable[[], Any]) -> PretextScore:
        again = draw_again()
        queries, keys = (in_batches(lambda *parts: self.embeddings(parts)[0], *drawn) for drawn in (data, again))
        return retrieval_score("another view", queries, keys, (data[0], again[0]))

    @torch.no_grad()
    def _embed_all(self, dataset: Any, train_loader: TrainLoader) -> None:
        """Fill the banks with embeddings of the current network; unreadable images keep random entries."""
        keyed = KeyedDataset(dataset, train_loader.seed, self.collate_fn, "raise")
        collate = Collator(isinstance(dataset, PretextDataset) and dataset.batched, self.collate_fn)
        count = max(1, train_loader.batch_size)
        with in_eval_mode(self):
            for first in range(0, len(dataset), count):
                items = [keyed[ImageRequest(-1, index)] for index in range(first, min(first + count, len(dataset)))]
                read = [item for item in items if item.sample is not None]
                if read:
                    data = train_loader.prepare(collate(read))
                    for bank, embedding in zip(self.banks(), self.embeddings(data), strict=True):
                        bank.memory[data[-1]] = embedding.to(bank.memory)

    def preview_neighbours(
        self, shown: Sequence[tuple[str, Tensor]], anchors: Tensor, bank: BatchedMemory, indices: Tensor
    ) -> tuple[list[list[CaptionedImage]], float | None]:
        """Rows of a preview: views of an image, the image and, after training, its nearest neighbours.

        Args:
            shown: Captions with images (batch, C, H, W).
            anchors: L2-normalised embeddings (batch, embedding_size).
            bank: Bank to search; for images outside the supervisor's data set, the anchors are searched instead.
            indices: Indices of the images (batch,).

        Returns:
            The rows, and the fraction of anchors whose own bank entry is nearest; None if the bank was not searched.
        """
        source = getattr(self._shown, "images", None)
        visible = [(caption, self.preprocessing.visible(images)) for caption, images in shown]
        rows = [[CaptionedImage(images[i], caption) for caption, images in visible] for i in range(len(anchors))]
        if source is None:
            return rows, None

        def panel(index: int, caption: str, right: bool | None = None) -> CaptionedImage:
            return CaptionedImage(as_float(source.read(index)), caption, right)

        own = len(bank) == len(source) and self._shown is self.dataset and self.is_same_dataset
        if self._train_state.step == 0 or len(anchors) < 2:
            return [[*row, panel(int(i), "its image")] for row, i in zip(rows, indices, strict=True)], None
        numbers = torch.arange(len(bank), device=indices.device) if own else indices
        alike = anchors @ (bank.rows() if own else anchors).T  # (batch, rows)
        is_own = numbers == indices[:, None]
        if own and self._skipped:
            alike[:, list(self._skipped)] = -math.inf  # cannot be shown
        others = alike.masked_fill(is_own, -math.inf).topk(min(2, len(numbers) - 1))
        cosines = alike[is_own]
        found = cosines > others.values[:, 0]
        for place, row in enumerate(rows):
            mine = panel(int(indices[place]), "its image")
            if own:
                mine = mine._replace(caption=f"its image\n{cosines[place]:+.2f}", right=bool(found[place]))
            nearest = zip(others.indices[place], others.values[place], strict=True)
            row += [mine, *(panel(int(numbers[at]), f"another\n{cosine:+.2f}") for at, cosine in nearest)]
        return rows, found.double().mean().item() if own else None
