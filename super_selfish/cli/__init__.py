"""The command ``super-selfish``.

A user's mistake is one line on stderr and exit status 2, without a traceback; Ctrl-C exits with 130.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from super_selfish import __version__
from super_selfish.errors import SuperSelfishError

DAMAGED = 1
MISTAKE = 2
INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    """A parser whose complaint is one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and where to read more."""
        self.exit(MISTAKE, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: Its words; None for those that the process was started with.

    Returns:
        The exit status.
    """
    options = _parser().parse_args(argv)
    try:
        return int(options.run(options))
    except SuperSelfishError as error:
        sys.stderr.write(f"super-selfish: {' '.join(str(error).split())}\n")
        return MISTAKE
    except KeyboardInterrupt:
        sys.stderr.write("super-selfish: interrupted\n")
        return INTERRUPTED


def _demo(options: argparse.Namespace) -> int:
    from super_selfish.cli.demo import demo

    demo(options.folder, seconds=options.seconds, seed=options.seed, smoke=options.smoke)
    return 0


def _check(options: argparse.Namespace) -> int:
    from super_selfish.data.survey import survey

    found = survey(options.data, max_pixels=options.max_pixels)
    sys.stdout.write(f"{found}\n")
    return DAMAGED if found.unreadable else 0


def _verify(options: argparse.Namespace) -> int:
    from super_selfish.training.inspection import inspect

    found = inspect(options.name)
    sys.stdout.write(f"{found}\n")
    return 0 if found.sound else DAMAGED


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="super-selfish", description="Self-supervised learning on images.")
    parser.add_argument("--version", action="version", version=f"super-selfish {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    demo = commands.add_parser(
        "demo",
        help="train on images that come with the dependencies, and compare with an untrained network",
        description="Train a small RotateNet on images that come with the dependencies, and measure what its features "
        "are worth beside those of the same network before training. Nothing is downloaded.",
    )
    demo.add_argument("--folder", default="store/demo", help="where pictures and weights go (default: %(default)s)")
    demo.add_argument(
        "--seconds",
        type=float,
        metavar="N",
        help="train for about this long; it sets the number of epochs beforehand, never the clock, so "
        "that the same command gives the same result (default: about 120)",
    )
    demo.add_argument("--seed", type=int, default=0, help="of weights and training (default: %(default)s)")
    demo.add_argument("--smoke", action="store_true", help="the same path in seconds, with too few images to learn")
    demo.set_defaults(run=_demo)
    check = commands.add_parser(
        "check",
        help="tell what is in a data set before it is trained on",
        description="Read every image once: what cannot be read, is tiny, of one colour or there twice, sizes, "
        "channels, depths, mean and standard deviation, and what to set. Exit status: 0, or 1 if files are unreadable.",
    )
    check.add_argument(
        "data", nargs="?", default="dataset", help="a folder, or a CSV file of paths (default: %(default)s)"
    )
    check.add_argument(
        "--max-pixels", type=int, default=89_478_485, help="larger images are refused (default: %(default)s)"
    )
    check.set_defaults(run=_check)
    verify = commands.add_parser(
        "verify",
        help="compare what is stored under a name with its hashes",
        description="Compare the weights and all checkpoints under a name with their hashes, without loading them. "
        "Exit status: 0 if the weights and the newest checkpoint are whole, 1 if one of them is damaged, 2 if there "
        "is nothing.",
    )
    verify.add_argument("name", nargs="?", default="store/base", help="as given to training (default: %(default)s)")
    verify.set_defaults(run=_verify)
    return parser
