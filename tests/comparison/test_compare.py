"""Comparisons with made-up trainings and a clock that they move: order, budget, resumption, output and errors."""

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
from super_selfish.comparison import compare as compare_module
from super_selfish.comparison import page, running
from super_selfish.comparison.budget import Budget
from super_selfish.comparison.records import Row
from super_selfish.errors import CheckpointCorrupt, CheckpointError, CheckpointMismatch, ConfigurationError, DataError
from super_selfish.supervisors import all_supervisors

SCORES = {"byol": 0.9, "rotate_net": 0.7, "pirl": 0.65, "jigsaw_net": 0.6}
COUNT = 120


class MadeUp:
    """Trainings that take exactly the time that they are given, on a clock of their own.

    Attributes:
        time: The clock, in seconds.
        trained: Stage, name, seed and duration of each training.
        failing: Raise KeyboardInterrupt in this training, counted from 0.
        problems: Problems by name of the algorithm.
        step: Seconds per update.
        updates: Number of updates of each training.
    """

    def __init__(self) -> None:
        self.time = 0.0
        self.trained: list[tuple[int, str, int, float]] = []
        self.failing: int | None = None
        self.problems: dict[str, str] = {}
        self.at_chance: set[str] = set()
        self.step = 0.001
        self.updates = 100

    def now(self) -> float:
        return self.time

    def __call__(self, images: Any, groups: Any, *_: Any) -> MadeUp:
        self.images, self.groups = images, groups
        self.evaluation_seconds, self.repeats = 0.0, 1
        return self

    def step_seconds(self, algorithm: Any, pixels: Any, seconds: float) -> float:
        self.time += 1
        return self.step

    def reference(self, name: str, network: nn.Module) -> Row:
        assert isinstance(network, nn.Module)
        self.time += 2
        return self.scored(Row(name, 0, seconds=2), 0.5)

    def run(self, name: str, algorithm: Any, stage: int, seed: int, seconds: float) -> Row:
        if len(self.trained) == self.failing:
            raise KeyboardInterrupt
        self.trained.append((stage, name, seed, seconds))
        self.time += seconds
        row = Row(name, stage, seed, updates=self.updates, seconds=seconds, pretext="accuracy: 40 %")
        row.step_seconds = seconds / self.updates
        row.problem, row.at_chance = self.problems.get(name), name in self.at_chance
        return self.scored(row, SCORES.get(name, 0.52))

    def scored(self, row: Row, score: float) -> Row:
        row.quality = {"effective_rank": 12.0, "dimensions": 256}
        if self.images.has_labels:
            count = len(self.images.labels)
            row.knn = row.ridge = (np.arange(count) < score * count).astype(float).tolist()
        return row


@pytest.fixture
def writing(monkeypatch: pytest.MonkeyPatch) -> MadeUp:
    """Made-up trainings."""
    found = MadeUp()
    monkeypatch.setattr(running, "Trials", found)
    monkeypatch.setattr(compare_module, "Budget", functools.partial(Budget, now=found.now))
    return found


@pytest.fixture
def made_up(writing: MadeUp, monkeypatch: pytest.MonkeyPatch) -> MadeUp:
    """Made-up trainings, without the figure and the page, which take most of the time of a test."""
    monkeypatch.setattr(page, "write", lambda found, base: [])
    return writing


IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 32, 32, 3)).astype(np.uint8)
LABELLED = (IMAGES, np.arange(COUNT) % 3)


def test_best_finalist_is_recommended_within_the_budget(made_up: MadeUp, capsys: pytest.CaptureFixture[str]) -> None:
    found = super_selfish.compare(IMAGES, LABELLED, "30min")
    assert found.recommended == "byol"
    assert [each.name for each in found.standings] == list(SCORES)
    assert {name for stage, name, _, _ in made_up.trained if stage == 1} == set(all_supervisors())
    assert [name for stage, name, _, _ in made_up.trained if stage == 2] == list(SCORES)
    assert 0.9 * 1800 < made_up.time <= 1800
    shares = [seconds for stage, *_, seconds in made_up.trained if stage == 1]
    finals = [seconds for stage, *_, seconds in made_up.trained if stage == 2]
    assert max(shares) == pytest.approx(min(shares))
    assert finals[0] / shares[0] == pytest.approx(3.5)
    assert found.is_shown_to_help
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Comparison of 13 algorithms within 30 min")  # the forecast comes first
    assert sum(line.startswith("stage 1:") for line in lines) == 13


