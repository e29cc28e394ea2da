"""Base class of all algorithms: five stages that can be overridden, and the training loop."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from typing_extensions import Self

from super_selfish.engine.core.callback import Callback
from super_selfish.engine.core.returned import split_loss
from super_selfish.engine.core.settings import Settings, records_explicit_arguments
from super_selfish.engine.core.stages import warn_of_misspelt
from super_selfish.engine.loading import check_accumulate, micro_batches, resolve_collate_fn
from super_selfish.engine.loop.memory import bytes_per_image
from super_selfish.engine.optim.names import OptimizerName, PrecisionName, ScheduleName
from super_selfish.engine.optim.optimizers import OptimizerFactory, make_optimizer, make_schedule, steppable
from super_selfish.engine.optim.schedules import SchedulerFactory, constant_lr
from super_selfish.engine.trained import Trained
from super_selfish.engine.trainer import Trainer
from super_selfish.engine.tuning import chosen_lr, split_groups
from super_selfish.errors import ConfigurationError, validate_keywords
from super_selfish.loading.collate import Collate
from super_selfish.loading.loader import TrainLoader


class Supervisor(Trained):
    """Trains a backbone on a pretext task, which needs no labels.

    ``supervise`` calls five stages in this order: ``_load_pretrained``, ``_init_data_optimizer``, ``_epochs``, and for
    each batch ``_forward`` and ``_update``. Subclasses may override each stage with the same signature. There are also
    hooks: ``_prepare`` runs before the first epoch, ``_after_update`` after each step.

    Args:
        model: The network to train, called once per batch.
        dataset: Map-style data set of the pretext task.
        loss: The criterion; None: cross entropy.
        collate_fn: Merges a list of items into a batch; None: the default of the data set.
        setup: Images and constructor arguments; passed by the subclasses in this library.

    Attributes:
        history: One entry per epoch: epoch, loss, images_per_second, data_wait, and entries added by callbacks.
        skipped: Unreadable images by index, with the reason.
        train_state: Epochs, batches, steps and samples over all calls of ``supervise``.
        preprocessing: The preprocessing of every image.
        forecast: Predicted cost of the last run with at least two steps.
        recipes: Class attribute: training recipes by name; see ``engine.core.facts.Facts``.

    Raises:
        ConfigurationError: If ``model`` is not a ``CombinedNet``.
    """

    explicit_arguments: frozenset[str] = frozenset()  # names of the arguments passed to the last call of `supervise`

    @validate_keywords()
    @records_explicit_arguments
    def supervise(
        self,
        lr: float | None = None,
        optimizer: OptimizerFactory | OptimizerName = torch.optim.Adam,
        epochs: int = 10,
        batch_size: int = 32,
        shuffle: bool = True,
        num_workers: int = 0,
        name: str | os.PathLike[str] = "store/base",
        pretrained: bool = False,
        lr_scheduler: SchedulerFactory | ScheduleName | None = constant_lr,
        *,
        seed: int = 0,
        precision: PrecisionName = "32",
        accumulate: int = 1,
        clip_grad: float | None = None,
        recipe: Literal["auto", "paper", "adapt"] | None = None,
        polyak: float | None = None,
        scheduler_interval: Literal["step", "epoch"] = "step",
        callbacks: Sequence[Callback] = (),
        evaluate: Any = None,
        watch: int | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        on_nonfinite: Literal["raise", "skip", "ignore"] = "raise",
        nonfinite_limit: int = 3,
        worker_timeout: float | None = 600.0,
        resume: bool | Literal["auto"] = False,
        checkpoint_every: int | str | None = None,
        keep: int = 2,
        allow_dataset_change: bool = False,
        requeue: bool = False,
        compile: bool = False,
        sync_bn: bool | Literal["auto"] = "auto",
        verbose: bool = True,
    ) -> Self:
        """Train, and save the weights under ``name`` at the end of training.

        SIGTERM and SIGUSR1 (exit status 143) and Ctrl-C finish the current step, save a checkpoint and stop. A second
        Ctrl-C forces the exit; progress since the last checkpoint is lost. An unreadable image saves a checkpoint and
        raises; any other error saves nothing. Existing weights are kept as ``*.prev``.
        After twenty steps, or half of a shorter run, the predicted time and memory are printed (:attr:`forecast`).

        Args:
            lr: Learning rate. None: 1e-3, or 1e-4 for backbones with layer norm in place of batch norm.
            optimizer: ``"adam"``, ``"adamw"``, ``"sgd"``, ``"lars"``, or a factory: ``optimizer(parameters, lr=lr)``.
            epochs: Number of epochs, at least 0.
            batch_size: Batch size (images per step). The last incomplete batch of an epoch is dropped.
            shuffle: Shuffle the images every epoch.
            num_workers: Number of data-loading worker processes. The result does not depend on it.
            name: Path of the output files, without suffix. Parent folders are created.
            pretrained: Start from the weights saved under ``name``.
            lr_scheduler: ``"constant"`` or ``"cosine"`` (after a warm-up), or a factory, called with the optimizer. A
                :class:`~super_selfish.engine.optim.schedules.Schedule` without ``total`` spans the whole training.
            seed: Random seed for shuffling and augmentation. Initial weights are drawn by the constructor.
            precision: Numerical precision of the network layers: ``"32"``, ``"bf16"`` or ``"16"`` (``"fp16"``: mixed
                precision with loss scaling). Weights, losses, normalised embeddings, queue and bank are float32.
            accumulate: Number of gradient accumulation steps (micro-batches per batch).
            clip_grad: Maximum norm of the gradients; None: no clipping.
            recipe: Training recipe, which sets ``lr``, ``optimizer``, ``lr_scheduler``, ``clip_grad`` and ``polyak``
                unless they are passed; with ``optimizer`` passed, ``lr`` is not set either. ``"auto"``: adapted to the
                batch size and number of epochs; ``"paper"``: those of the paper; ``"adapt"``: continue from
                ``weights=``, with the backbone frozen at first and its batch norm in eval mode throughout. See
                :mod:`super_selfish.engine.optim.recipes`.
            polyak: Decay of an exponential moving average (EMA) of the weights of ``model``, in (0, 1), for
                ``get_backbone(averaged=True)``.
            scheduler_interval: Update the learning rate every ``"step"`` or every ``"epoch"``.
            callbacks: Callbacks invoked after every step and epoch.
            evaluate: Labelled images, evaluated by kNN and a linear probe every ten epochs and added to ``history``; or
                a :class:`~super_selfish.engine.callbacks.monitors.Probe`, which sets the interval.
            watch: Number of images to monitor every epoch, without labels: effective rank, uniformity, alignment and
                consistency of their features are added to ``history``. None: 5 % of the images of an epoch, at most
                256, or 0 if that is fewer than 32; 0: off.
            on_error: ``"raise"`` an error for an unreadable image, or ``"skip"`` it and use another; see ``skipped``.
            on_nonfinite: ``"raise"`` an error if the loss or a gradient is not finite, ``"skip"`` the step, or
                ``"ignore"``: do not check.
            nonfinite_limit: Maximum number of skipped steps; the next one raises.
            worker_timeout: Timeout for data-loading workers, in seconds; None: no timeout.
            resume: Resume an interrupted training, bit for bit, from the newest valid checkpoint in ``<name>.ckpt``:
                ``True``, or ``"auto"`` to start over if there is none. Only ``epochs``, ``num_workers`` and
                ``callbacks`` may change. ``epochs`` is the total: if training is already complete,
                nothing is trained. With more epochs, the schedule of a recipe is stretched.
            checkpoint_every: Checkpoint interval: a number of steps, or a time such as ``"10min"``; None: every epoch;
                0: no checkpoints.
            keep: Number of checkpoints to keep.
            allow_dataset_change: Resume although the images have changed. The rest of the current epoch is skipped, a
                bank keeps the entries of files that still exist, and a recipe's schedule continues by epochs (a custom
                one by steps).
            requeue: Requeue the SLURM job when SIGTERM or SIGUSR1 stops it.
            compile: Compile the networks with ``torch.compile``: minutes of start-up time, then faster steps.
            sync_bn: Synchronise batch norm across processes; ``"auto"``: yes. MoCo shuffles its keys across
                processes instead.
            verbose: Show progress on stderr.

        Returns:
            The supervisor, in eval mode.

        Raises:
            ConfigurationError: If an argument or a network is invalid; before training.
            DataError: If there are no usable images, or an image is unreadable.
            CheckpointError: If weights cannot be read or written, or there is nothing to resume.
            CheckpointMismatch: If the checkpoint belongs to another training.
            DatasetChanged: If the images differ from those of the checkpoint.
            WorkerHung: If a data-loading worker does not respond.
            NonFiniteLoss: If the loss or a gradient is infinite or NaN.
            OutOfMemory: If a step does not fit in memory; the message names settings that need less.
            ProcessLost: If another process of a distributed training has exited.
        """
        schedule, rate = constant_lr if lr_scheduler is None else lr_scheduler, chosen_lr(self, lr)
        settings = Settings(
            *(rate, optimizer, epochs, batch_size, shuffle, num_workers, name, pretrained, schedule, seed, precision),
            *(accumulate, clip_grad, recipe, polyak, scheduler_interval, callbacks, evaluate, watch, on_error),
            *(on_nonfinite, nonfinite_limit, worker_timeout, resume, checkpoint_every, keep, allow_dataset_change),
            *(requeue, compile, sync_bn, verbose, self.explicit_arguments),
        )
        warn_of_misspelt(self, settings.callbacks)
        Trainer(self, settings).train()
        return self

    def _load_pretrained(self, name: str | os.PathLike[str], pretrained: bool) -> None:
        """Stage 1: load weights from ``name`` if ``pretrained``."""
        if pretrained:
            self.load(name)

    def _init_data_optimizer(
        self,
        optimizer: OptimizerFactory,
        batch_size: int,
        shuffle: bool,
        num_workers: int,
        collate_fn: Collate | None,
        lr: float,
        lr_scheduler: SchedulerFactory,
    ) -> tuple[Any, torch.optim.Optimizer, Any]:
        """Stage 2: return the loader, the optimizer and the schedule, in this order."""
        loader = self.train_loader(batch_size, shuffle, num_workers, collate_fn)
        scaled = not self.uses_default_update or (self._settings is not None and self._settings.precision == "16")
        groups = split_groups(self, self.parameter_groups(lr), self._settings)
        made = make_optimizer(optimizer, groups, lr, scaled)
        return loader, made, make_schedule(lr_scheduler, made)

    @validate_keywords()
    def train_loader(
        self, batch_size: int, shuffle: bool, num_workers: int, collate_fn: Collate | None = None
    ) -> TrainLoader:
        """Return the training loader of the data set; within :meth:`supervise`, with its settings.

        Raises:
            ConfigurationError: If there is no data set, or batches cannot be split into micro-batches.
        """
        if self.dataset is None:
            raise ConfigurationError(
                "There are no images to train on.",
                expected="a folder, a data set, an array or a tensor",
                received="dataset=None",
                fix=f'For instance {type(self).__name__}("photos/").',
            )
        settings = self._settings
        loader = TrainLoader(
            self.dataset,
            batch_size,
            self._train_state,
            self.preparer(),
            shuffle=shuffle,
            num_workers=num_workers,
            collate_fn=resolve_collate_fn(self.dataset, collate_fn),
            pin=self.device.type == "cuda",
            **({} if settings is None else settings.for_loader()),
        )
        wanted = 1 if settings is None else settings.accumulate
        if wanted > 1:
            check_accumulate(wanted, custom=not self.accumulates, decomposable=self.decomposable)
        trained, image_bytes = set(map(id, self.trainable_parameters())), 0.0
        trains_backbone = any(id(weight) in trained for weight in self.model.backbone.parameters())
        if trains_backbone and self.image_dataset is not None:  # else the network inputs are unknown
            size = self.input_size or self.preprocessing.resolution
            image_bytes = self.images_per_sample * bytes_per_image(self.model, self.preprocessing.channels, size)
        loader.micro_batches = micro_batches(loader.batch_size, wanted, image_bytes, self.device, self.splits_batches)
        return loader

    def _epochs(
        self, epochs: int, train_loader: Iterable[Any], optimizer: torch.optim.Optimizer, lr_scheduler: Any
    ) -> None:
        """Stage 3: the loop over the remaining epochs; ``self.train_state.epoch`` counts all calls of ``supervise``."""
        for _ in range(epochs):
            for data in train_loader:
                loss, _ = split_loss(self._forward(data))
                self._update(loss, optimizer, lr_scheduler)

    def _forward(self, data: Any) -> Tensor:
        """Stage 4: return the loss of a batch, which is on the device."""
        inputs, targets = data
        return self.loss(self.model(inputs), targets)

    def _update(self, loss: Tensor, optimizer: torch.optim.Optimizer, lr_scheduler: Any) -> None:
        """Stage 5: compute gradients; after the last micro-batch, step the optimizer and the schedule."""
        run, settings = self._run, self._settings
        if run is None or settings is None:
            raise ConfigurationError("`_update` works within `supervise()` only.")
        loss, _ = split_loss(loss)  # a custom loop may pass the unsplit return value of `_forward`
        optimizers, schedules = steppable(optimizer, lr_scheduler)
        run.precision.backward(loss * run.loader.share)
        if not run.loader.in_last_micro_batch:
            return
        run.sync_processes()
        if settings.clip_grad is not None:
            for each in optimizers:
                run.precision.unscale(each)
            for parameters in self.parameters_by_loss():
                nn.utils.clip_grad_norm_(parameters, settings.clip_grad)
        stepped = run.precision.step(*optimizers)
        for each in optimizers:
            each.zero_grad(set_to_none=True)
        if not stepped:
            run.overflowed()
        if stepped if settings.scheduler_interval == "step" else run.ends_epoch:
            for schedule in schedules:
                schedule.step()

    @property
    def uses_default_update(self) -> bool:
        """Whether ``_update`` is not overridden."""
        return type(self)._update is Supervisor._update

    @property
    def accumulates(self) -> bool:
        """Whether the loop supports micro-batches; a custom ``_epochs`` or ``_update`` does not."""
        return self.uses_default_update and type(self)._epochs is Supervisor._epochs
