"""Every command of the command line for every algorithm, with no flags but data, epochs and name."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from super_selfish.cli import main

SMALL = ["--resolution", "64", "--backbone", "small_resnet"]


def check_commands(run: Callable[..., int], algorithm: str, photographs: Path, *flags: str) -> None:
    """Run all commands in the order in which they are needed, and compare exit statuses and files."""
    data, name = str(photographs), "store/a"
    assert run("check", data) == 0
    assert run("preview", algorithm, data, *flags) == 0
    assert Path(f"store/preview/{algorithm}.png").stat().st_size > 1000
    assert run("train", algorithm, data, *flags, "--epochs", "1", "--name", name) == 0
    assert run("verify", name) == 0
    one_epoch = Path(f"{name}.safetensors").read_bytes()
    assert run("train", algorithm, data, *flags, "--epochs", "2", "--name", name, "--resume") == 0
    assert Path(f"{name}.safetensors").read_bytes() != one_epoch
    assert len(Path(f"{name}.history.csv").read_text().splitlines()) == 3, "a header and two epochs"
    assert run("evaluate", name, data) == 0
    assert Path(f"{name}.scores.json").is_file()
    assert run("report", name) == 0
    assert "<svg" in Path(f"{name}.html").read_text("utf-8")
    assert run("export", name) == 0
    assert Path(f"{name}_backbone.safetensors").stat().st_size > 1000
    assert run("verify", name) == 0
    assert run("verify", "store/nothing") == 2


@pytest.mark.slow
def test_commands_in_processes_of_their_own(
    algorithm: str, photographs: Path, run_python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    def run(*words: str) -> int:
        done = run_python("-m", "super_selfish", *words, timeout=900)
        assert "Traceback" not in done.stderr
        return done.returncode

    check_commands(run, algorithm, photographs)


def test_commands_on_small_images(algorithm: str, small_photographs: Path) -> None:
    check_commands(lambda *words: main(words), algorithm, small_photographs, *SMALL)
