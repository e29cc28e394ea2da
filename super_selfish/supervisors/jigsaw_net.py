"""Jigsaw: learn features by predicting the permutation of the tiles of an image."""

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


# Differs from the paper: 2 × 2 tiles and all their 24 permutations
# Differs from the paper: permutation tables are groups, not found by a search for large distances
# Differs from the paper: crops are enlarged to the tile again
# Differs from the paper: tiles are normalised by channel, with a standard deviation of at least 1/255
# Differs from the paper: channels are shifted and projected, and colours jittered
class JigsawNetSupervisor(Supervisor):
    """Shuffle the tiles of each image, and classify which permutation of a table was applied.

    Shortcuts, such as edges that continue from tile to tile, are removed: see
    :class:`~super_selfish.data.JigsawDataset`.

    ``evaluate_pretext`` returns the accuracy of the predicted permutations; the trivial baseline is chance level.

    Args:
        dataset: Folder, data set, array or tensor of images. None: the supervisor only loads weights.
        jigsaw_path: A ``.npy`` file with one permutation per row; it is only read if there are images. None: the
            built-in table, see :func:`~super_selfish.data.permutation_table`.
        n_perms_per_image: Number of permutations of each image, a fixed subset of the table; at most ``total_perms``.
        total_perms: Number of permutations of the table that are used, which is the number of classes.
        crops: Number of tiles per side.
        crop_size: Size of the random crop of a tile in px, smaller than the tile: side of a square, or (height, width).
            None: 0.85 of the tile's sides.
        backbone: Network from images to features: an ``nn.Module`` or a name. None: EfficientNet-B0 with layer norm.
        predictor: Head from the backbone's feature map, which keeps positions, to one logit per permutation. None: an
            MLP with layer norm that fits the map.
        loss: Criterion of (logits, rows of the table). None: cross entropy.
        transformations: Transform or callable that is applied to each tile. None: colour jitter.
        chroma_jitter: Maximum shift between the colour channels of a tile in px.
        chroma_project: Fraction of the colour images whose green-magenta component is removed, in [0, 1].
        grey: Fraction of the images that are converted to greyscale, in [0, 1].
        normed: Normalise each tile independently. ``normalize`` then only applies to images that the trained backbone
            embeds; ``normalize="dataset"`` makes these more similar to the tiles.
        **images: See :class:`~super_selfish.engine.core.setup.ImageOptions`.

    Raises:
        ConfigurationError: If an argument is out of range, tiles are not larger than the crop, or the networks do not
            fit the images.
        DataError: If the images or the table cannot be read.

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
    uses_map = True
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
        # Noroozi and Favaro, code: batch size 256, learning rate decays every 100,000 of 350,000 steps
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
            load_permutations(None, crops, total_perms)  # checks `total_perms` even if there are no images
        given = {"backbone": backbone, "predictor": predictor, "loss": loss, "transformations": transformations}
        setup = Setup.of(dataset, images, **given)
        path = None if jigsaw_path is None else os.fspath(jigsaw_path)
        options: dict[str, Any] = {"jigsaw_path": path, "n_perms_per_image": n_perms_per_image}
        options |= {"total_perms": total_perms, "crops": crops, "crop_size": crop_size, "chroma_jitter": chroma_jitter}
        options |= {"chroma_project": chroma_project, "grey": grey, "normed": normed}
        pretext = setup.dataset(lambda opened: JigsawDataset(opened, transformations, **options))
        seen = jigsaw_size(setup.preprocessing.resolution, crops)
        super().__init__(
            # Differs from the paper: one network sees all tiles in one image, instead of each tile by itself.
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
        shuffled, labels = data  # (batch, C, H', W') and (batch,)
        logits = self.model(shuffled)
        return self.loss(logits, labels)

    def _expected_loss(self) -> ExpectedLoss:
        stuck = "Tiles may be too small (32 px is little), or `lr` is too high or too low by a factor of three."
        return ExpectedLoss(chance=math.log(self.total_perms), stuck=stuck)

    def _score_pretext(self, data: tuple[Tensor, Tensor], draw_again: Callable[[], Any]) -> PretextScore:  # noqa: ARG002
        return classification_score("accuracy of tile permutations", self.model, data)

    def _preview(self, data: tuple[Tensor, Tensor]) -> Preview:
        shuffled, labels = data
        table = load_permutations(self.jigsaw_path, self.crops, self.total_perms)
        title = "Jigsaw: how were the tiles permuted?"
        note = (
            f"Each tile is cropped and colour-jittered independently, so edges do not continue.\n"
            f"There are {self.total_perms} permutations: chance level is 1 in {self.total_perms}."
        )
        if self._train_state.step == 0:
            samples = zip(shuffled, labels.tolist(), strict=True)
            rows = [jigsaw_preview(image, table[label], None, self.normed) for image, label in samples]
            return Preview(title, note, rows)
        predictions = self.model(shuffled).argmax(dim=1)
        predicted = zip(shuffled, labels.tolist(), predictions.tolist(), strict=True)
        rows = [jigsaw_preview(image, table[label], table[row], self.normed) for image, label, row in predicted]
        return Preview(title, note, rows)
