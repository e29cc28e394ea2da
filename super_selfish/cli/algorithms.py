"""``train`` and ``preview``: a command for each algorithm, with its arguments as flags."""

from __future__ import annotations

import inspect
import json
import platform
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from cyclopts import App

from super_selfish.cli.commands import FOLDER, say
from super_selfish.cli.flags import documented, flag, flags, plain_text, value_of
from super_selfish.distributed import rank, world
from super_selfish.errors import ConfigurationError
from super_selfish.files import base_path, check_writable, replacing, with_suffix
from super_selfish.supervisors import Supervisor, all_supervisors
from super_selfish.supervisors.loading import check_shares
from super_selfish.supervisors.setup import IMAGE_DEFAULTS, ImageOptions
from super_selfish.training.callbacks import Callback
from super_selfish.training.lars import LARS
from super_selfish.training.schedules import Schedule
from super_selfish.training.settings import SETTINGS, Settings
from super_selfish.version import __version__

CONFIG = ".config.json"
Algorithm = Any  # a class of this library, each with a signature of its own
ALGORITHM, IMAGES, TRAINING = "Algorithm", "Images", "Training"
OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD, "lars": LARS}
TIMES = {
    "exemplar_net": 1.0,
    "rotate_net": 2.4,
    "jigsaw_net": 1.0,
    "denoise_net": 2.0,
    "context_net": 3.6,
    "split_brain_net": 2.2,
    "bi_gan": 5.1,
    "instance_discrimination": 1.0,
    "contrastive_predictive_coding": 4.3,
    "momentum_contrast": 1.1,
    "contrastive_multiview_coding": 2.3,
    "byol": 1.9,
    "pirl": 2.1,
}
"""Time of an image, in that of instance discrimination: six convolutions, 48 px, two cores."""

PRESETS = "A preset: natural, grey, xray, satellite or microscopy."


def train() -> App:
    """The command ``train``."""
    times = ", ".join(f"{name} {time:g}" for name, time in sorted(TIMES.items(), key=lambda pair: pair[1]))
    words = "Train an algorithm on a folder of images, and store weights and checkpoints."
    app = App("train", help=f"{words}\n\nTime of an image, in that of the fastest: {times}.")
    for name, algorithm in all_supervisors().items():
        app.command(command(algorithm, run_training, training_flags()), name=name)
    return app


def preview() -> App:
    """The command ``preview``."""
    app = App("preview", help="Draw the exercise of an algorithm, on your images. It takes seconds.")
    for name, algorithm in all_supervisors().items():
        app.command(command(algorithm, run_preview, preview_flags()), name=name)
    app.command(preview_all, name="all")
    return app


def command(algorithm: Algorithm, run: Callable[..., int], more: list[inspect.Parameter]) -> Callable[..., int]:
    """A function whose signature is the command line of one algorithm."""
    own = constructor_flags(algorithm)

    def called(data: str = FOLDER, /, **values: Any) -> int:
        arguments = {part.name: value_of(values.get(part.name, part.default)) for part in own}
        return run(algorithm, data, arguments, {part.name: values.get(part.name, part.default) for part in more})

    data = inspect.Parameter("data", inspect.Parameter.POSITIONAL_ONLY, default=FOLDER, annotation=str)
    called.__signature__ = inspect.Signature([data, *more, *own])  # type: ignore[attr-defined]
    called.__annotations__ = {}
    summary, _, rest = inspect.cleandoc(algorithm.__doc__ or "").partition("\n\n")
    cost = f"An image takes {TIMES.get(algorithm.algorithm(), 1.0):g} times as long as with instance discrimination."
    called.__doc__ = (
        f"{plain_text(summary)}\n\n{plain_text(rest.split('Args:')[0])}\n\n{cost}\n\nArgs:\n    data: {DATA}"
    )
    return called


DATA = "A folder, or a CSV file of paths."


