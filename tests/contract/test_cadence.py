"""Everything that happens every n epochs or steps goes on over a resume, in mid-epoch and at the end of an epoch."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stopping import RaiseAfter

from super_selfish.engine.checkpointer import HistoryRecord
from super_selfish.training import Probe

RUN = {"epochs": 1, "batch_size": 4, "verbose": False, "watch": 0, "name": "run", "lr": 0.01}


class Preempted(Exception):
    pass


@pytest.mark.parametrize("stops", [(2, 4, 6, 10), (3, 5, 9, 11)], ids=["at epoch ends", "in mid-epoch"])
def test_the_cadence_of_probes_continues_over_resumes(stops: tuple[int, ...], make: Any, images: Any) -> None:
    labels = np.arange(8) % 2

    def train(name: str, stop: int | None) -> Any:
        supervisor = make(images(8))
        run = {**RUN, "name": name, "epochs": 6, "resume": "auto"}
        try:
            probe = Probe((images(8), labels), every=2, linear=False)
            supervisor.supervise(**run, evaluate=probe, callbacks=[RaiseAfter(stop, Preempted)])
        except Preempted:
            return None
        return [entry["epoch"] for entry in supervisor.history if "knn" in entry]

    assert train("whole", None) == [2, 4, 6]
    assert [train("parts", stop) for stop in stops] == [None] * 4
    assert train("parts", None) == [2, 4, 6]


def test_the_cadence_counts_from_the_beginning_of_the_training(make: Any, images: Any) -> None:
    supervisor = make(images(8))
    supervisor.supervise(**RUN)
    probe = Probe((images(8), np.arange(8) % 2), every=2, linear=False)
    supervisor.supervise(**{**RUN, "epochs": 3}, evaluate=probe)
    assert [entry["epoch"] for entry in supervisor.history if "knn" in entry] == [3, 4]


@pytest.mark.parametrize("every", [3, 5])
def test_checkpoints_are_written_at_the_same_steps(every: int, make: Any, images: Any) -> None:
    def written(name: str) -> list[str]:
        return sorted(path.name for path in Path(f"{name}.ckpt").glob("step-*"))

    run = {**RUN, "epochs": 6, "checkpoint_every": every, "keep": 9}
    make(images(8)).supervise(**{**run, "name": "whole"})
    with pytest.raises(Preempted):
        make(images(8)).supervise(**{**run, "name": "parts"}, callbacks=[RaiseAfter(7, Preempted)])
    make(images(8)).supervise(**{**run, "name": "parts"}, resume=True)
    assert written("parts") == written("whole")


def test_the_cost_of_a_checkpoint_does_not_grow_with_the_history() -> None:
    record = HistoryRecord()
    history = [{"epoch": epoch, "loss": math.nan} for epoch in range(1000)]
    assert json.loads(bytes(record.update(history).numpy()))[-1]["epoch"] == 999
    texts = list(record._texts)
    history.append({"epoch": 1000, "loss": 1.0, "knn": 0.5})
    history[998]["loss"] = 2.0  # a callback changes an earlier row
    found = json.loads(bytes(record.update(history).numpy()))
    assert (len(found), found[998]["loss"], found[1000]["knn"]) == (1001, 2.0, 0.5)
    assert all(one is other for one, other in zip(texts[:998], record._texts, strict=False))
    assert list(record.kinds) == [("epoch", "loss"), ("epoch", "loss", "knn")]
    assert len(json.loads(bytes(record.update(history[:3]).numpy()))) == 3
