"""Studies with made-up networks and a clock that they move: verdict, budget, resumption, output and errors."""

from __future__ import annotations

import functools
import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

import super_selfish
from super_selfish.cli import main
from super_selfish.comparison.budget import Budget
from super_selfish.errors import CheckpointError, CheckpointMismatch, ConfigurationError, DataError
from super_selfish.studies import arguments, page
from super_selfish.studies import study as study_module
from super_selfish.studies.cohort import ALL, Cohort
from super_selfish.studies.plan import Costs, StudyPlan
from super_selfish.studies.records import ADAPTED, PRETRAINED, PUBLISHED, TRAINED, UNTRAINED, StudyRow

COUNT = 400
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 32, 32, 3)).astype(np.uint8)
LABELS = np.arange(COUNT) % 4
LABELLED = (IMAGES, LABELS)
ACCURACY = {1: 0.3, 5: 0.4, 20: 0.5, 100: 0.6, ALL: 0.65}


class MadeUp:
    """Networks that take exactly the time that they are given, on a clock of their own.

    Attributes:
        time: The clock, in seconds.
        made: Arm, seed and duration of the pretraining of each network.
        gains: How much more accurate than the untrained network an arm is.
        failing: Raise KeyboardInterrupt at this network, counted from 0.
        slower: Factor by which scores take longer than measured.
        update: Seconds per update of pretraining.
        updates: Number of updates of each pretraining.
        problem: Problem of pretraining; None: there is none.
    """

    def __init__(self) -> None:
        self.time = 0.0
        self.made: list[tuple[str, int, float]] = []
        self.gains: dict[str, float] = {}
        self.failing: int | None = None
        self.slower = 1.0
        self.update = 0.05
        self.updates = 1000
        self.problem: str | None = None
        self.shrunk: list[int] = []
        self.rates: list[dict[str, float]] = []

    def now(self) -> float:
        return self.time

    def __call__(self, cohort: Cohort, *_: Any) -> MadeUp:
        self.cohort = cohort
        return self

    def shrink(self, side: int) -> None:
        self.shrunk.append(side)

    def update_seconds(self, side: int, seconds: float) -> float:
        self.time += 1
        return self.update

    def costs(self, counts: list[int], update: float, limit: float) -> Costs:
        self.time += 2
        return Costs(update, 0.5, dict.fromkeys(counts, 0.05), 0.01)

    def run(
        self, arm: str, seed: int, seconds: float, plan: StudyPlan, rates: dict[str, float], end: float
    ) -> StudyRow:
        if len(self.made) == self.failing:
            raise KeyboardInterrupt
        self.made.append((arm, seed, seconds))
        self.rates.append(rates)
        scoring = plan.scoring[arm] if not rates else plan.scoring_again[arm]
        self.time += seconds
        scored = min(scoring * self.slower, max(0.0, end - self.time))
        self.time += scored
        row = StudyRow(arm, seed, updates=self.updates, pretraining=seconds, seconds=seconds + scored)
        row.rates = rates or {str(count): 1e-3 for count in plan.tuned}
        row.problem = self.problem if arm in TRAINED else None
        if row.problem is None:
            self.fill(row, plan)
        return row

    def fill(self, row: StudyRow, plan: StudyPlan) -> None:
        test = len(self.cohort.test)
        difficulty = np.random.default_rng(0).random(test)
        noise = np.random.default_rng([row.seed, *row.arm.encode()])
        for method, counts, draws in (("probe", plan.counts, plan.draws), ("tuned", plan.tuned, plan.tuned_draws)):
            for draw in range(draws):
                for count in counts:
                    chance = ACCURACY[count] + self.gains.get(row.arm, 0.0)
                    if not (count == ALL and draw):
                        row.add(method, count, draw, difficulty + noise.normal(0, 0.05, test) < chance)


@pytest.fixture
def writing(monkeypatch: pytest.MonkeyPatch) -> MadeUp:
    """Made-up networks."""
    found = MadeUp()
    monkeypatch.setattr(study_module, "Lab", found)
    monkeypatch.setattr(arguments, "StartingWeights", lambda *_: nn.Identity())
    monkeypatch.setattr(nn.Identity, "into", lambda self, network: network, raising=False)
    monkeypatch.setattr(study_module, "Budget", functools.partial(Budget, now=found.now))
    return found


@pytest.fixture
def made_up(writing: MadeUp, monkeypatch: pytest.MonkeyPatch) -> MadeUp:
    """Made-up networks, without the figure and the page, which take most of the time of a test."""
    monkeypatch.setattr(page, "write", lambda found, base: [])
    return writing


ALL_ARMS = {"weights": "imagenet", "backbone": "resnet18", "adapt": True}