def constructor_flags(algorithm: Algorithm) -> list[inspect.Parameter]:
    """The arguments of a class and of its images."""
    own = flags(algorithm.__init__, documented(algorithm.__doc__), ALGORITHM)
    names = {part.name for part in own}
    said = documented(algorithm.__doc__)
    if "backbone" not in names:
        own.append(flag("backbone", str | None, None, said.get("backbone", ""), ALGORITHM))
    if "views" in inspect.signature(algorithm.__init__).parameters:
        own = [part for part in own if part.name != "views"]
        own.append(flag("views", str | None, None, PRESETS, ALGORITHM))
    told = documented(ImageOptions.__doc__)
    defaults = dict(zip(ImageOptions.__annotations__, IMAGE_DEFAULTS, strict=True))
    kinds = {"channels": int | None, "max_pixels": int}
    images = [
        flag(name, kinds.get(name, str | None), default, told.get(name, ""), IMAGES)
        for name, default in defaults.items()
    ]
    return own + images


def training_flags() -> list[inspect.Parameter]:
    """The arguments of ``supervise``, and those that stand for objects."""
    said = documented(Supervisor.supervise.__doc__)
    found = flags(Supervisor.supervise, said, TRAINING)
    extra: list[tuple[str, Any, Any, str]] = [
        ("optimizer", Literal["adam", "adamw", "sgd", "lars"], "adam", "Of the weights."),
        ("schedule", Literal["constant", "cosine"], "constant", "Of the learning rate, over the whole training."),
        ("resume", bool, False, "Continue the training of this name where there is one, else begin anew."),
        ("evaluate", str | None, None, "A folder with a subfolder for each class, scored every ten epochs."),
        ("tensorboard", str | None, None, "A folder for TensorBoard (needs the extra tensorboard)."),
        ("processes", int, 1, "Train in so many processes on this machine; --batch-size counts the images of all."),
        ("device", str, "auto", "cpu, cuda, cuda:1 ...; auto: a GPU if there is one."),
        ("config", str | None, None, "A NAME.config.json: its arguments, where no flag says otherwise."),
        ("quiet", bool, False, "Say nothing but warnings."),
    ]
    return found + [flag(name, kind, default, told, TRAINING) for name, kind, default, told in extra]


def run_training(algorithm: Algorithm, data: str, arguments: dict[str, Any], how: dict[str, Any]) -> int:
    """Build, train, and keep what was asked for."""
    if how["config"] is not None:
        data, arguments, how = configured(algorithm, data, arguments, how)
    check_writable(base_path(how["name"]))
    device = device_of(how["device"])
    torch.manual_seed(how["seed"])  # of the initial weights
    supervisor = algorithm(data, **arguments)
    if how["processes"] != 1:
        check_processes(how, device, len(supervisor.dataset))
        return 0
    supervisor.to(device)
    supervisor.supervise(**settings(how, Configuration(data, arguments, how)))
    return 0


def device_of(word: str) -> str:
    """A device by its name; ``"auto"``: a GPU if there is one.

    Raises:
        ConfigurationError: If there is none of that name.
    """
    if word == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    known = re.fullmatch(r"cpu|cuda(:\d+)?|mps", word)
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if known is None or not there[word.partition(":")[0]]:
        raise ConfigurationError(
            "`device` is not there.",
            expected=", ".join(name for name, is_there in there.items() if is_there) + " or auto",
            received=f"--device {word}",
        )
    return word


class Configuration(Callback):
    """Keeps every argument of a training in ``<name>.config.json``, once all are accepted, with what came of them."""

    def __init__(self, data: str, arguments: dict[str, Any], how: dict[str, Any]) -> None:
        self.data, self.arguments, self.how = data, arguments, how

    def on_train_begin(self, run: Any) -> None:
        """Write."""
        supervisor = run.supervisor
        if rank():
            return
        effective = supervisor.settings.as_json() if supervisor.settings is not None else {}
        effective |= {"batch_size": run.loader.batch_size, "resolution": supervisor.preprocessing.resolution}
        effective |= {"device": str(supervisor.device), "processes": world()}
        content = {
            "algorithm": supervisor.algorithm(),
            "data": self.data,
            "arguments": self.arguments,
            "training": {key: value for key, value in self.how.items() if key not in ("config", "processes")},
            "effective": effective,
            "versions": {"super_selfish": __version__, "torch": torch.__version__, "python": platform.python_version()},
        }
        with replacing(with_suffix(base_path(self.how["name"]), CONFIG)) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def check_processes(how: dict[str, Any], device: str, images: int) -> None:
    """Find out before several processes are started what each of them would stop at.

    Raises:
        ConfigurationError: If there cannot be so many, or a setting is out of range.
    """
    processes, most = how["processes"], torch.cuda.device_count() if device.startswith("cuda") else None
    if processes < 1 or (most is not None and processes > most):
        raise ConfigurationError(
            "`processes` is out of range.",
            expected="at least 1" if most is None else f"1 to {most}, the GPUs of this machine",
            received=f"--processes {processes}",
        )
    check_shares(min(how["batch_size"], images), how["accumulate"], processes)
    given = inspect.signature(Supervisor.supervise).bind(None, **settings(how))
    given.apply_defaults()
    Settings(**{key: value for key, value in given.arguments.items() if key in SETTINGS})


