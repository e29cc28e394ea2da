"""The commands, as functions: their signatures and docstrings are the command line."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Literal

from cyclopts import App

from super_selfish.cli.comparison import compare
from super_selfish.cli.evaluation import evaluate
from super_selfish.cli.flags import command, command_flags
from super_selfish.cli.names import algorithm_names, flag_argument, flag_of_others
from super_selfish.cli.output import FOLDER, NAME, echo
from super_selfish.cli.shared_flags import BackboneFlag, NetworkFlags, ReadingFlags
from super_selfish.cli.studies import study
from super_selfish.errors import check_argument
from super_selfish.version import __version__

DAMAGED = 1

COMMANDS = (
    *("demo", "list", "check", "compare", "study", "preview", "train", "evaluate", "report", "extract", "predict"),
    *("export", "verify"),
)

Format = Literal["safetensors", "torch", "onnx"]
Near = Literal["auto", "keep", "drop"]


def application(argv: Sequence[str] = ()) -> App:
    """The command line.

    Args:
        argv: What was typed: only the commands that these may need are built.
    """
    app = App(
        "super-selfish",
        help="Self-supervised learning on images.",
        version=f"super-selfish {__version__}",
        suppress_keyboard_interrupt=False,  # main() handles it
    )
    app.register_install_completion_command(name="--install-completion")
    for function in FUNCTIONS:
        app.command(command(function), name=function.__name__.removeprefix("show_"))
    shown = not argv or argv[0] not in ("train", "preview")
    if shown:
        app.command(App("train", help="Train an algorithm on a folder of images."))
        app.command(App("preview", help="Plot the pretext task of an algorithm on your images."))
    else:
        from super_selfish.cli import algorithms
        from super_selfish.supervisors import all_supervisors

        known = all_supervisors()
        names = set(argv[1:2]) & set(known) or known
        app.command(algorithms.train(names, argv) if argv[0] == "train" else algorithms.preview(names))
    return app


def show_list() -> int:
    """List the algorithms: name, class, aliases, paper."""
    from super_selfish.cli.names import algorithms_table

    echo(algorithms_table())
    return 0


def demo(*, folder: str = "store/demo", seconds: float | None = None, seed: int = 0, smoke: bool = False) -> int:
    """Train on images that ship with the dependencies, and compare with an untrained network.

    Nothing is downloaded. It takes two to three minutes on two cores.

    Args:
        folder: Output folder for figures and weights.
        seconds: Approximate training time, default: about 120. It determines the number of epochs in advance, so that
            the result is reproducible.
        seed: Random seed.
        smoke: Smoke test: a run of a few seconds, with too few images to learn from.
    """
    from super_selfish.cli.demo import demo as run

    run(folder, seconds=seconds, seed=seed, smoke=smoke)
    return 0


def check(
    data: str = FOLDER, /, *, write: str | None = None, near_duplicates: Near = "auto", max_pixels: int = 89_478_485
) -> int:
    """Check a data set before training.

    Reads every image once, by the rules of training. Reports corrupt, constant, tiny and duplicate images, files that
    are left out, sizes, channels, bit depths, mean and standard deviation, and recommended settings. Exit status: 0, or
    1 if training would stop at a file.

    Args:
        data: Folder of images, or CSV file of paths.
        write: CSV file to write, with the paths and classes of the images that should stay: readable, not constant or
            tiny, and one of each group of duplicates. Every command takes it as DATA.
        near_duplicates: Near duplicates in that file: auto keeps them if they are more than 10 % of the images.
        max_pixels: Maximum number of pixels of an image; larger ones are refused.
    """
    from super_selfish.cli.lists import check_table, write_kept
    from super_selfish.cli.names import with_flags
    from super_selfish.datasets.survey import survey
    from super_selfish.engine.core.setup import ImageOptions

    check_argument(max_pixels >= 1, "max_pixels", max_pixels, "at least 1")
    target = None if write is None else check_table("write", write)
    found = survey(data, max_pixels=max_pixels)
    found.near_duplicates, found.is_for_list = near_duplicates, target is not None
    echo(with_flags(str(found), [*ImageOptions.__annotations__, "on_error", "recipe", "near_duplicates"]))
    if target is not None:
        echo(write_kept(found, data, target, max_pixels))
    return DAMAGED if found.unreadable else 0


def verify(name: str = NAME, /) -> int:
    """Verify the checksums of weights and checkpoints.

    Nothing is loaded. Exit status: 0 if the weights and the newest checkpoint are valid, 1 if one of them is corrupt,
    2 if there is none.

    Args:
        name: Name of the training.
    """
    from super_selfish.storage.inspection import inspect

    found = inspect(name)
    echo(str(found))
    return 0 if found.is_valid else DAMAGED


def report(
    name: str = NAME,
    data: str | None = None,
    /,
    *,
    output: str | None = None,
    images: int = 300,
    network: NetworkFlags,
) -> int:
    """Write a report of a training: one self-contained HTML file.

    Settings, training curves, diagnostics, the pretext task, nearest neighbours, a map of the features, scores.

    Args:
        name: Name of the training.
        data: Folder or CSV file of images for previews, neighbours and the map; default: the training images.
        output: Output file; default: NAME.html.
        images: Number of images on the map. Each adds about 2 kB to the file.
        network: Flags of the network.
    """
    from super_selfish.cli.backbone_from import with_backbone
    from super_selfish.report.report import report as write

    given = with_backbone(network.backbone_from, {})
    echo(f"Written to {write(name, data, output, count=images, device=network.device, **given)}.")
    return 0


def extract(
    name: str = NAME,
    data: str = FOLDER,
    /,
    *,
    output: str | None = None,
    reading: ReadingFlags,
    network: NetworkFlags,
) -> int:
    """Write the features of images to NAME.features.npy, and their paths and classes to NAME.features.csv.

    Row i of the array holds the features of the image in row i of the table (without its header). Every command accepts
    the table as DATA. Memory does not grow with the number of images. The same command continues after it was stopped
    or killed.

    Args:
        name: Name of the training.
        data: Folder of images, or CSV file of paths.
        output: Path of the files without suffix; default: NAME.features.
        reading: Flags of the images.
        network: Flags of the network.
    """
    from super_selfish.cli.lists import extract as run

    echo(run(name, data, output, reading, network))
    return 0


def predict(
    name: str = NAME,
    data: str = FOLDER,
    /,
    *,
    output: str | None = None,
    reading: ReadingFlags,
    network: NetworkFlags,
) -> int:
    """Predict the classes of images with a network that was trained with labels.

    Such networks are trained in Python, with LabelSupervisor. Writes NAME.predictions.csv: path, predicted class, its
    probability, and the probability of each class. Memory does not grow with the number of images.

    Args:
        name: Name of the training.
        data: Folder of images, or CSV file of paths.
        output: Output file; default: NAME.predictions.csv.
        reading: Flags of the images.
        network: Flags of the network.
    """
    from super_selfish.cli.lists import predict as run

    echo(run(name, data, output, reading, network))
    return 0


def export(
    name: str = NAME,
    /,
    *,
    format: Format = "safetensors",
    output: str | None = None,
    resolution: int | None = None,
    backbone: BackboneFlag,
) -> int:
    """Export the backbone for other programs; the head of a classifier is not part of it.

    Args:
        name: Name of the training.
        format: safetensors or torch: weights, with the parameter names of torchvision or timm; onnx: the network, for
            images of any size, verified against torch in onnxruntime (requires the extra onnx). The metadata of
            safetensors and ONNX files has value range, size, mean and std of the images.
        output: Output file; default: NAME_backbone and the suffix of the format.
        resolution: Side in px of the images that an ONNX file is verified with; default: that of the training.
        backbone: Flag of the backbone.
    """
    from super_selfish.cli.backbone_from import with_backbone
    from super_selfish.export import export_and_describe

    given = with_backbone(backbone.backbone_from, {})
    path, description = export_and_describe(name, format, path=output, resolution=resolution, **given)
    echo(f"Written to {path}.\nInput: {description}.")
    return 0


FUNCTIONS = (demo, show_list, check, compare, study, evaluate, report, extract, predict, export, verify)
"""The commands other than ``train`` and ``preview``."""


def arguments_of(argv: Sequence[str]) -> list[str]:
    """The arguments of a command that are flags, by the words of the command line."""
    if argv[:1] in (["train"], ["preview"]) and len(argv) > 1:
        if not argv[1].startswith("-") and argv[1] not in {*algorithm_names().values(), "all"}:
            return []  # an unknown algorithm, for whose message torch is not imported
        from super_selfish.cli import algorithms
        from super_selfish.supervisors import all_supervisors

        found = algorithms.training_flags() if argv[0] == "train" else algorithms.preview_flags()
        algorithm = all_supervisors().get(argv[1])
        found += [] if algorithm is None else algorithms.constructor_flags(algorithm)
        return [flag.name for flag in found]
    named = [function for function in FUNCTIONS if function.__name__.removeprefix("show_") in argv[:1]]
    return [each.name for function in named for each in command_flags(function)]


def found_elsewhere(argv: Sequence[str], word: str) -> str | None:
    """Which algorithms have a flag that the algorithm of the command line lacks; None: none has."""
    if argv[:1] not in (["train"], ["preview"]):
        return None
    from super_selfish.cli.algorithms import constructor_flags
    from super_selfish.supervisors import all_supervisors

    options = {name: [flag.name for flag in constructor_flags(cls)] for name, cls in all_supervisors().items()}
    return flag_of_others(flag_argument(word), argv[1], options)


def takes_data(argv: Sequence[str]) -> bool:
    """Whether the images are a positional argument of a command, by the words of the command line."""
    named = [function for function in FUNCTIONS if function.__name__.removeprefix("show_") in argv[:1]]
    return argv[:1] in (["train"], ["preview"]) or any("data" in inspect.signature(each).parameters for each in named)
