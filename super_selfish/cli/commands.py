"""The commands, as functions: their signatures and docstrings are the command line."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Literal

from cyclopts import App

from super_selfish.cli.flags import command
from super_selfish.cli.output import FOLDER, NAME, echo
from super_selfish.errors import check_argument
from super_selfish.version import __version__

DAMAGED = 1

COMMANDS = ("demo", "list", "check", "preview", "train", "evaluate", "report", "export", "verify")

Format = Literal["safetensors", "torch", "onnx"]


def application(argv: Sequence[str] = ()) -> App:
    """The command line.

    Args:
        argv: What was typed: only the commands that these may need are built.
    """
    app = App(
        "super-selfish",
        help="Self-supervised learning on images.",
        version=f"super-selfish {__version__}",
        suppress_keyboard_interrupt=False,  # main() tells of it
    )
    app.register_install_completion_command(name="--install-completion")
    for function in FUNCTIONS:
        app.command(command(function), name=function.__name__.removeprefix("show_"))
    shown = not argv or argv[0] not in ("train", "preview")
    if shown:
        app.command(App("train", help="Train an algorithm on a folder of images."))
        app.command(App("preview", help="Draw the pretext task of an algorithm on your images."))
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
    """Train on images that come with the dependencies, and compare with an untrained network.

    Nothing is downloaded; takes two to three minutes on two cores.

    Args:
        folder: Where pictures and weights go.
        seconds: Train for about this long. It sets the number of epochs beforehand, never the clock, so that the same
            command gives the same result; about 120 if left out.
        seed: Of weights and training.
        smoke: The same path in seconds, with too few images to learn.
    """
    from super_selfish.cli.demo import demo as run

    run(folder, seconds=seconds, seed=seed, smoke=smoke)
    return 0


def check(data: str = FOLDER, /, *, max_pixels: int = 89_478_485) -> int:
    """Tell what is in a data set before it is trained on.

    Reads every image once: what cannot be read, is tiny, of one colour or there twice, sizes, channels, depths, mean
    and standard deviation, and what to set. Exit status: 0, or 1 if files are unreadable.

    Args:
        data: A folder, or a CSV file of paths.
        max_pixels: Larger images are refused.
    """
    from super_selfish.datasets.survey import survey

    check_argument(max_pixels >= 1, "max_pixels", max_pixels, "at least 1")
    found = survey(data, max_pixels=max_pixels)
    echo(str(found))
    return DAMAGED if found.unreadable else 0


def verify(name: str = NAME, /) -> int:
    """Compare what is stored under a name with its hashes.

    Weights and all checkpoints, without loading them. Exit status: 0 if the weights and the newest checkpoint are
    whole, 1 if one of them is damaged, 2 if there is nothing.

    Args:
        name: As given to training.
    """
    from super_selfish.storage.inspection import inspect

    found = inspect(name)
    echo(str(found))
    return 0 if found.is_valid else DAMAGED


def evaluate(
    name: str = NAME, data: str = FOLDER, /, *, test: str | None = None, seeds: int = 3, num_workers: int = 0
) -> int:
    """Score trained features on labelled images, beside untrained ones and beside pixels.

    kNN and a linear probe, on features that stay as they are; each image is read once, and a probe takes seconds to a
    minute. The scores are kept in NAME.scores.json, for the report.

    Args:
        name: As given to training.
        data: A folder with a subfolder for each class; with subfolders train and test, these are used.
        test: Another folder to test on; without one, half of the images of each class are tested on.
        seeds: Splits and probes to average over.
        num_workers: Processes that read images.
    """
    from super_selfish.cli.scores import scored, table

    echo(table(scored(name, data, test, seeds, num_workers)))
    return 0


def report(name: str = NAME, data: str | None = None, /, *, output: str | None = None, images: int = 300) -> int:
    """Write all that is known of a training into one HTML file, which needs no network.

    Settings, curves, advice, the exercise, nearest neighbours, a map of images, scores.

    Args:
        name: As given to training.
        data: Images for previews, neighbours and the map; those that were trained on if left out.
        output: The file; NAME.html if left out.
        images: How many are on the map. Each takes about 2 kB of the file.
    """
    from super_selfish.report.report import report as write

    echo(f"Written to {write(name, data, output, count=images)}.")
    return 0


def export(
    name: str = NAME,
    /,
    *,
    format: Format = "safetensors",
    output: str | None = None,
    resolution: int | None = None,
) -> int:
    """Write the backbone alone, for other programs.

    Args:
        name: As given to training.
        format: safetensors or torch: weights under the names that torchvision or timm have; onnx: the network too, for
            images of any size, compared with torch in onnxruntime after it is written (needs the extra onnx).
        output: The file; NAME_backbone with its suffix if left out.
        resolution: Side of the images that an ONNX file is tried with; that of the training if left out.
    """
    from super_selfish.export import export as write

    echo(f"Written to {write(name, format, path=output, resolution=resolution)}.")
    return 0


FUNCTIONS = (demo, show_list, check, evaluate, report, export, verify)
"""The commands other than ``train`` and ``preview``."""


def arguments_of(argv: Sequence[str]) -> list[str]:
    """The arguments of the command that was typed which are flags."""
    if argv[:1] in (["train"], ["preview"]) and len(argv) > 1:
        from super_selfish.cli import algorithms
        from super_selfish.supervisors import all_supervisors

        found = algorithms.training_flags() if argv[0] == "train" else algorithms.preview_flags()
        algorithm = all_supervisors().get(argv[1])
        found += [] if algorithm is None else algorithms.constructor_flags(algorithm)
        return [flag.name for flag in found]
    named = [function for function in FUNCTIONS if function.__name__.removeprefix("show_") in argv[:1]]
    parameters = [parameter for function in named for parameter in inspect.signature(function).parameters.values()]
    return [parameter.name for parameter in parameters if parameter.kind is inspect.Parameter.KEYWORD_ONLY]


def takes_data(argv: Sequence[str]) -> bool:
    """Whether the images are a positional argument of a command, by the words of the command line."""
    named = [function for function in FUNCTIONS if function.__name__.removeprefix("show_") in argv[:1]]
    return argv[:1] in (["train"], ["preview"]) or any("data" in inspect.signature(each).parameters for each in named)
