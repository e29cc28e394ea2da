"""Old import paths; what they name lives in other modules."""

from colorama import Fore, Style

from super_selfish.evaluation.classification import classification_loss, test

__all__ = ["bcolors", "classification_loss", "test"]


class bcolors:  # noqa: N801 - the name that user scripts import
    """Colours for terminal output."""

    HEADER = Fore.MAGENTA
    OKBLUE = Fore.BLUE
    OKGREEN = Fore.GREEN
    WARNING = Fore.YELLOW
    FAIL = Fore.RED
    ENDC = Style.RESET_ALL
    BOLD = Style.BRIGHT
    UNDERLINE = "\033[4m"
