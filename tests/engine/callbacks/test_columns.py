"""History columns: a callback declares a column once, and all outputs include it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from super_selfish import load
from super_selfish.engine.callbacks import progress
from super_selfish.engine.core.callback import columns_of
from super_selfish.errors import CheckpointError
from super_selfish.reports import report
from super_selfish.supervisors import RotateNetSupervisor
from super_selfish.training import Callback, Column

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), np.uint8)


class LearningRate(Callback):
    columns = {"rate_percent": Column("Learning rate", "of the first group", True, True)}  # noqa: RUF012

    def on_epoch_end(self, run: Any) -> None:
        run.supervisor.history[-1] |= {"rate_percent": 0.25, "unlabelled": 7.5, "flag": True}


@pytest.fixture
def trained() -> RotateNetSupervisor:
    supervisor = RotateNetSupervisor(IMAGES, backbone="small_resnet")
    return supervisor.supervise(epochs=2, batch_size=4, watch=8, callbacks=[LearningRate()])


def test_custom_column_is_in_history_file_progress_and_report(
    trained: RotateNetSupervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trained.history[0]["rate_percent"] == 0.25
    rows = list(csv.DictReader(Path("store/base.history.csv").read_text().splitlines()))
    assert {"rate_percent", "unlabelled", "consistency", "effective_rank"} <= set(rows[0])
    assert [float(row["loss"]) for row in rows] == [entry["loss"] for entry in trained.history]
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("epoch")]
    assert all("Learning rate 25 %" in line and "Consistency" not in line for line in lines)
    text = report("store/base").read_text()
    assert "Learning rate" in text
    assert "unlabelled" in text


def test_columns_without_a_label_use_their_key(trained: RotateNetSupervisor) -> None:
    columns = columns_of(trained.history)
    assert columns["unlabelled"].title == "unlabelled"
    assert columns["effective_rank"].title != "effective_rank"
    assert not {"epoch", "flag"} & set(columns)
    assert next(iter(columns)) == "loss"
    assert {*[*columns][-2:]} == {"images_per_second", "data_wait"}


def test_labels_are_read_from_the_file_if_the_callback_is_not_imported(run_python: Any) -> None:
    script = """
import numpy as np
from super_selfish.supervisors import RotateNetSupervisor
from super_selfish.training import Callback, Column

class Share(Callback):
    columns = {"share": Column("A custom share", is_share=True)}

    def on_epoch_end(self, run):
        run.supervisor.history[-1]["share"] = 0.25

images = np.zeros((8, 16, 16, 3), np.uint8)
RotateNetSupervisor(images, backbone="small_resnet").supervise(epochs=1, batch_size=4, callbacks=[Share()])
"""
    assert run_python("-c", script).returncode == 0
    supervisor = load("store/base").save("store/again")
    for name in ("store/base", "store/again"):
        column = columns_of(supervisor.history, load(name).stored["columns"])["share"]
        assert (column.title, column.format(0.25)) == ("A custom share", "25 %")


@pytest.mark.parametrize("stored", [None, [], {"share": 5}, {"share": ["<b>", 1, True, True]}, {"share": ["x"] * 9}])
def test_damaged_labels_are_ignored(stored: object) -> None:
    assert columns_of([{"share": 0.5}], stored) == {"share": Column("share")}


def test_history_file_includes_resumed_epochs(trained: RotateNetSupervisor) -> None:
    trained.supervise(epochs=1, batch_size=4, verbose=False)
    assert len(list(csv.DictReader(Path("store/base.history.csv").read_text().splitlines()))) == 3


def test_values_are_formatted_by_their_column() -> None:
    assert Column("share", is_share=True).format(0.25) == "25 %"
    assert Column("number").format(1234.567, 3) == "1.23e+03"


def test_diagnosis_is_printed_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    supervisor = RotateNetSupervisor(IMAGES, backbone="small_resnet")
    supervisor.supervise(epochs=4, batch_size=4, lr=1e-9)
    assert "chance level" in capsys.readouterr().err


class LateColumn(Callback):
    def on_epoch_end(self, run: Any) -> None:
        if run.train_state.epoch >= 4:
            run.supervisor.history[-1]["late"] = 1.0
        if run.train_state.epoch == 6:
            run.supervisor.history[0]["loss"] = 0.125  # changes an earlier row


def test_the_history_file_is_appended_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time per epoch does not grow: the file is rewritten for new columns and at the end only."""
    rewritten, appended, read = [], [], []

    class Reader(Callback):
        def on_epoch_end(self, run: Any) -> None:
            path = Path("store/base.history.csv")
            read.append(len(path.read_text().splitlines()) - 1 if path.is_file() else 0)
            if run.train_state.epoch == 5:
                path.unlink()

    for name, calls in (("replacing", rewritten), ("append", appended)):
        function = getattr(progress, name)
        monkeypatch.setattr(
            progress, name, lambda *given, function=function, calls=calls: calls.append(given) or function(*given)
        )
    supervisor = RotateNetSupervisor(IMAGES, backbone="small_resnet")
    supervisor.supervise(epochs=6, batch_size=6, watch=0, verbose=False, callbacks=[LateColumn(), Reader()])
    assert read == [0, 1, 2, 3, 4, 5], "one row for each epoch before"
    assert len(appended) == 3, "epochs 2, 3 and 6"
    assert len(rewritten) == 4, "the first epoch, a new column, a file that is gone, the end"
    rows = list(csv.DictReader(Path("store/base.history.csv").read_text().splitlines()))
    assert [float(row["loss"]) for row in rows] == [entry["loss"] for entry in supervisor.history]
    assert [row["late"] for row in rows] == ["", "", "", "1.0", "1.0", "1.0"]


def test_a_row_that_cannot_be_written_is_written_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path, content: bytes) -> None:
        with path.open("ab") as stream:
            stream.write(content[:3])
        raise CheckpointError("No space left")

    monkeypatch.setattr(progress, "append", full)
    supervisor = RotateNetSupervisor(IMAGES, backbone="small_resnet")
    supervisor.supervise(epochs=4, batch_size=6, watch=0, verbose=False)
    assert caplog.text.count("No space left") == 2, "in epochs 2 and 4; in epoch 3, the file is rewritten"
    rows = list(csv.DictReader(Path("store/base.history.csv").read_text().splitlines()))
    assert [float(row["loss"]) for row in rows] == [entry["loss"] for entry in supervisor.history]
