"""Construction of the components of a run."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch.utils.data import DistributedSampler

from super_selfish.distributed import world
from super_selfish.engine.callbacks.forecast import Conditions, Forecaster, usable_cores
from super_selfish.engine.callbacks.monitors import CollapseMonitor, FeatureMonitor, as_probe, monitored_count
from super_selfish.engine.core.base import SupervisorBase
from super_selfish.engine.core.callback import Callback
from super_selfish.engine.core.settings import Settings
from super_selfish.engine.loop.guard import Guard
from super_selfish.engine.optim.optimizers import flat, steppable
from super_selfish.engine.optim.schedulers import check_length
from super_selfish.engine.optim.schedules import Schedule, constant_lr, fit_schedules
from super_selfish.errors import ConfigurationError
from super_selfish.loading.custom_loader import CustomLoader
from super_selfish.loading.loader import TrainLoader
from super_selfish.pretext.base import PretextDataset

logger = logging.getLogger("super_selfish")


class RunBuilder:
    """Creates the loader, optimizer, schedule, guard and monitors of a run.

    Args:
        supervisor: The supervisor that is trained.
        settings: Settings of the run, including those of a training recipe.
    """

    def __init__(self, supervisor: SupervisorBase, settings: Settings) -> None:
        self.supervisor = supervisor
        self.settings = settings

    def data_and_optimizer(self) -> tuple[TrainLoader, Any, Any]:
        """Return the checked result of stage 2. A custom loader is wrapped; without a schedule, the rate is constant.

        Raises:
            ConfigurationError: If the loader, optimizer or schedule cannot be used.
        """
        settings, supervisor = self.settings, self.supervisor
        made = supervisor._init_data_optimizer(
            settings.optimizer,
            settings.batch_size,
            settings.shuffle,
            settings.num_workers,
            supervisor.collate_fn,
            settings.lr,
            settings.lr_scheduler,
        )
        loader, optimizer, scheduler = _unpack(made)
        self._check_factories(optimizer, scheduler)
        if not isinstance(loader, TrainLoader):
            if world() > 1 and not isinstance(getattr(loader, "sampler", None), DistributedSampler):
                raise ConfigurationError(
                    "Each process would train on the same batches of a custom loader.",
                    expected="the library's loader, or one with a torch.utils.data.DistributedSampler",
                    received=type(loader).__name__,
                )
            loader = CustomLoader(loader, supervisor._train_state, supervisor.preparer(), settings.seed)
        length = (settings.epochs, loader.batches, settings.scheduler_interval)
        fit_schedules(scheduler, *length)
        if supervisor.accumulates:
            steps = settings.epochs * (loader.batches if settings.scheduler_interval == "step" else 1)
            for each in flat(scheduler):
                check_length(each, steps)
        if isinstance(settings.lr_scheduler, Schedule):
            settings.lr_scheduler.set_length(*length)
        return loader, optimizer, scheduler

    def _check_factories(self, optimizer: Any, scheduler: Any) -> None:
        """Check that the default ``_update`` can step the optimizer and the schedule."""
        fused = any(group.get("fused") for each in flat(optimizer) for group in each.param_groups)
        if fused and self.settings.precision == "16":
            raise ConfigurationError(
                "A fused optimizer does not report which steps it skips.",
                expected='an optimizer that is not fused with precision="16", or precision="bf16"',
                received="fused=True",
            )
        if self.supervisor.accumulates:
            steppable(optimizer, scheduler)
        if not all(hasattr(each, "state_dict") for each in flat(scheduler)):
            logger.warning("The schedule has no state_dict(): on resume, it starts over.")

    def guard(self) -> Guard:
        """Return the guard, which saves batch norm statistics if steps may be skipped."""
        settings = self.settings
        skips = settings.on_nonfinite == "skip" or settings.precision == "16"
        return Guard(settings.on_nonfinite, settings.nonfinite_limit, self.supervisor.networks() if skips else ())

    def monitors(self, loader: TrainLoader) -> list[Callback]:
        """Return the callbacks that forecast cost, detect collapse, monitor features and evaluate them."""
        settings, supervisor = self.settings, self.supervisor
        found: list[Callback] = [
            Forecaster(self._conditions(loader), supervisor.device, settings.verbose),
            CollapseMonitor(settings.compile),
        ]
        images = 0 if supervisor.image_dataset is None else len(supervisor.image_dataset)
        if count := monitored_count(images, settings.watch):
            found.append(FeatureMonitor(count))
        return [*found, *as_probe(settings.evaluate)]

    def _conditions(self, loader: TrainLoader) -> Conditions:
        """Return the hardware and settings that the forecast depends on."""
        supervisor, settings = self.supervisor, self.settings
        images, dataset = supervisor.image_dataset, supervisor.dataset
        return Conditions(
            device=supervisor.device.type,
            files=images is not None and images.kind == "files",
            cached=images is not None and images.cached,
            custom=not isinstance(dataset, PretextDataset) or dataset.overrides_indexing or dataset.runs_user_code,
            num_workers=settings.num_workers,
            cores=usable_cores(),
            threads=torch.get_num_threads(),
            precision=settings.precision,
            side=min(supervisor.input_size or supervisor.preprocessing.resolution),
            splittable=supervisor.splits_batches and loader.micro_batches < loader.batch_size,
            micro_batches=loader.micro_batches,
        )


def _unpack(made: Any) -> tuple[Any, Any, Any]:
    """Unpack the return value of ``_init_data_optimizer`` into loader, optimizer and schedule.

    Raises:
        ConfigurationError: If it has another form.
    """
    expected = "(loader, optimizer, schedule), or (loader, optimizer) for a constant learning rate"
    if not isinstance(made, tuple | list) or len(made) not in (2, 3):
        received = f"{len(made)} values" if isinstance(made, tuple | list) else type(made).__name__
        raise ConfigurationError(
            "`_init_data_optimizer` returned an invalid value.", expected=expected, received=received
        )
    loader, optimizer, scheduler = (*made, None)[:3]
    optimizers = flat(optimizer)
    if not optimizers or not all(isinstance(each, torch.optim.Optimizer) for each in optimizers):
        kinds = ", ".join(type(each).__name__ for each in optimizers) or repr(optimizer)
        raise ConfigurationError(
            "`_init_data_optimizer` returned no optimizer.",
            expected="a torch.optim.Optimizer, or several in a list, tuple or dictionary, as the second value",
            received=kinds,
            fix="Derive a custom optimizer, also one that wraps another, from torch.optim.Optimizer.",
        )
    return loader, optimizer, constant_lr(optimizers[0]) if scheduler is None else scheduler
