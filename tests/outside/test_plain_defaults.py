"""Every algorithm learns its pretext task with plain defaults on photographs, or its page says what to set."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("SUPER_SELFISH_DATA", ROOT.parent / "shared" / "data"))
SHORT_TRAININGS = "## Short trainings"  # heading in docs/papers/<algorithm>.md


@pytest.mark.learn
@pytest.mark.skipif(not (DATA / "clothing10_256.tar").is_file(), reason=f"no photographs in {DATA}")
def test_defaults_beat_the_trivial_baseline(
    algorithm: str, run_python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    output = ROOT / "build" / "learning" / "plain_defaults.jsonl"
    script = str(ROOT / "benchmarks" / "plain_defaults.py")
    done = run_python(script, "--only", algorithm, "--output", str(output), timeout=7200, SUPER_SELFISH_DATA=str(DATA))
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [json.loads(line) for line in output.read_text().splitlines() if line.endswith("}")]
    row = [row for row in rows if row["name"] == algorithm][-1]
    assert row["finite"], row["error"]
    page = (ROOT / "docs" / "papers" / f"{algorithm}.md").read_text("utf-8")
    assert row["better_than_trivial"] or SHORT_TRAININGS in page, f"{row['metric']}: {row['value']}, {row['trivial']}"


@pytest.mark.slow
def test_script_without_photographs(
    algorithm: str, run_python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    arguments = [str(ROOT / "benchmarks" / "plain_defaults.py"), "--only", algorithm, "--smoke", "--output", "rows"]
    done = run_python(*arguments, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"`{algorithm}`" in done.stdout
    assert len(Path("rows").read_text().splitlines()) == 1
    assert run_python(*arguments, timeout=900).stdout == done.stdout, "a complete row is not measured again"