def test_two_seeds_within_a_budget_of_an_hour(made_up: MadeUp) -> None:
    super_selfish.compare(IMAGES, LABELLED, "1h")
    seeds = {seed for stage, _, seed, _ in made_up.trained if stage == 2}
    assert len(seeds) == 2
    assert 0 not in seeds  # stage 2 does not repeat the seed of stage 1
    assert 0.9 * 3600 < made_up.time <= 3600


def test_table_names_references_and_stage_1(made_up: MadeUp) -> None:
    text = str(super_selfish.compare(IMAGES, LABELLED))
    for word in ("reference: untrained", "reference: pixels", "reference: HOG", "reference: principal components"):
        assert word in text
    for name in all_supervisors():
        assert name in text
    assert "Recommended: byol. It is better than all other finalists." in text
    assert "better than the best reference" in text


def test_user_supplied_references_are_scored(made_up: MadeUp) -> None:
    found = super_selfish.compare(IMAGES, LABELLED, references={"own": nn.Flatten()})
    assert "own" in {row.name for row in found.rows if row.stage == 0}


def test_nothing_better_than_the_references_is_reported(made_up: MadeUp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        made_up, "scored", functools.partial(lambda _, row, score: MadeUp.scored(made_up, row, 0.5), None)
    )
    found = super_selfish.compare(IMAGES, LABELLED)
    assert not found.is_shown_to_help
    assert found.recommended is not None
    assert found.verdict[0].startswith("Training is not shown to help on these images. ")
    assert not any("Recommended:" in line for line in found.verdict)
    assert len(found.ties) == 4
    assert any("labelled images would decide" in line for line in found.verdict)


def test_dropped_algorithms_are_no_finalists(made_up: MadeUp) -> None:
    made_up.problems = {"byol": "failed: no memory", "denoise_net": "representation collapse"}
    made_up.at_chance = {"pirl"}  # but better than untrained
    found = super_selfish.compare(IMAGES, LABELLED)
    assert found.excluded["byol"] == "failed: no memory"
    assert found.recommended == "rotate_net"
    assert "pirl" in found.candidates


def test_without_labels_the_rule_answers(made_up: MadeUp) -> None:
    found = super_selfish.compare(IMAGES, budget="30min")
    assert page.figure(found).axes[0].get_xlabel() == "effective rank"
    assert found.recommended == "rotate_net"
    assert found.standings == []
    assert {stage for stage, *_ in made_up.trained} == {1}
    assert 0.9 * 1800 < made_up.time <= 1800
    text = str(found)
    assert "no number shows which algorithm is best" in text
    assert "indication only" in text
    assert "with 200" in text


def test_without_labels_rotations_that_are_not_learnable_exclude_rotate_net(made_up: MadeUp) -> None:
    made_up.at_chance = {"rotate_net"}
    found = super_selfish.compare(IMAGES)
    assert found.recommended == "exemplar_net"
    assert "chance" in found.excluded["rotate_net"]


def test_without_labels_nothing_is_recommended_from_few_updates(made_up: MadeUp) -> None:
    made_up.updates, made_up.at_chance = 20, {"rotate_net", "exemplar_net"}
    made_up.problems = {"jigsaw_net": "representation collapse"}
    found = super_selfish.compare(IMAGES, budget="2min")
    assert found.recommended is None
    assert not found.is_shown_to_help
    assert not {"rotate_net", "exemplar_net", "jigsaw_net"} & set(found.excluded)
    assert "too small to judge any algorithm on this machine (20 updates within" in found.verdict[0]
    assert "a `budget` of about 12 min would be enough" in found.verdict[1]


def test_without_labels_nothing_is_recommended_if_all_stayed_at_chance(made_up: MadeUp) -> None:
    made_up.at_chance = set(all_supervisors())
    found = super_selfish.compare(IMAGES)
    assert found.recommended is None
    assert "chance level" in found.verdict[0]