def settings(how: dict[str, Any], *callbacks: Callback) -> dict[str, Any]:
    """What ``supervise`` gets."""
    own = {part.name for part in flags(Supervisor.supervise, {}, TRAINING)}
    found = {key: value_of(value) if key == "checkpoint_every" else value for key, value in how.items() if key in own}
    found |= {"evaluate": how["evaluate"], "resume": "auto" if how["resume"] else False, "verbose": not how["quiet"]}
    if how["optimizer"] != "adam":
        found["optimizer"] = OPTIMIZERS[how["optimizer"]]
    if how["schedule"] == "cosine":
        found["lr_scheduler"] = Schedule("cosine", warm_up=0.1, most_epochs=10)
    found["callbacks"] = [*callbacks]
    if how["tensorboard"] is not None:
        from super_selfish.training.tensorboard import TensorBoard

        check_writable(Path(how["tensorboard"], "events"))
        found["callbacks"].append(TensorBoard(how["tensorboard"]))
    return found


def configured(
    algorithm: Algorithm, data: str, arguments: dict[str, Any], how: dict[str, Any]
) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Arguments with those of a file in the place of defaults.

    Raises:
        ConfigurationError: If the file cannot be read, or is of another algorithm.
    """
    path = Path(how["config"])
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        kept, trained = dict(stored["arguments"]), dict(stored["training"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"`{path}` cannot be used: {error}.",
            expected="a <name>.config.json of an earlier training",
            received=str(path),
        ) from error
    if stored.get("algorithm") != algorithm.algorithm():
        raise ConfigurationError(
            f"`{path}` is of another algorithm.", expected=algorithm.algorithm(), received=str(stored.get("algorithm"))
        )
    defaults = {part.name: part.default for part in [*constructor_flags(algorithm), *training_flags()]}
    given = {key: value for key, value in arguments.items() if value != value_of(defaults[key])}
    said = {key: value for key, value in how.items() if value != defaults[key]}
    kept = {key: tuple(value) if isinstance(value, list) else value for key, value in kept.items()}
    return (stored.get("data", data) if data == FOLDER else data), arguments | kept | given, how | trained | said


def preview_flags() -> list[inspect.Parameter]:
    """The arguments of ``preview``."""
    return [
        flag("count", int, 6, "Images to show, evenly spaced over the data set.", "Preview"),
        flag("output", str | None, None, "The picture; store/preview/<algorithm>.png if left out.", "Preview"),
        flag("trained", str | None, None, "The name of a training: show its answers too.", "Preview"),
    ]


def run_preview(algorithm: Algorithm, data: str, arguments: dict[str, Any], how: dict[str, Any]) -> int:
    """Draw one exercise."""
    path = Path(how["output"] or Path("store", "preview", f"{algorithm.algorithm()}.png"))
    path.parent.mkdir(parents=True, exist_ok=True)
    if how["trained"] is None and arguments.get("backbone") is None:
        arguments["backbone"] = "small_resnet"  # the picture is the same, and there at once
    supervisor = algorithm(data, **arguments)
    if how["trained"] is not None:
        supervisor.load(how["trained"])
    supervisor.preview(count=how["count"], path=path)
    say(f"Written to {path}.")
    return 0


def preview_all(data: str = FOLDER, /, *, count: int = 6, resolution: str | None = None) -> int:
    """Draw the exercises of all thirteen algorithms into store/preview.

    Args:
        data: A folder, or a CSV file of paths.
        count: Images to show.
        resolution: Side of the images in px, or height and width as 96x128.
    """
    for algorithm in all_supervisors().values():
        arguments = {"resolution": value_of(resolution)}
        run_preview(algorithm, data, arguments, {"count": count, "output": None, "trained": None})
    return 0