def test_a_gain_is_found(made_up: MadeUp, capsys: pytest.CaptureFixture[str]) -> None:
    made_up.gains = {PRETRAINED: 0.12}
    found = super_selfish.study(IMAGES, LABELLED)
    assert found.outcome == "helped"
    assert found.is_shown_to_help
    assert found.gain is not None
    assert found.gain.difference.low > 0.05
    assert found.gain.difference.value == pytest.approx(0.12, abs=0.04)
    assert found.verdict[0].startswith("Pretraining helped:")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Study of rotate_net within 30 min")  # the plan comes first
    assert len(lines) == 5


def test_no_gain_names_the_images_needed(made_up: MadeUp) -> None:
    made_up.gains = {PRETRAINED: 0.012}
    found = super_selfish.study(IMAGES, LABELLED)
    assert found.outcome == "no difference shown"
    assert not found.is_shown_to_help
    assert "test images" in found.verdict[0]
    assert f"{found.test} were used" in found.verdict[0]
    assert "untrained needs" not in str(found)  # a matter of chance
    assert not any("as accurate as" in line for line in found.verdict)


def test_a_loss_is_harm(made_up: MadeUp) -> None:
    made_up.gains = {PRETRAINED: -0.12}
    found = super_selfish.study(IMAGES, LABELLED)
    assert found.outcome == "harmed"
    assert not found.is_shown_to_help


@pytest.mark.parametrize("gain", [-0.1, 0.0])
def test_a_short_pretraining_is_not_judged(made_up: MadeUp, gain: float) -> None:
    made_up.gains, made_up.updates, made_up.update = {PRETRAINED: gain}, 160, 3.0
    found = super_selfish.study(IMAGES, LABELLED)
    assert found.outcome == "too short to judge"
    assert found.verdict[0].startswith(
        "Pretraining was too short to judge: it made 160 updates, fewer than 300. So far,"
    )
    assert "percentage points" in found.verdict[0]
    assert "harmed" not in str(found)
    assert page.figure(found).texts[0].get_text() == "Did pretraining help? Too short to judge"
    assert "updates of pretraining" not in str(found), "only the number that was made is stated"


def test_a_short_pretraining_may_help(made_up: MadeUp) -> None:
    made_up.gains, made_up.updates = {PRETRAINED: 0.2}, 160
    assert super_selfish.study(IMAGES, LABELLED).outcome == "helped"


def test_published_weights_suffice(made_up: MadeUp) -> None:
    made_up.gains = {PRETRAINED: 0.12, PUBLISHED: 0.2, ADAPTED: 0.2}
    found = super_selfish.study(IMAGES, LABELLED, **ALL_ARMS)
    assert found.trained == ADAPTED
    assert found.outcome == "published weights suffice"
    assert not found.is_shown_to_help
    assert found.verdict[0].startswith("Published weights suffice")


def test_adapting_may_be_better_than_published_weights(made_up: MadeUp) -> None:
    made_up.gains = {PRETRAINED: 0.05, PUBLISHED: 0.1, ADAPTED: 0.25}
    found = super_selfish.study(IMAGES, LABELLED, **ALL_ARMS)
    assert (found.outcome, found.trained) == ("helped", ADAPTED)
    assert found.versus_published is not None
    assert found.versus_published.difference.low > 0
    assert "than the published weights" in found.verdict[0]


def test_published_weights_that_do_not_help_do_not_suffice(made_up: MadeUp) -> None:
    made_up.gains = {PRETRAINED: 0.12, PUBLISHED: -0.05}
    assert super_selfish.study(IMAGES, LABELLED, weights="imagenet", backbone="resnet18").outcome == "helped"


def test_label_equivalence(made_up: MadeUp) -> None:
    made_up.gains = {PRETRAINED: 0.1}
    found = super_selfish.study(IMAGES, LABELLED)
    assert found.curves.counts == [1, 5, 20, ALL]
    assert 15 < found.equivalent[5] < 30  # 5 labels with pretraining are as good as 20 without
    assert found.equivalent[ALL] == float("inf")
    assert any("With 5 labels per class, the pretrained network is as accurate as" in line for line in found.verdict)
    assert "more than all" in str(found)


def test_failed_pretraining_has_no_verdict(made_up: MadeUp) -> None:
    made_up.problem = "the loss of pretraining became infinite or NaN"
    found = super_selfish.study(IMAGES, LABELLED)
    assert found.outcome == "failed"
    assert "no verdict" in str(found)
    assert "NaN" in str(found)


