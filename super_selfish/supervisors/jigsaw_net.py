"""Jigsaw: learn features by telling in which order the tiles of an image were laid."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from torch import Tensor, nn
from typing_extensions import Unpack

from super_selfish.engine.core.expected_loss import ExpectedLoss
from super_selfish.engine.core.facts import Paper
from super_selfish.engine.core.setup import ImageOptions, Setup
from super_selfish.engine.optim.recipes import Recipe, adamw_recipe, sgd
from super_selfish.engine.optim.schedules import Schedule
from super_selfish.engine.supervisor import Supervisor
from super_selfish.errors import validate_arguments
from super_selfish.evaluation.pretext import PretextScore, classification_score
from super_selfish.pretext.jigsaw import JIGSAW_RULES, JigsawDataset, jigsaw_preview, load_permutations
from super_selfish.pretext.preview import Preview
from super_selfish.pretext.tiles import jigsaw_size
from super_selfish.pretext.views import Views


# Differs from the paper: 2 × 2 tiles and all their 24 orders
# Differs from the paper: tables of orders come from groups, not from a search for large distances
# Differs from the paper: crops are enlarged to the tile again
# Differs from the paper: tiles are normalised by channel, with a standard deviation of at least 1/255
# Differs from the paper: channels are shifted and projected, and colours jittered
class JigsawNetSupervisor(Supervisor):
    """Cut each image into tiles, lay them in another order, and learn to tell which order of a table it was.

    Everything but what is in the tiles would be a shortcut, and is taken away: see
    :class:`~super_selfish.data.JigsawDataset`.

    ``evaluate_pretext`` gives the accuracy of the tile orders; the trivial baseline is chance level.

    Args:
        dataset: A folder, a data set, an array, a tensor; None to load weights only.
        jigsaw_path: A ``.npy`` file of permutations, one a row, which is read where there are images; None: a built-in
            table, see :func:`~super_selfish.data.permutation_table`.
        n_perms_per_image: Rows of the table that each image is laid by, always the same ones; all if there are no
            more.
        total_perms: Rows of the table that are used: the number of classes.
        crops: Tiles along a side.
        crop_size: Side in px, or (height, width), of the random crop of a tile, less than the tile's; None: 0.85 of it.
        backbone: Images to features: an ``nn.Module``, a name, or None for EfficientNet-B0 with layer norm.
        predictor: The backbone's map to one logit an order: an average over space would not say where tiles are. None
            for a perceptron with layer norm, sized by the map.
        loss: Criterion of (logits, rows of the table); cross entropy if None.
        transformations: Called on each tile: a recipe or another callable; None: colour jitter.
        chroma_jitter: Largest shift between the colour channels of a tile in px.
        chroma_project: Share of the images in colour whose green-magenta component is removed.
        grey: Share of images that are turned grey.
        normed: Normalise each tile by itself. ``normalize`` then says nothing of the puzzles, only how images come to
            the backbone afterwards; ``normalize="dataset"`` makes them more like what it has learned on.
        **images: See :class:`~super_selfish.engine.core.setup.ImageOptions`.

    Raises:
        ConfigurationError: If an argument is out of range, tiles leave no room for the crop, or the networks do not
            fit.
        DataError: If the images or the table cannot be used.

    Examples:
        >>> import numpy as np
        >>> images = np.random.default_rng(0).integers(0, 256, (8, 65, 65, 3), np.uint8)
        >>> supervisor = JigsawNetSupervisor(images, crops=3, total_perms=100, backbone="small_resnet")
        >>> supervisor.input_size
        (63, 63)

    References:
        Noroozi and Favaro, "Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles", 2016.
    """

    aliases = ("jigsaw",)
    relative_cost = 1.0
    paper = Paper(
        "Noroozi and Favaro",
        "Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles",
        2016,
        "1603.09246",
    )
    family = "patch"
    learns_by = "predicting the order of the tiles of an image"
    use_when = "objects have parts in fixed places; photographs of 96 px and more"
    recipes: ClassVar[Mapping[str, Recipe]] = {
        "auto": adamw_recipe(2e-3),
        # Noroozi and Favaro, code: batches of 256, rate cut every 100,000 of 350,000 updates
        "paper": Recipe(sgd(5e-4), 0.01, 256, schedule=Schedule("steps", at=(2 / 7, 4 / 7, 6 / 7))),
    }

    @validate_arguments(JIGSAW_RULES)
    def __init__(
        self,
        dataset: Any = None,
        jigsaw_path: str | os.PathLike[str] | None = None,
        n_perms_per_image: int = 24,
        total_perms: int = 24,
        crops: int = 2,
        crop_size: int | tuple[int, int] | None = None,
        backbone: nn.Module | str | None = None,
        predictor: nn.Module | None = None,
        loss: Callable[..., Tensor] | None = None,
        *,
        transformations: Views | None = None,
        chroma_jitter: int = 2,
        chroma_project: float = 0.5,
        grey: float = 0.3,
        normed: bool = True,
        **images: Unpack[ImageOptions],
    ) -> None:
        if jigsaw_path is None:
            load_permutations(None, crops, total_perms)  # complains of too many orders without images too
        given = {"backbone": backbone, "predictor": predictor, "loss": loss, "transformations": transformations}
        setup = Setup.of(dataset, images, **given)
        path = None if jigsaw_path is None else os.fspath(jigsaw_path)
        how: dict[str, Any] = {"jigsaw_path": path, "n_perms_per_image": n_perms_per_image, "total_perms": total_perms}
        how |= {"crops": crops, "crop_size": crop_size, "chroma_jitter": chroma_jitter}
        how |= {"chroma_project": chroma_project, "grey": grey, "normed": normed}
        pretext = setup.dataset(lambda opened: JigsawDataset(opened, transformations, **how))
        seen = jigsaw_size(setup.preprocessing.resolution, crops)
        super().__init__(
            # Differs from the paper: one network sees the whole puzzle, instead of one each tile by itself.
            setup.head((1024, 1024), total_perms, norm_type="layer", size=seen, of_map=True),
            pretext,
            setup.criterion(nn.CrossEntropyLoss),
            setup=setup,
        )
        self.jigsaw_path = path
        self.n_perms_per_image = n_perms_per_image
        self.total_perms = total_perms
        self.crops = crops
        self.crop_size = crop_size
        self.chroma_jitter = chroma_jitter
        self.chroma_project = chroma_project
        self.grey = grey
        self.normed = normed
        self.input_size = seen

    def _forward(self, data: tuple[Tensor, Tensor]) -> Tensor:
        puzzles, orders = data  # (batch, C, H', W') and (batch,)
        logits = self.model(puzzles)
        return self.loss(logits, orders)

    def _expected_loss(self) -> ExpectedLoss:
        stuck = "Tiles may be too small to show anything (32 px is little), or `lr` is off by a factor of three."
        return ExpectedLoss(chance=math.log(self.total_perms), stuck=stuck)

    def _score_pretext(self, data: tuple[Tensor, Tensor], draw_again: Callable[[], Any]) -> PretextScore:  # noqa: ARG002
        return classification_score("accuracy of tile orders", self.model, data)

    def _preview(self, data: tuple[Tensor, Tensor]) -> Preview:
        puzzles, orders = data
        table = load_permutations(self.jigsaw_path, self.crops, self.total_perms)
        title = "Jigsaw: in which order were the tiles laid?"
        note = (
            f"Each tile is cropped and coloured by itself, so edges do not meet.\n"
            f"{self.total_perms} orders are possible: a guess is right once in {self.total_perms}."
        )
        if self._train_state.step == 0:
            unanswered = zip(puzzles, orders.tolist(), strict=True)
            rows = [jigsaw_preview(puzzle, table[order], None, self.normed) for puzzle, order in unanswered]
            return Preview(title, note, rows)
        answers = self.model(puzzles).argmax(dim=1)
        answered = zip(puzzles, orders.tolist(), answers.tolist(), strict=True)
        rows = [jigsaw_preview(puzzle, table[order], table[answer], self.normed) for puzzle, order, answer in answered]
        right = int((answers == orders).sum())
        return Preview(title, f"{note} The network was right {right} times in {len(orders)}.", rows)
