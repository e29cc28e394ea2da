"""The command ``super-selfish``.

A user's mistake is one line on stderr and exit status 2, without a traceback; Ctrl-C exits with 130, a signal that asks
to stop, with 143 once everything is stored.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from super_selfish.distributed.launching import launch
from super_selfish.errors import SuperSelfishError

DAMAGED = 1
MISTAKE = 2
INTERRUPTED = 130
BROKEN_PIPE = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: Its words; None for those that the process was started with.

    Returns:
        The exit status: 0; 1 if `check` or `verify` found damage; 2 after a mistake; 130 after Ctrl-C.
    """
    from cyclopts import CycloptsError

    from super_selfish.cli.commands import COMMANDS, application

    words = list(sys.argv[1:] if argv is None else argv)
    if not words:
        complain(f"a COMMAND is needed: {', '.join(COMMANDS)} (see super-selfish --help)")
        return MISTAKE
    if words in (["train"], ["preview"]):
        complain(f"an ALGORITHM is needed (see super-selfish {words[0]} --help)")
        return MISTAKE
    try:
        app = application(words)
        status = app(words, exit_on_error=False, print_error=False, result_action="return_value")
        if words[0] == "train" and status == 0 and (split := processes_of(words)) is not None:
            return launch(*split)  # the command itself has only made sure that all is sound
        return status if isinstance(status, int) else 0
    except CycloptsError as error:
        known = [*words[: 2 if words[0] in ("train", "preview") else 1], ""] if words[0] in COMMANDS else [""]
        complain(f"{' '.join(str(error).split())} (see super-selfish {' '.join(known)}--help)")
    except SuperSelfishError as error:
        complain(" ".join(str(error).split()))
    except BrokenPipeError:  # who read what was printed has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        complain("interrupted")
        return INTERRUPTED
    return MISTAKE


def processes_of(words: list[str]) -> tuple[list[str], int] | None:
    """The words without ``--processes`` and their number; None for one."""
    for place, word in enumerate(words):
        name, _, value = word.partition("=")
        if name == "--processes":
            number = value or "".join(words[place + 1 : place + 2])
            if number.isdecimal() and int(number) > 1:
                return [*words[:place], *words[place + (1 if value else 2) :]], int(number)
    return None


def complain(text: str) -> None:
    """A line on stderr."""
    sys.stderr.write(f"super-selfish: {text}\n")