@pytest.mark.parametrize("slower", [0.5, 1.0, 3.0, 10.0])
@pytest.mark.parametrize("budget", [60.0, 1800.0])
def test_the_study_keeps_to_the_budget(made_up: MadeUp, budget: float, slower: float) -> None:
    made_up.slower = slower
    found = super_selfish.study(IMAGES, LABELLED, budget, **ALL_ARMS)
    assert 0.5 * budget < made_up.time <= 1.1 * budget
    assert found.outcome == "no difference shown"


def test_all_seeds_and_arms_of_the_plan_run_in_order(made_up: MadeUp) -> None:
    super_selfish.study(IMAGES, LABELLED, "2h", seed=3, **ALL_ARMS)
    first = [UNTRAINED, PUBLISHED, PRETRAINED, ADAPTED]
    assert [(arm, seed) for arm, seed, _ in made_up.made] == [(arm, 3) for arm in first] + [
        (arm, 4) for arm in first if arm != PUBLISHED
    ]
    lengths = [seconds for arm, _, seconds in made_up.made if arm in TRAINED]
    assert max(lengths) == pytest.approx(min(lengths))
    assert [bool(rates) for rates in made_up.rates] == [False] * 4 + [True] * 3  # chosen once per arm


def test_a_slow_machine_lowers_the_resolution(made_up: MadeUp) -> None:
    made_up.update = 5.0
    images = np.repeat(np.repeat(IMAGES, 2, axis=1), 2, axis=2)
    found = super_selfish.study(images, (images, LABELS))
    assert set(made_up.shrunk) == {32}
    assert any("Resolution lowered" in note for note in found.notes)
    made_up.shrunk.clear()
    super_selfish.study(images, (images, LABELS), resolution=64, name="store/b")
    assert made_up.shrunk == []


@pytest.mark.parametrize("failing", [0, 1, 3])
def test_an_interrupted_study_continues_with_the_same_result(made_up: MadeUp, failing: int) -> None:
    made_up.gains = {PRETRAINED: 0.12}
    whole = super_selfish.study(IMAGES, LABELLED, name="store/whole")
    made_up.made.clear()
    made_up.failing = failing
    with pytest.raises(KeyboardInterrupt):
        super_selfish.study(IMAGES, LABELLED)
    path = Path("store/study.runs.jsonl")
    with path.open("a") as stream:
        stream.write('{"run": {"arm": "pre')  # the process was killed while it wrote a line
    made_up.failing = None
    found = super_selfish.study(IMAGES, LABELLED)
    assert len(made_up.made) == len({(arm, seed) for arm, seed, _ in made_up.made}) == 4
    assert [row.probe for row in found.rows] == [row.probe for row in whole.rows]
    assert found.verdict == whole.verdict
    assert found.left_out == whole.left_out
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_complete_study_trains_nothing_again(made_up: MadeUp) -> None:
    first = super_selfish.study(IMAGES, LABELLED)
    made_up.failing = len(made_up.made)
    assert str(super_selfish.study(IMAGES, LABELLED)) == str(first)


def test_other_images_or_settings_are_refused(made_up: MadeUp) -> None:
    super_selfish.study(IMAGES, LABELLED)
    before = Path("store/study.runs.jsonl").read_bytes()
    changes: list[dict[str, Any]] = [{"algorithm": "byol"}, {"pretrain_on_test": True}, {"seed": 1}, {"adapt": True}]
    for changed in changes:
        more = {"weights": "imagenet", "backbone": "resnet18"} if "adapt" in changed else {}
        with pytest.raises(CheckpointMismatch, match=next(iter(changed))):
            super_selfish.study(IMAGES, LABELLED, **changed, **more)
    with pytest.raises(CheckpointMismatch, match="another study"):
        super_selfish.study(IMAGES[:300], LABELLED)
    assert Path("store/study.runs.jsonl").read_bytes() == before
    with pytest.raises(CheckpointError, match="no study"):
        super_selfish.study(IMAGES, LABELLED, resume=True, name="store/other")


def test_a_second_process_is_refused(made_up: MadeUp) -> None:
    Path("store").mkdir()
    with study_module.locked(Path("store/study").resolve(), "study"), pytest.raises(CheckpointError, match="Another"):
        super_selfish.study(IMAGES, LABELLED)


