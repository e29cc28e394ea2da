"""``train`` and ``preview``: a command for each algorithm, with its arguments as flags."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from cyclopts import App

from super_selfish.cli.backbone_from import with_backbone
from super_selfish.cli.config_file import Arguments, ConfigurationFile, read
from super_selfish.cli.flags import command as flagged
from super_selfish.cli.flags import documented, flag, flag_names, flags, plain_text
from super_selfish.cli.names import with_flags
from super_selfish.cli.output import FOLDER, echo
from super_selfish.cli.shared_flags import DeviceFlag
from super_selfish.distributed import world
from super_selfish.distributed.launching import launch
from super_selfish.distributed.placement import device_by_name
from super_selfish.engine.callbacks.displays import rewrite
from super_selfish.engine.callbacks.tensorboard import TensorBoardCallback
from super_selfish.engine.callbacks.weights_and_biases import WandbCallback
from super_selfish.engine.core.callback import Callback
from super_selfish.engine.core.settings import SETTINGS, Settings
from super_selfish.engine.core.setup import IMAGE_DEFAULTS, ImageOptions
from super_selfish.engine.loading import check_shares
from super_selfish.engine.optim.names import OptimizerName, ScheduleName
from super_selfish.engine.tuning import DEFAULT_LR
from super_selfish.errors import ConfigurationError, DataError
from super_selfish.files import base_path, check_writable
from super_selfish.saved import load
from super_selfish.supervisors import Supervisor, all_supervisors

Algorithm = Any  # a class of this library, each with a signature of its own
ALGORITHM, IMAGES, TRAINING = "Algorithm", "Images", "Training"

SHORT = "`super-selfish list` lists aliases and papers."


def train(names: Collection[str], argv: Sequence[str] = ()) -> App:
    """The command ``train``.

    Args:
        names: The algorithms to build flags for.
        argv: The whole command line, for processes that are started with it.
    """
    text = "Train an algorithm on a folder of images, and save weights and checkpoints."
    costs = {name: algorithm.relative_cost for name, algorithm in all_supervisors().items()}
    measured = sorted((cost, name) for name, cost in costs.items() if cost is not None)
    times = ", ".join(f"{name} {cost:g}" for cost, name in measured)
    app = App("train", help=f"{text}\n\nTraining time per image, relative to the fastest: {times}.\n\n{SHORT}")
    for name in names:
        run = functools.partial(run_training, argv=argv)
        app.command(command(all_supervisors()[name], run, training_flags()), name=name)
    return app


def preview(names: Collection[str]) -> App:
    """The command ``preview``.

    Args:
        names: The algorithms to build flags for.
    """
    text = "Plot the pretext task of an algorithm on your images. It takes a few seconds; all takes a minute or two."
    app = App("preview", help=f"{text}\n\n{SHORT}")
    for name in names:
        app.command(command(all_supervisors()[name], run_preview, preview_flags()), name=name)
    app.command(flagged(preview_all), name="all")
    return app


def command(
    algorithm: Algorithm, run: Callable[[Algorithm, str | None, dict[str, Any]], int], more: list[inspect.Parameter]
) -> Callable[..., int]:
    """A function whose signature is the command line of one algorithm; ``run`` gets what was passed, nothing else."""
    own = constructor_flags(algorithm)

    def called(data: str | None = None, /, **given: Any) -> int:
        return run(algorithm, data, given)

    data = inspect.Parameter("data", inspect.Parameter.POSITIONAL_ONLY, default=FOLDER, annotation=str)
    called.__signature__ = inspect.Signature([data, *more, *own])  # type: ignore[attr-defined]
    called.__annotations__ = {}
    summary, _, rest = inspect.cleandoc(algorithm.__doc__ or "").partition("\n\n")
    cost = algorithm.relative_cost
    time = "" if cost is None else f"Training time per image: {cost:g} × that of instance discrimination.\n\n"
    paragraphs = rest.split("Args:")[0].split("\n\n")
    details = " ".join(plain_text(each) for each in paragraphs if "``evaluate_pretext``" not in each)  # Python only
    called.__doc__ = f"{plain_text(summary)}\n\n{details}\n\n{time}Args:\n    data: {DATA}"
    return called


DATA = "Folder of images, or CSV file of paths."
CONFIG_HELP = "YAML or JSON file with any of these arguments, or NAME.config.json; flags override its values."
BACKBONE_FROM = "Custom backbone: module:function, a function (or class) without arguments that returns a network."


def constructor_flags(algorithm: Algorithm) -> list[inspect.Parameter]:
    """The arguments of a class and of its images."""
    names = [*flag_names(algorithm.__init__), *ImageOptions.__annotations__]
    own = flags(algorithm.__init__, documented(algorithm.__doc__, names), ALGORITHM)
    descriptions, annotations = documented(ImageOptions.__doc__, names), typing.get_type_hints(ImageOptions)
    images = [
        flag(name, annotations[name], default, descriptions.get(name, ""), IMAGES)
        for name, default in zip(ImageOptions.__annotations__, IMAGE_DEFAULTS, strict=True)
    ]
    return own + images


def training_flags() -> list[inspect.Parameter]:
    """The arguments of ``supervise``, and those that stand for objects."""
    names = [*flag_names(Supervisor.supervise), "optimizer", "weights"]
    found = flags(Supervisor.supervise, documented(Supervisor.supervise.__doc__, names), TRAINING)
    extra: list[tuple[str, Any, Any, str]] = [
        ("optimizer", OptimizerName, "adam", "Optimizer."),
        ("schedule", ScheduleName, "constant", "Learning rate schedule."),
        ("resume", bool, False, "Resume the training of this name, or start a new one if there is none."),
        ("evaluate", str | None, None, "Folder with one subfolder per class, to score features every ten epochs."),
        ("tensorboard", str | None, None, "Log folder for TensorBoard (requires the extra tensorboard)."),
        ("wandb", str | None, None, "Project of Weights & Biases to log to (requires the extra wandb)."),
        ("backbone_from", str | None, None, BACKBONE_FROM),
        ("processes", int, 1, "Number of training processes on this machine; --batch-size is the total of all."),
        ("device", str, "auto", documented(DeviceFlag.__doc__)["device"]),
        ("config", str | None, None, CONFIG_HELP),
        ("quiet", bool, False, "Only show warnings."),
    ]
    return found + [flag(name, kind, default, text, TRAINING) for name, kind, default, text in extra]


def run_training(algorithm: Algorithm, data: str | None, given: dict[str, Any], argv: Sequence[str] = ()) -> int:
    """Build, train and save; with ``--processes``, validate the arguments and start the processes.

    Returns:
        The exit status.
    """
    arguments = merged(algorithm, data, given)
    training = arguments.training
    check_writable(base_path(training["name"]))
    device = device_by_name(training["device"])
    torch.manual_seed(training["seed"])  # of the initial weights
    passed = {key: value for key, value in arguments.constructor.items() if key in arguments.explicit}
    supervisor = algorithm(arguments.data, **with_backbone(training["backbone_from"], passed))
    if training["processes"] != 1 and world() == 1:
        check_processes(arguments, device, len(supervisor.dataset))
        return launch(argv, training["processes"])
    supervisor.to(device)
    names = [flag.name for flag in [*constructor_flags(algorithm), *training_flags()]]
    in_python = rewrite.set(lambda text: with_flags(text, names))
    try:
        supervisor.supervise(**settings(arguments, ConfigurationFile(arguments)))
    finally:
        rewrite.reset(in_python)
    return 0


def merged(algorithm: Algorithm, data: str | None, given: dict[str, Any]) -> Arguments:
    """Flags that were passed, before values of a configuration file, before defaults.

    Raises:
        ConfigurationError: If the file cannot be used.
    """
    own, more = constructor_flags(algorithm), training_flags()
    if given.get("config") is None:
        stored = Arguments(FOLDER, {}, {})
    else:
        stored = read(given["config"], algorithm.algorithm(), [*own, *more], FOLDER)
    values = {flag.name: flag.default for flag in [*own, *more]} | stored.constructor | stored.training | given
    return Arguments(
        stored.data if data is None else data,
        {flag.name: values[flag.name] for flag in own},
        {flag.name: values[flag.name] for flag in more},
        stored.explicit | frozenset(given),
    )


def check_processes(arguments: Arguments, device: torch.device, images: int) -> None:
    """Validate the arguments before several processes are started.

    Raises:
        ConfigurationError: If there cannot be so many, or a setting is out of range.
    """
    training = arguments.training
    processes, most = training["processes"], torch.cuda.device_count() if device.type == "cuda" else None
    if processes < 1 or (most is not None and processes > most):
        raise ConfigurationError(
            "`processes` is out of range.",
            expected="at least 1" if most is None else f"1 to {most}, the GPUs of this machine",
            received=f"processes={processes}",
        )
    check_shares(min(training["batch_size"], images), training["accumulate"], processes)
    bound = inspect.signature(Supervisor.supervise).bind(None, **settings(arguments))
    bound.apply_defaults()
    values = {key: value for key, value in bound.arguments.items() if key in SETTINGS}
    Settings(**values | ({"lr": DEFAULT_LR} if values["lr"] is None else {}))


def settings(arguments: Arguments, *callbacks: Callback) -> dict[str, Any]:
    """Arguments of ``supervise``; those that were not passed are left out, for a recipe to set."""
    training, explicit = arguments.training, arguments.explicit
    parameters = inspect.signature(Supervisor.supervise).parameters
    found = {key: training[key] for key in parameters if key in training and key in explicit}
    found |= {"evaluate": training["evaluate"], "verbose": not training["quiet"]}
    found["resume"] = "auto" if training["resume"] else False
    if "optimizer" in explicit:
        found["optimizer"] = training["optimizer"]
    if "schedule" in explicit:
        found["lr_scheduler"] = training["schedule"]
    found["callbacks"] = [*callbacks]
    if training["tensorboard"] is not None:
        check_writable(Path(training["tensorboard"], "events"))
        found["callbacks"].append(TensorBoardCallback(training["tensorboard"]))
    if training["wandb"] is not None:
        found["callbacks"].append(WandbCallback(training["wandb"]))
    return found


def preview_flags() -> list[inspect.Parameter]:
    """The arguments of ``preview``."""
    return [
        flag("count", int, 6, "Number of images, evenly spaced over the data set.", "Preview"),
        flag("output", str | None, None, "Output file; default: store/preview/ALGORITHM.png.", "Preview"),
        flag(
            "trained",
            str | None,
            None,
            "Name of a training, whose arguments are used and whose predictions are shown too.",
            "Preview",
        ),
        flag("backbone_from", str | None, None, BACKBONE_FROM, "Preview"),
    ]


def run_preview(algorithm: Algorithm, data: str | None, given: dict[str, Any]) -> int:
    """Plot the pretext task of one algorithm."""
    how = {flag.name: given.pop(flag.name, flag.default) for flag in preview_flags()}
    path = Path(how["output"] or Path("store", "preview", f"{algorithm.algorithm()}.png"))
    path.parent.mkdir(parents=True, exist_ok=True)
    given = with_backbone(how["backbone_from"], given)
    images = FOLDER if data is None else data
    if how["trained"] is not None:
        supervisor = trained_on(algorithm, how["trained"], images, given)
    else:
        # the figure of a small network is the same, and takes less time
        supervisor = algorithm(images, **{"backbone": "small_resnet", **given})
    supervisor.preview(count=how["count"], path=path)
    echo(f"Written to {path}.")
    return 0


def trained_on(algorithm: Algorithm, name: str, images: str, given: dict[str, Any]) -> Supervisor:
    """A training, with its own arguments except those that were passed, on these images."""
    supervisor = load(name, dataset=images, **given)
    if type(supervisor) is not algorithm:
        found = supervisor.algorithm()
        raise ConfigurationError(
            f"`{name}` is a training of another algorithm.",
            expected=algorithm.algorithm(),
            received=found,
            fix=f"super-selfish preview {found} {images} --trained {name}",
        )
    return supervisor


def preview_all(data: str = FOLDER, /, *, count: int = 6, resolution: int | tuple[int, int] | None = None) -> int:
    """Plot the pretext tasks of all algorithms into store/preview; those that need colour are left out for grey images.

    Args:
        data: Folder of images, or CSV file of paths.
        count: Number of images.
        resolution: Side of the images in px, or height and width such as 96x128.
    """
    given = {} if resolution is None else {"resolution": resolution}
    for algorithm in all_supervisors().values():
        try:
            run_preview(algorithm, data, {**given, "count": count})
        except (ConfigurationError, DataError) as error:
            if not algorithm.needs.rgb:
                raise
            echo(f"{algorithm.algorithm()} is left out. {error}")
    return 0
