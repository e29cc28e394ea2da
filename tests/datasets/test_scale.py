"""Floats whose range does not fit."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from super_selfish.supervisors import RotateNetSupervisor


def test_floats_up_to_255_where_floats_up_to_1_are_expected(caplog: pytest.LogCaptureFixture) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    supervisor = RotateNetSupervisor(images, backbone="small_resnet")
    with caplog.at_level(logging.WARNING):
        supervisor.extract(images.astype(np.float32) / 255)
        assert "range 0 to 1" not in caplog.text
        supervisor.extract(images.astype(np.float32))
    assert "are outside the range 0 to 1" in caplog.text