def test_sigterm_exits_with_143_and_keeps_the_runs(made_up: MadeUp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made_up, "update_seconds", lambda *_: signal.raise_signal(signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stopped:
        super_selfish.study(IMAGES, LABELLED)
    assert stopped.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == before


def test_written_files(writing: MadeUp) -> None:
    writing.gains = {PRETRAINED: 0.12, PUBLISHED: 0.05, ADAPTED: 0.2}
    found = super_selfish.study(IMAGES, LABELLED, name="out/mine", **ALL_ARMS)
    assert {path.name for path in found.files} == {"mine.html", "mine.png", "mine.json", "mine.runs.jsonl"}
    content = Path("out/mine.html").read_text()
    assert "Pretraining helped" in content
    assert "data:image/png;base64," in content
    assert "http" not in content.replace("http-equiv", "")
    assert "width=device-width" in content
    stored = json.loads(Path("out/mine.json").read_text())
    assert stored["outcome"] == "helped"
    assert set(stored["linear_probe"]) == {UNTRAINED, PUBLISHED, PRETRAINED, ADAPTED}
    assert stored["hours"][ADAPTED] > 0
    assert sum(path.stat().st_size for path in Path("out").iterdir()) < 1_000_000  # no weights, no features
    labels = [text.get_text() for text in page.figure(found).axes[0].get_legend().get_texts()]
    assert "pretrained on the images: linear probe" in labels
    assert "supervised from scratch" in labels


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"budget": "soon"}, ConfigurationError),
        ({"algorithm": "rotatenet2"}, ConfigurationError),
        ({"algorithm": None}, ConfigurationError),
        ({"backbone": "resnet19"}, ConfigurationError),
        ({"backbone": nn.Flatten(), "weights": "imagenet"}, ConfigurationError),
        ({"adapt": True}, ConfigurationError),
        ({"resolution": 8}, ConfigurationError),
        ({"device": "cuda:77"}, ConfigurationError),
        ({"resume": "maybe"}, ConfigurationError),
        ({"image_groups": [1]}, ConfigurationError),
        ({"groups": [1, 2]}, DataError),
        ({"groups": "patient_[0-9]+"}, ConfigurationError),
        ({"groups": list(range(COUNT)), "image_groups": "patient_[0-9]+"}, ConfigurationError),
        ({"labelled": None}, ConfigurationError),
        ({"labelled": IMAGES}, DataError),
        ({"labelled": (IMAGES[:30], LABELS[:30])}, ConfigurationError),
        ({"algorithm": "split_brain", "images": IMAGES[..., :1], "labelled": (IMAGES[..., :1], LABELS)}, DataError),
    ],
)
def test_invalid_arguments_are_refused_before_training(made_up: MadeUp, changed: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        super_selfish.study(**{"images": IMAGES, "labelled": LABELLED, **changed})
    assert made_up.made == []
    assert not Path("store/study.runs.jsonl").exists()


def test_groups_of_the_same_images_are_known(made_up: MadeUp) -> None:
    groups = (np.arange(COUNT) // 4).tolist()
    found = super_selfish.study(LABELLED, LABELLED, groups=groups)
    assert found.left_out["test images or exact copies"] > 0
    assert not any("no known group" in note for note in found.notes)
    other = 255 - IMAGES
    found = super_selfish.study(other, LABELLED, groups=groups, name="store/other")
    assert "400 labelled images of 100 groups, 4 classes." in str(found)
    assert any(note.startswith("The images for pretraining have no known group") for note in found.notes)
    mixed = [None, *groups[1:]]
    found = super_selfish.study(other, LABELLED, groups=groups, image_groups=mixed, name="store/mixed")
    assert any(note.startswith("1 of ") for note in found.notes)
    found = super_selfish.study(other, LABELLED, groups=groups, image_groups=groups, name="store/third")
    assert found.left_out["in a group of test images"] == found.test


def folder(path: Path) -> Path:
    from PIL import Image

    for index, image in enumerate(IMAGES[:80]):
        target = path / f"class{index % 2}" / f"patient_{index // 2}_{index}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(target)
    return path


def test_command(writing: MadeUp, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = str(folder(tmp_path / "photos"))
    writing.gains = {PRETRAINED: 0.5}
    words = ["study", data, "--labelled", data, "--budget", "20min", "--groups", r"patient_\d+", "--algorithm", "moco"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "Pretraining helped" in out
    assert "store/study.html" in out
    assert int(writing.cohort.groups.max()) == 39
    writing.gains = {}
    assert main([*words, "--no-resume"]) == 1


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--labelled", "photos", "--budget", "soon"],
        ["--labelled", "photos", "--algorithm", "rotatenet2"],
        ["--labelled", "photos", "--groups", "subject"],
        ["--labelled", "photos/class0"],
        ["--labelled", "nowhere"],
        ["--labelled", "photos", "--adapt"],
    ],
)
def test_bad_input_of_the_command_is_status_2_before_training(
    made_up: MadeUp, tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder(tmp_path / "photos")
    assert main(["study", "photos", *words]) == 2
    assert made_up.made == []
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_command_interrupted(made_up: MadeUp, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made_up.failing = 1
    data = str(folder(tmp_path / "photos"))
    assert main(["study", data, "--labelled", data]) == 130
    assert "1 runs are stored" in caplog.text
