"""The base of all algorithms: five stages that can each be overridden, and one loop."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from typing_extensions import Self

from super_selfish.engine.core.callback import Callback
from super_selfish.engine.core.settings import Settings, records_explicit_arguments
from super_selfish.engine.loading import micro_batches, resolve_collate_fn
from super_selfish.engine.loop.memory import bytes_per_image
from super_selfish.engine.optim.optimizers import OptimizerFactory, make_optimizer
from super_selfish.engine.optim.schedules import SchedulerFactory, constant_lr
from super_selfish.engine.trained import Trained
from super_selfish.engine.trainer import Trainer
from super_selfish.engine.tuning import split_groups
from super_selfish.errors import ConfigurationError, validate_keywords
from super_selfish.loading.collate import Collate
from super_selfish.loading.loader import TrainLoader


class Supervisor(Trained):
    """Trains a backbone by an exercise that needs no labels.

    ``supervise`` calls five stages, in this order, each of which a subclass may override with the same signature:
    ``_load_pretrained``, ``_init_data_optimizer``, ``_epochs``, and, once a batch, ``_forward`` and ``_update``. Two
    hooks stand beside them: ``_prepare`` sizes buffers before the first epoch, ``_after_update`` follows every update.

    Args:
        model: The network that is trained, called once a batch.
        dataset: The exercises: a map-style data set.
        loss: The criterion; cross entropy if None.
        collate_fn: Makes a batch of items; None joins them as the data set asks.
        setup: Images and arguments, from the subclasses of this library.

    Attributes:
        history: One entry per epoch: epoch, loss, images_per_second, data_wait, and what callbacks add.
        skipped: Unreadable images by index, with the reason.
        train_state: Epochs, batches, steps and samples over the supervisor's life.
        preprocessing: What every image becomes before it is used.
        forecast: Predicted cost of the last run of more than twenty steps, made after them.
        recipes: Of the class: what ``recipe=`` means for an algorithm of one's own, by name.
        aliases: Of the class: other names of the algorithm on the command line.
        relative_cost: Of the class: training time per image, relative to instance discrimination; None: not measured.

    Raises:
        ConfigurationError: If the model is no ``CombinedNet``.
    """

    explicit_arguments: frozenset[str] = frozenset()  # of the last call of `supervise`, by name

    @validate_keywords()
    @records_explicit_arguments
    def supervise(
        self,
        lr: float = 1e-3,
        optimizer: OptimizerFactory = torch.optim.Adam,
        epochs: int = 10,
        batch_size: int = 32,
        shuffle: bool = True,
        num_workers: int = 0,
        name: str | os.PathLike[str] = "store/base",
        pretrained: bool = False,
        lr_scheduler: SchedulerFactory = constant_lr,
        *,
        seed: int = 0,
        precision: Literal["32", "bf16", "16"] = "32",
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
        """Train, and store the weights under ``name`` at the end, or when asked to stop.

        SIGTERM, SIGUSR1 (both then end the process with exit status 143) and Ctrl-C finish the step and save; a second
        Ctrl-C leaves at once. A failure stores nothing; an image that cannot be read, a checkpoint. What a run replaces
        is kept as ``*.prev``; an interrupted one replaces no longer one.
        After twenty steps, a forecast of time and memory is printed (:attr:`forecast`).

        Args:
            lr: Learning rate.
            optimizer: Factory, called as ``optimizer(parameters, lr=lr)``.
            epochs: Passes over the data set, at least 0.
            batch_size: Images an update. Only full batches are trained; the rest is shuffled into the next epoch.
            shuffle: Draw a new order every epoch.
            num_workers: Processes that read images ahead. The result does not depend on it.
            name: Path of the files, without suffix; parent folders are made.
            pretrained: Start from the weights stored under ``name``.
            lr_scheduler: Factory, called with the optimizer. A :class:`~super_selfish.engine.optim.schedules.Schedule`
                without ``total`` covers the whole run.
            seed: Of order, views and all else that is random here; initial weights are drawn by the constructor.
            precision: Of the layers of networks: ``"32"``, ``"bf16"`` or ``"16"``, with scaled losses. Weights, losses,
                normalised embeddings, queue and bank are float32 in any case.
            accumulate: Micro-batches that each batch is drawn in.
            clip_grad: Largest norm of the gradient.
            recipe: Training recipe: sets those of ``lr``, ``optimizer``, ``lr_scheduler``, ``clip_grad`` and ``polyak``
                that are not passed, and ``lr`` only with ``optimizer``: ``"auto"``, fitted to batch size and length of
                run; ``"paper"``; ``"adapt"``, gently from ``weights=``: those of the backbone are held still
                at first, while batch norm already follows the images. See :mod:`super_selfish.engine.optim.recipes`.
            polyak: Decay of an average of the weights of ``model``, in (0, 1), for ``get_backbone(averaged=True)``.
            scheduler_interval: Step the schedule every ``"step"`` or every ``"epoch"``.
            callbacks: Told of every step and epoch.
            evaluate: Labelled images, scored by kNN and a linear probe every ten epochs into ``history``; or a
                :class:`~super_selfish.engine.callbacks.monitors.Probe`, which sets how often.
            watch: Images whose features are measured every epoch into ``history``, without labels (effective rank,
                uniformity, alignment, consistency); None: a twentieth of an epoch's, at most 256, or none if these are
                less than 32; 0: none.
            on_error: ``"raise"`` at an unreadable image, or ``"skip"``: another takes its place; see ``skipped``.
            on_nonfinite: ``"raise"`` before an update whose loss or gradients are not finite, ``"skip"`` it, or
                ``"ignore"``: do not look.
            nonfinite_limit: Updates that may be skipped; the next raises.
            worker_timeout: Seconds that training waits for a process that reads; None: for ever.
            resume: Continue a training that was killed, bit for bit, from the newest whole checkpoint in
                ``<name>.ckpt``: ``True``, or ``"auto"`` to begin anew where there is none. Epochs, workers and
                callbacks may change; all else has to be as it was. ``epochs`` are those of the call that was killed:
                a training that has had them returns at once, and a recipe's schedule is stretched to more of them.
            checkpoint_every: Steps between checkpoints, or a time such as ``"10min"``; None: each epoch; 0: none.
            keep: Checkpoints that stay.
            allow_dataset_change: Continue with other images: the rest of the epoch is left out, a bank keeps the rows
                of files that are still there, and a recipe's schedule goes on by epochs (one of your own by steps).
            requeue: Put the SLURM job back into the queue when SIGTERM or SIGUSR1 stops it.
            compile: Compile networks with ``torch.compile``: some minutes at the start, then faster steps.
            sync_bn: Of several processes: batch norm over the batch of all; ``"auto"``: yes. MoCo shuffles its keys
                among them instead.
            verbose: Show progress on stderr.

        Returns:
            The supervisor, in eval mode.

        Raises:
            ConfigurationError: If an argument or a network cannot work; before training.
            DataError: If there are no usable images, or one cannot be read.
            CheckpointError: If the weights cannot be read or written, or there is nothing to resume.
            CheckpointMismatch: If the checkpoint is of another training.
            DatasetChanged: If it is of other images.
            WorkerHung: If a process that reads does not answer.
            NonFiniteLoss: If the loss or a gradient is infinite or not a number.
            OutOfMemory: If a step does not fit the memory; it says what takes less.
            ProcessLost: If another process of several is gone.
        """
        settings = Settings(
            *(lr, optimizer, epochs, batch_size, shuffle, num_workers, name, pretrained, lr_scheduler, seed, precision),
            *(accumulate, clip_grad, recipe, polyak, scheduler_interval, callbacks, evaluate, watch, on_error),
            *(on_nonfinite, nonfinite_limit, worker_timeout, resume, checkpoint_every, keep, allow_dataset_change),
            *(requeue, compile, sync_bn, verbose, self.explicit_arguments),
        )
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
        """Stage 2: make the loader, the optimizer and the schedule, returned in this order."""
        loader = self.train_loader(batch_size, shuffle, num_workers, collate_fn)
        scaled = not self.uses_default_update or (self.settings is not None and self.settings.precision == "16")
        groups = self.parameter_groups(lr)
        if self.settings is not None and self.settings.recipe is not None:
            groups = split_groups(self, groups, self.settings)
        made = make_optimizer(optimizer, groups, lr, scaled)
        return loader, made, lr_scheduler(made)

    @validate_keywords()
    def train_loader(
        self, batch_size: int, shuffle: bool, num_workers: int, collate_fn: Collate | None = None
    ) -> TrainLoader:
        """The training loader over the data set; within :meth:`supervise`, with its settings.

        Raises:
            ConfigurationError: If there is no data set, or batches cannot be split as ``accumulate`` asks.
        """
        if self.dataset is None:
            raise ConfigurationError(
                "There are no images to train on.",
                expected="a folder, a data set, an array or a tensor",
                received="dataset=None",
                fix=f'For instance {type(self).__name__}("photos/").',
            )
        settings = self.settings
        loader = TrainLoader(
            self.dataset,
            batch_size,
            self.train_state,
            self.preparer(),
            shuffle=shuffle,
            num_workers=num_workers,
            collate_fn=resolve_collate_fn(self.dataset, collate_fn),
            pin=self.device.type == "cuda",
            **({} if settings is None else settings.for_loader()),
        )
        wanted = 1 if settings is None else settings.accumulate
        if wanted > 1:
            self._check_accumulate(wanted)
        image_bytes = 0.0
        trained = {id(weight) for weight in self.trainable_parameters()}
        trains_backbone = any(id(weight) in trained for weight in self.model.backbone.parameters())
        if trains_backbone and self.image_dataset is not None:  # only a custom data set knows what the network sees
            size = self.input_size or self.preprocessing.resolution
            image_bytes = self.images_per_sample * bytes_per_image(self.model, self.preprocessing.channels, size)
        loader.micro_batches = micro_batches(loader.batch_size, wanted, image_bytes, self.device, self.splits_batches)
        return loader

    def _check_accumulate(self, wanted: int) -> None:
        if not self.accumulates:
            raise ConfigurationError(
                "`accumulate` needs the library's own `_epochs` and `_update`.",
                received=f"accumulate={wanted}, and an override of one of them",
                fix="Add up the gradients of several batches in the override itself.",
            )
        if not self.decomposable:
            raise ConfigurationError(
                "`accumulate` would change the loss: here the images of a batch are each other's negatives.",
                received=f"accumulate={wanted}",
                fix="Lower `batch_size`, or train with a queue.",
            )

    def _epochs(
        self, epochs: int, train_loader: Iterable[Any], optimizer: torch.optim.Optimizer, lr_scheduler: Any
    ) -> None:
        """Stage 3: the loop over the remaining epochs; ``self.train_state.epoch`` counts over the supervisor's life."""
        for _ in range(epochs):
            for data in train_loader:
                loss = self._forward(data)
                self._update(loss, optimizer, lr_scheduler)

    def _forward(self, data: Any) -> Tensor:
        """Stage 4: the loss of one batch, which is on the device."""
        inputs, targets = data
        return self.loss(self.model(inputs), targets)

    def _update(self, loss: Tensor, optimizer: torch.optim.Optimizer, lr_scheduler: Any) -> None:
        """Stage 5: gradients, and once the whole batch has been seen, the step of optimizer and schedule."""
        run, settings = self.run, self.settings
        if run is None or settings is None:
            raise ConfigurationError("`_update` works within `supervise()` only.")
        run.precision.backward(loss * run.loader.share)
        if not run.loader.in_last_micro_batch:
            return
        run.sync_processes()
        if settings.clip_grad is not None:
            run.precision.unscale(optimizer)
            for parameters in self.parameters_by_loss():
                nn.utils.clip_grad_norm_(parameters, settings.clip_grad)
        stepped = run.precision.step(optimizer)
        optimizer.zero_grad(set_to_none=True)
        if not stepped:
            run.overflowed()
        if stepped if settings.scheduler_interval == "step" else run.epoch_ended or run.loader.ends_untrained:
            lr_scheduler.step()

    @property
    def uses_default_update(self) -> bool:
        """Whether updates are the library's own."""
        return type(self)._update is Supervisor._update

    @property
    def accumulates(self) -> bool:
        """Whether the loop can take a batch in parts; a user's own ``_epochs`` or ``_update`` need not."""
        return self.uses_default_update and type(self)._epochs is Supervisor._epochs