def test_without_labels_short_runs_are_named_next_to_judged_ones(
    made_up: MadeUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = made_up.run

    def uneven(name: str, *given: Any) -> Row:
        made_up.updates = 400 if name == "denoise_net" else 30
        return run(name, *given)

    monkeypatch.setattr(made_up, "run", uneven)
    found = super_selfish.compare(IMAGES, algorithms=["denoise_net", "exemplar_net"])
    assert found.recommended == "denoise_net"
    text = " ".join(found.verdict)
    assert "not judged: exemplar_net (30)" in text
    assert "400 updates" in text
    assert "first choice" not in text


def test_with_labels_few_updates_drop_nothing_and_the_budget_is_used(made_up: MadeUp) -> None:
    made_up.updates, made_up.problems = 10, dict.fromkeys(all_supervisors(), "representation collapse")
    made_up.at_chance = set(all_supervisors())
    found = super_selfish.compare(IMAGES, LABELLED, "2min")
    assert {stage for stage, *_ in made_up.trained} == {1, 2}
    assert 0.9 * 120 < made_up.time <= 120
    assert found.excluded == {}
    assert found.recommended == "byol"
    assert any("order is uncertain" in line and "would be enough" in line for line in found.verdict)


def test_with_labels_nothing_is_recommended_from_few_updates_that_beat_nothing(
    writing: MadeUp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tests.comparison.test_compare.SCORES", {"byol": 0.5, "rotate_net": 0.49})
    writing.updates, scored = 28, writing.scored
    monkeypatch.setattr(writing, "scored", lambda row, score: scored(row, min(score, 0.5)))
    found = super_selfish.compare(IMAGES, LABELLED, "3min")
    assert found.recommended is None
    assert not found.is_shown_to_help
    first = "No recommendation: the budget is too small to judge any algorithm on this machine (28 updates within"
    assert found.verdict[0].startswith(first)
    assert "No algorithm is better than the untrained network." in found.verdict[1]
    assert "would be enough" in found.verdict[2]
    text = str(found)
    assert first in text
    assert "Recommended" not in text
    assert "100 %" not in text, "probabilities from so few updates are noise"
    stored = json.loads(Path("store/compare.json").read_text())
    assert stored["recommended"] is None
    assert stored["verdict"] == found.verdict
    html = Path("store/compare.html").read_text()
    assert html.index("No recommendation") < html.index("<h2>")
    assert page.figure(found).texts[0].get_text() == "No recommendation: the budget is too small"


def test_without_labels_runs_without_features_have_no_rank(made_up: MadeUp, monkeypatch: pytest.MonkeyPatch) -> None:
    scored = made_up.scored

    def without(row: Row, score: float) -> Row:
        found = scored(row, score)
        found.quality = {} if row.name == "rotate_net" else found.quality
        return found

    monkeypatch.setattr(made_up, "scored", without)
    found = super_selfish.compare(IMAGES, algorithms=["rotation", "exemplar"])
    body = {row[0]: row for row in found.table()[1]}
    assert body["rotate_net"][2] == "–"
    assert body["reference: untrained"][2] == "12.0 of 256"
    names = [label.get_text() for label in page.figure(found).axes[0].get_yticklabels()]
    assert names == ["exemplar_net", "reference: untrained"]


def test_title_of_the_figure_is_the_verdict(made_up: MadeUp) -> None:
    found = super_selfish.compare(IMAGES, LABELLED)
    assert page.figure(found).texts[0].get_text() == "Recommended: byol"
    found = super_selfish.compare(IMAGES, name="store/other")
    assert page.figure(found).texts[0].get_text() == "First choice without labels: rotate_net"


def test_with_labels_the_verdict_is_true_if_all_are_dropped(made_up: MadeUp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.comparison.test_compare.SCORES", dict.fromkeys(all_supervisors(), 0.4))
    made_up.problems = dict.fromkeys(all_supervisors(), "representation collapse")
    found = super_selfish.compare(IMAGES, LABELLED)
    assert found.recommended is None
    assert "The rest of the budget was not used" in found.verdict[0]
    assert "budget`" not in " ".join(found.verdict)
    assert found.excluded["byol"] == "representation collapse after 100 updates"


def test_a_slow_machine_reports_the_same_numbers_everywhere(made_up: MadeUp) -> None:
    made_up.step, made_up.updates = 1.0, 20
    found = super_selfish.compare(IMAGES, budget="2min")
    assert len(found.rows) == 5  # four algorithms and the untrained network
    assert len(found.excluded) == len(all_supervisors()) - 4
    assert all("not enough time: about" in reason for reason in found.excluded.values())
    assert not any("left out" in note for note in found.notes)


def test_speed_is_measured_of_the_slowest_algorithm_that_is_never_left_out(
    made_up: MadeUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured, step_seconds = [], made_up.step_seconds
    monkeypatch.setattr(
        made_up, "step_seconds", lambda kind, *given: measured.append(kind) or step_seconds(kind, *given)
    )
    super_selfish.compare(IMAGES, algorithms=["bi_gan", "exemplar_net", "rotate_net", "byol"])
    assert measured == [all_supervisors()["rotate_net"]]


def test_labels_of_the_training_images_are_not_used(made_up: MadeUp) -> None:
    assert super_selfish.compare(LABELLED).labelled == 0


def test_nothing_is_recommended_if_all_fail(made_up: MadeUp) -> None:
    made_up.problems = dict.fromkeys(all_supervisors(), "failed: out of memory")
    found = super_selfish.compare(IMAGES, LABELLED)
    assert found.recommended is None
    assert not found.is_shown_to_help
    assert "No recommendation: all algorithms were excluded" in str(found)


@pytest.mark.parametrize("failing", [0, 5, 14])
def test_an_interrupted_comparison_continues(made_up: MadeUp, failing: int) -> None:
    made_up.failing = failing
    with pytest.raises(KeyboardInterrupt):
        super_selfish.compare(IMAGES, LABELLED)
    path = Path("store/compare.runs.jsonl")
    with path.open("a") as stream:
        stream.write('{"run": {"name": "by')  # the process was killed while it wrote a line
    made_up.failing = None
    found = super_selfish.compare(IMAGES, LABELLED)
    names = [(stage, name) for stage, name, *_ in made_up.trained]
    assert len(names) == len(set(names)) == 17
    assert found.recommended == "byol"
    assert 0.9 * 1800 < made_up.time <= 1.1 * 1800
    assert max(seconds for stage, *_, seconds in made_up.trained if stage == 1) == pytest.approx(
        min(seconds for stage, *_, seconds in made_up.trained if stage == 1)
    )
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_complete_comparison_trains_nothing_again(made_up: MadeUp) -> None:
    first = super_selfish.compare(IMAGES, LABELLED)
    made_up.failing = len(made_up.trained)
    again = super_selfish.compare(IMAGES, LABELLED)
    assert str(again) == str(first)


def test_other_images_labels_or_settings_are_refused(made_up: MadeUp) -> None:
    super_selfish.compare(IMAGES, LABELLED)
    before = Path("store/compare.runs.jsonl").read_bytes()
    for changed in ({"budget": "20min"}, {"groups": list(range(COUNT))}, {"backbone": "resnet18"}, {"seed": 1}):
        with pytest.raises(CheckpointMismatch, match=next(iter(changed))):
            super_selfish.compare(IMAGES, LABELLED, **changed)
    with pytest.raises(CheckpointMismatch, match="images"):
        super_selfish.compare(IMAGES[:100], LABELLED)
    assert Path("store/compare.runs.jsonl").read_bytes() == before


def test_starting_over_keeps_the_older_file(made_up: MadeUp) -> None:
    super_selfish.compare(IMAGES, LABELLED)
    before = Path("store/compare.runs.jsonl").read_bytes()
    super_selfish.compare(IMAGES, LABELLED, resume=False)
    assert Path("store/compare.runs.jsonl.prev").read_bytes() == before
    assert len(made_up.trained) == 34


def test_nothing_to_resume_and_a_damaged_file_are_errors(made_up: MadeUp) -> None:
    with pytest.raises(CheckpointError, match="no comparison"):
        super_selfish.compare(IMAGES, LABELLED, resume=True)
    super_selfish.compare(IMAGES, LABELLED)
    path = Path("store/compare.runs.jsonl")
    path.write_text(path.read_text().replace('"stage"', '"stag', 1))
    with pytest.raises(CheckpointCorrupt, match="resume=False"):
        super_selfish.compare(IMAGES, LABELLED)


def test_written_files(writing: MadeUp) -> None:
    found = super_selfish.compare(IMAGES, LABELLED, name="out/mine")
    assert {path.name for path in found.files} == {"mine.html", "mine.png", "mine.json", "mine.runs.jsonl"}
    assert all(path.is_file() for path in found.files)
    page = Path("out/mine.html").read_text()
    assert "Recommended: byol" in page
    assert "data:image/png;base64," in page
    assert "http" not in page.replace("http-equiv", "")
    stored = json.loads(Path("out/mine.json").read_text())
    assert stored["recommended"] == "byol"
    assert sum(path.stat().st_size for path in Path("out").iterdir()) < 1_000_000  # no weights, no features


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"budget": "soon"}, ConfigurationError),
        ({"algorithms": ["rotate_net", "rotatenet2"]}, ConfigurationError),
        ({"algorithms": ["rotate_net"]}, ConfigurationError),
        ({"backbone": "resnet19"}, ConfigurationError),
        ({"resolution": 8}, ConfigurationError),
        ({"batch_size": 1}, ConfigurationError),
        ({"device": "cuda:77"}, ConfigurationError),
        ({"resume": "maybe"}, ConfigurationError),
        ({"labelled": None, "groups": [1]}, ConfigurationError),
        ({"labelled": IMAGES}, DataError),
    ],
)
def test_invalid_arguments_are_refused_before_training(made_up: MadeUp, changed: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        super_selfish.compare(IMAGES, **{"labelled": LABELLED, **changed})
    assert made_up.trained == []


def test_aliases_and_a_selection_of_algorithms(made_up: MadeUp) -> None:
    super_selfish.compare(IMAGES, LABELLED, algorithms=["moco", "rotation"])
    assert {name for _, name, *_ in made_up.trained} == {"momentum_contrast", "rotate_net"}


def test_groups_and_duplicates_are_kept_together(made_up: MadeUp) -> None:
    images = np.concatenate([IMAGES[:60], IMAGES[:60]])
    super_selfish.compare(IMAGES, (images, np.arange(COUNT) % 3), algorithms=["moco", "rotation"])
    assert len(set(made_up.groups.tolist())) == 60
    super_selfish.compare(
        IMAGES, LABELLED, groups=np.arange(COUNT) // 4, algorithms=["moco", "rotation"], name="store/groups"
    )
    assert len(set(made_up.groups.tolist())) == 30


def test_conditions_name_images_groups_and_settings(writing: MadeUp) -> None:
    found = super_selfish.compare(
        IMAGES, LABELLED, groups=[n // 4 for n in range(COUNT)], algorithms=["moco", "rotation"]
    )
    html = Path("store/compare.html").read_text()
    for text in (str(found), html[html.index("Conditions") :]):
        assert "120 labelled images of 30 groups, 3 classes." in text
        assert "96 images for training, and 24 held out for pretext tasks." in text
        assert "Budget 30 min, 32 px, 3 channels, batch size 24, seed 0, small_resnet, cpu, super_selfish" in text
    assert "of 30 groups" in json.loads(Path("store/compare.json").read_text())["conditions"][1]


@pytest.mark.parametrize("groups", ["patient[0-9]+", ["one"] * COUNT, list(range(7)), [None] * COUNT])
def test_invalid_groups_leave_no_file(made_up: MadeUp, groups: Any) -> None:
    with pytest.raises((ConfigurationError, DataError)) as refused:
        super_selfish.compare(IMAGES, LABELLED, groups=groups)
    assert isinstance(groups, list) or "regular expression is for the command line" in str(refused.value)
    assert not Path("store/compare.runs.jsonl").exists()
    super_selfish.compare(IMAGES, LABELLED, groups=list(range(COUNT)), algorithms=["moco", "rotation"])


def test_too_few_labelled_images_leave_no_file(made_up: MadeUp) -> None:
    with pytest.raises(DataError):
        super_selfish.compare(IMAGES, (IMAGES[:8], np.arange(8) % 2))
    assert not Path("store/compare.runs.jsonl").exists()


def test_a_second_process_is_refused(made_up: MadeUp) -> None:
    with compare_module.locked(Path("store/compare")):
        pass
    Path("store").mkdir(exist_ok=True)
    held = compare_module.locked(Path("store/compare"))
    with held, pytest.raises(CheckpointError, match="Another process"):
        super_selfish.compare(IMAGES, LABELLED)


def test_sigterm_exits_with_143_and_keeps_the_runs(made_up: MadeUp, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as stopping:
        stopping.setattr(made_up, "run", lambda *_: signal.raise_signal(signal.SIGTERM))
        before = signal.getsignal(signal.SIGTERM)
        with pytest.raises(SystemExit) as stopped:
            super_selfish.compare(IMAGES, LABELLED)
    assert stopped.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == before
    super_selfish.compare(IMAGES, LABELLED, resume=True)


def folder(path: Path) -> Path:
    from PIL import Image

    for index, image in enumerate(IMAGES[:60]):
        target = path / f"class{index % 3}" / f"patient_{index // 3}_{index}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(target)
    return path


def test_command(writing: MadeUp, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = str(folder(tmp_path / "photos"))
    words = ["compare", data, "--labelled", data, "--budget", "20min", "--groups", r"patient_\d+", "--resolution", "32"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "Recommended: byol" in out
    assert "store/compare.html" in out
    assert len(set(writing.groups.tolist())) == 20
    writing.problems = dict.fromkeys(all_supervisors(), "failed")
    assert main([*words, "--no-resume"]) == 1
    assert main(["compare", data, "--budget", "soon"]) == 2
    assert main(["compare", data, "--labelled", data, "--groups", "subject", "--name", "store/b"]) == 2
    assert "--groups" in capsys.readouterr().err


def test_command_interrupted(made_up: MadeUp, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made_up.failing = 3
    data = str(folder(tmp_path / "photos"))
    assert main(["compare", data]) == 130
    assert len(Path("store/compare.runs.jsonl").read_text().splitlines()) > 3
    assert "4 runs are stored" in caplog.text
