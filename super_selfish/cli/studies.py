"""The command ``super-selfish study``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from super_selfish.cli.comparison import NOT_SHOWN, groups_of, known_groups_of
from super_selfish.cli.names import algorithm_name
from super_selfish.cli.output import FOLDER, echo
from super_selfish.cli.shared_flags import TrialFlags
from super_selfish.errors import ConfigurationError

if TYPE_CHECKING:
    from super_selfish.studies.result import Study


def study(
    data: str = FOLDER,
    /,
    *,
    labelled: str | None = None,
    budget: str = "30min",
    algorithm: str = "rotate_net",
    backbone: str = "small_resnet",
    weights: str | None = None,
    adapt: bool = False,
    groups: str | None = None,
    pretrain_on_test: bool = False,
    name: str = "store/study",
    resume: bool = True,
    trials: TrialFlags,
) -> int:
    """Measure whether self-supervised pretraining helps on your images, within a time budget.

    Compares the same network untrained, pretrained on the images and with --weights, by linear probes with 1, 5, 20,
    100 and all labels per class, and by fine-tuning. Prints the plan, a line per network, and at the end the table and
    the verdict. Writes NAME.html, NAME.png and NAME.json. The same command continues after it was stopped or killed.
    Exit status: 0 if pretraining is shown to help; 1 if not; 2 if an argument or the images are invalid.

    Args:
        data: Folder of images for pretraining, or CSV file of paths. Class folders are not used as labels.
        labelled: Labelled images: folder with one subfolder per class, or CSV file of paths and classes; may be DATA.
            Required.
        budget: Total time, such as 30min, 2h or 90s.
        algorithm: Pretraining algorithm, such as the one that super-selfish compare recommends.
        backbone: Network to pretrain: small_resnet, efficientnet-b0, resnet18 or another classifier of torchvision, or
            timm:NAME.
        weights: Published weights of the network to compare with as they are, such as imagenet; downloaded if they are
            not cached. Default: none.
        adapt: Also pretrain on the images starting from --weights.
        groups: Regular expression that finds the group of an image in its path, such as "patient_[0-9]+". No group is
            in both training and test, and groups of test images stay out of pretraining.
        pretrain_on_test: Pretrain on the test images too, without their labels.
        name: Path of the output files, without suffix.
        resume: Continue the study of this name. --no-resume: start over.
        trials: Flags of the trainings.
    """
    found = studied(
        data,
        labelled,
        groups,
        budget=budget,
        algorithm=algorithm_name(algorithm),
        backbone=backbone,
        weights=weights,
        adapt=adapt,
        pretrain_on_test=pretrain_on_test,
        name=name,
        resume="auto" if resume else False,
        **vars(trials),
    )
    echo(str(found))
    echo(f"Written to {found.files[1]}.")
    return 0 if found.is_shown_to_help else NOT_SHOWN


def studied(data: str, labelled: str | None, groups: str | None, **given: Any) -> Study:
    """Study pretraining; see ``super-selfish study``.

    Args:
        data: Images for pretraining.
        labelled: Labelled images.
        groups: Regular expression for the group of an image in its path; None: no groups.
        **given: Arguments of :func:`super_selfish.study`.

    Raises:
        ConfigurationError: If there are no labelled images.
    """
    from super_selfish.datasets.sources import open_source
    from super_selfish.studies.study import study as run

    if labelled is None:
        raise ConfigurationError(
            "A study needs labelled images.",
            expected="--labelled with a folder that has one subfolder per class",
            fix="Without labels, super-selfish compare lists the applicable algorithms.",
        )
    source, scored = open_source(data), open_source(labelled)
    if groups is not None:
        given["groups"], given["image_groups"] = groups_of(scored, groups), known_groups_of(source, groups)
    return run(source, scored, **given)
