"""The command ``super-selfish compare``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from super_selfish.cli.names import algorithm_name
from super_selfish.cli.output import FOLDER, echo
from super_selfish.cli.shared_flags import TrialFlags
from super_selfish.errors import ConfigurationError, DataError

if TYPE_CHECKING:
    from super_selfish.comparison.result import Comparison
    from super_selfish.datasets.image_source import ImageSource

NOT_SHOWN = 1
"""Exit status if no algorithm is shown to be better than features that need no training."""


def compare(
    data: str = FOLDER,
    /,
    *,
    labelled: str | None = None,
    budget: str = "30min",
    groups: str | None = None,
    algorithms: str | None = None,
    weights: str | None = None,
    backbone: str = "small_resnet",
    name: str = "store/compare",
    resume: bool = True,
    trials: TrialFlags,
) -> int:
    """Compare all algorithms on your images within a time budget, and recommend one.

    Prints a forecast, a line per run, and at the end the table and the verdict. Writes NAME.html, NAME.png and
    NAME.json. The same command continues after it was stopped or killed. Exit status: 0 if an algorithm is recommended;
    1 if all were excluded, the budget was too small to judge any, or none is shown to be better than features that need
    no training.

    Args:
        data: Folder of images, or CSV file of paths. Class folders are not used as labels.
        labelled: Labelled images that features are scored on: folder with one subfolder per class, or CSV file of paths
            and classes; may be DATA. Default: no scores, and a first choice among the applicable algorithms.
        budget: Total time, such as 30min, 2h or 90s.
        groups: Regular expression that finds the group of a labelled image in its path, such as "patient_[0-9]+".
            Images of a group stay together in cross-validation.
        algorithms: Names of the algorithms, separated by commas. Default: all.
        weights: Published weights that are scored as they are, separated by commas: imagenet for those of
            --backbone, or networks such as resnet18 or timm:NAME; downloaded if they are not cached.
        backbone: Network that every algorithm trains: small_resnet, efficientnet-b0, resnet18 or another classifier of
            torchvision, or timm:NAME.
        name: Path of the output files, without suffix.
        resume: Continue the comparison of this name. --no-resume: start over.
        trials: Flags of the trainings.
    """
    found = compared(
        data,
        labelled,
        groups,
        algorithms,
        weights=None if weights is None else [word.strip() for word in weights.split(",")],
        budget=budget,
        backbone=backbone,
        name=name,
        resume="auto" if resume else False,
        **vars(trials),
    )
    echo(str(found))
    echo(f"Written to {found.files[1]}.")
    return 0 if found.is_shown_to_help else NOT_SHOWN


def compared(data: str, labelled: str | None, groups: str | None, algorithms: str | None, **given: Any) -> Comparison:
    """Compare algorithms; see ``super-selfish compare``.

    Args:
        data: Images for training.
        labelled: Labelled images; None: there are none.
        groups: Regular expression for the group of a labelled image in its path; None: no groups.
        algorithms: Names, separated by commas; None: all.
        **given: Arguments of :func:`super_selfish.compare`.
    """
    from super_selfish.comparison.compare import compare as run
    from super_selfish.datasets.sources import open_source

    names = None if algorithms is None else [algorithm_name(word.strip()) for word in algorithms.split(",")]
    source = None if labelled is None else open_source(labelled)
    found = None
    if groups is not None:
        if source is None:
            raise ConfigurationError("`groups` are those of the labelled images.", fix="Pass `labelled`.")
        found = groups_of(source, groups)
    return run(open_source(data), source, groups=found, algorithms=names, **given)


def groups_of(source: ImageSource, pattern: str) -> list[str]:
    """Groups of images: what a regular expression finds in each path, or its first group if it has one.

    Raises:
        ConfigurationError: If the expression is invalid.
        DataError: If nothing is found in a path.
    """
    found = []
    for index, group in enumerate(known_groups_of(source, pattern)):
        if group is None:
            raise DataError(
                "`groups` finds nothing in the path of an image.",
                expected=f"a match of {pattern!r}",
                received=source.name(index),
            )
        found.append(group)
    return found


def known_groups_of(source: ImageSource, pattern: str) -> list[str | None]:
    """Like :func:`groups_of`, with None where nothing is found in a path.

    Raises:
        ConfigurationError: If the expression is invalid.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ConfigurationError(
            "`groups` is not a regular expression.",
            expected='such as "patient_[0-9]+"',
            received=f"{pattern!r}: {error}",
        ) from error
    matches = (expression.search(source.name(index)) for index in range(len(source)))
    return [
        None if match is None else match[1] if expression.groups and match[1] is not None else match[0]
        for match in matches
    ]
