"""The command ``super-selfish``.

A usage error is one line on stderr and exit status 2, without a traceback. Ctrl-C exits with 130; SIGTERM and SIGUSR1
with 143, after a checkpoint was saved.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

from super_selfish.errors import ConfigurationError, SuperSelfishError

DAMAGED = 1
MISTAKE = 2
INTERRUPTED = 130
BROKEN_PIPE = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: The command line; None: that of the process.

    Returns:
        The exit status: 0; 1 if `check` or `verify` found damage; 2 after a usage error; 130 after Ctrl-C.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    logger, in_flags = logging.getLogger("super_selfish"), InFlags(argv)
    logger.addFilter(in_flags)
    try:
        return run(argv)
    except SuperSelfishError as error:
        print_error(in_flags.rewrite(" ".join(str(error).split())))
    except BrokenPipeError:  # the reader of stdout has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        print_error("interrupted")
        return INTERRUPTED
    finally:
        logger.removeFilter(in_flags)
    return MISTAKE


class InFlags(logging.Filter):
    """Replaces Python arguments in log messages by flags.

    Args:
        argv: The command line.
    """

    def __init__(self, argv: list[str]) -> None:
        super().__init__()
        self.argv = argv

    def rewrite(self, text: str) -> str:
        """A message with the flags of the command."""
        from super_selfish.cli.commands import arguments_of
        from super_selfish.cli.names import with_flags

        advised = []
        if self.argv[:1] == ["check"]:  # advises flags of train
            from super_selfish.engine.core.setup import ImageOptions

            advised = list(ImageOptions.__annotations__)
        return with_flags(text, [*arguments_of(self.argv), *advised])

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the message of a record; none is left out."""
        record.msg, record.args = self.rewrite(record.getMessage()), ()
        return True


def run(argv: list[str]) -> int:
    """Run a command and let its errors propagate.

    Args:
        argv: The command line; an alias of an algorithm is replaced by its name.

    Returns:
        The exit status.

    Raises:
        SuperSelfishError: Whatever the command raises.
    """
    from cyclopts import CycloptsError, UnknownCommandError, UnknownOptionError

    from super_selfish.cli.commands import COMMANDS, application, arguments_of, found_elsewhere, takes_data
    from super_selfish.cli.names import algorithm_name, unknown_flag
    from super_selfish.suggestions import did_you_mean

    per_algorithm = argv[:1] in (["train"], ["preview"])
    if not argv or (per_algorithm and len(argv) == 1):
        argv.append("--help")
    if per_algorithm and argv[1].startswith("-") and argv[1] not in ("-h", "--help", "--version"):
        from super_selfish.cli.config_file import algorithm_in

        named = algorithm_in(argv) if argv[0] == "train" else None
        if named is None:
            raise ConfigurationError(
                "The algorithm is missing.",
                received=argv[1],
                fix=f"Name it first: super-selfish {argv[0]} ALGORITHM DATA. super-selfish list shows all algorithms.",
            )
        argv.insert(1, named)
    if per_algorithm and not argv[1].startswith("-") and argv != ["preview", "all", *argv[2:]]:
        argv[1] = algorithm_name(argv[1])
    try:
        status = application(argv)(argv, exit_on_error=False, print_error=False, result_action="return_value")
        return status if isinstance(status, int) else 0
    except CycloptsError as error:
        message = str(error)
        if isinstance(error, UnknownOptionError):
            word = error.token.keyword or error.token.value
            message = unknown_flag(word, arguments_of(argv), takes_data(argv), found_elsewhere(argv, word))
        elif isinstance(error, UnknownCommandError):
            message = message.partition(" Available commands")[0]
            if "Did you mean" not in message:
                fix = did_you_mean(argv[0], {name: f"--{name}" for name in ("help", "version")})
                message = " ".join(part for part in (message, fix) if part)
        known = [*argv[: 2 if per_algorithm else 1], ""] if argv[0] in COMMANDS else [""]
        print_error(f"{' '.join(message.split())} (see super-selfish {' '.join(known)}--help)")
        return MISTAKE


def print_error(text: str) -> None:
    """A line on stderr."""
    sys.stderr.write(f"super-selfish: {text}\n")
