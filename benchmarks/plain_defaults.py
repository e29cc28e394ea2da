"""Plain defaults on photographs: does every algorithm stay finite and beat the trivial baseline of its pretext task?

Each algorithm trains with its default network, optimizer and batch size on 960 photographs at 96 px for ten epochs, 300
updates. `evaluate_pretext` then scores it on 507 held-out photographs. Rows are kept, one JSON line for each algorithm;
those of other source code or settings are made again.

    python benchmarks/plain_defaults.py [--only rotate_net byol] [--smoke] [--table] [--output FILE]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

import super_selfish
from super_selfish.errors import NonFiniteLoss
from super_selfish.supervisors import all_supervisors

SHARED = Path(os.environ.get("SUPER_SELFISH_DATA", Path(__file__).parents[2] / "shared" / "data"))
ARCHIVE = "clothing10_256.tar"
SIDE, BATCH, UPDATES = 96, 32, 300
BATCHES = 30  # of an epoch


def photographs(smoke: bool) -> dict[str, np.ndarray]:
    """Photographs (N, 96, 96, 3) in uint8 to train and to test on; random ones for a smoke test."""
    if smoke:
        generator = np.random.default_rng(0)
        return {part: generator.integers(0, 256, (64, SIDE, SIDE, 3), np.uint8) for part in ("train", "test")}
    found: dict[str, list[np.ndarray]] = {"train": [], "test": []}
    with tarfile.open(SHARED / ARCHIVE) as archive:
        for member in sorted(archive, key=lambda member: hashlib.sha256(member.name.encode()).digest()):
            part = member.name.split("/")[1] if member.isfile() else ""
            if part not in found or (part == "train" and len(found[part]) == BATCHES * BATCH):
                continue
            content = np.frombuffer(archive.extractfile(member).read(), np.uint8)  # type: ignore[union-attr]
            image = cv2.cvtColor(cv2.imdecode(content, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
            side = min(image.shape[:2])
            top, left = ((length - side) // 2 for length in image.shape[:2])
            square = image[top : top + side, left : left + side]
            found[part].append(cv2.resize(square, (SIDE, SIDE), interpolation=cv2.INTER_AREA))
    return {part: np.stack(images) for part, images in found.items()}


def measure(name: str, images: dict[str, np.ndarray], updates: int) -> dict[str, Any]:
    """The row of an algorithm."""
    torch.manual_seed(0)
    batches = min(updates, len(images["train"]) // BATCH)
    supervisor = all_supervisors()[name](images["train"][: batches * BATCH])
    untrained = supervisor.evaluate_pretext(images["test"])
    begin, error = time.perf_counter(), None
    with tempfile.TemporaryDirectory() as folder:
        try:
            supervisor.supervise(
                epochs=round(updates / batches), name=Path(folder, "run"), verbose=False, checkpoint_every=0
            )
        except NonFiniteLoss as caught:
            error = str(caught)
    minutes = (time.perf_counter() - begin) / 60
    score = supervisor.evaluate_pretext(images["test"])
    losses = [entry["loss"] for entry in supervisor.history]
    finite = error is None and all(map(math.isfinite, [*losses, score.value]))
    row = {"metric": score.name, "baseline": score.baseline, "trivial": score.trivial, "untrained": untrained.value}
    row |= {"value": score.value, "better_than_trivial": score.better_than_trivial, "finite": finite, "error": error}
    return row | {"updates": supervisor.train_state.step, "losses": losses, "minutes": minutes}


def origin(options: argparse.Namespace) -> str:
    """A hash of what a row depends on: the source code of the package and the settings."""
    digest = hashlib.sha256(f"{torch.__version__} {options.updates} {options.smoke}".encode())
    for path in sorted(Path(super_selfish.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def rows_of(path: Path) -> dict[str, dict[str, Any]]:
    """The latest complete row of each algorithm."""
    rows = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:  # cut off
            continue
        rows[row["name"]] = row
    return rows


def table(rows: dict[str, dict[str, Any]]) -> str:
    lines = [
        "| | held-out pretext task | trivial baseline | untrained → trained | better | finite | updates | minutes |"
    ]
    lines.append("|---|---|---|---|---|---|---|---|")
    for name in all_supervisors():
        if row := rows.get(name):
            trivial = "none" if row["trivial"] is None else f"{row['trivial']:.3f}"
            parts = [f"`{name}`", row["metric"], f"{trivial} ({row['baseline']})"]
            parts += [f"{row['untrained']:.3f} → **{row['value']:.3f}**"]
            parts += ["yes" if row[key] else "**no**" for key in ("better_than_trivial", "finite")]
            lines.append(f"| {' | '.join([*parts, str(row['updates']), format(row['minutes'], '.1f')])} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    names = list(all_supervisors())
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--updates", type=int, default=UPDATES, help="optimizer steps (%(default)s)")
    parser.add_argument("--smoke", action="store_true", help="two updates on random images")
    parser.add_argument("--table", action="store_true", help="print the table of stored rows, train nothing")
    parser.add_argument("--output", type=Path, default=Path("build", "learning", "plain_defaults.jsonl"))
    options = parser.parse_args()
    options.updates = 2 if options.smoke else options.updates
    if not options.smoke and not options.table and not (SHARED / ARCHIVE).is_file():
        print(f"Skipped: there is no {SHARED / ARCHIVE}. Set SUPER_SELFISH_DATA to the folder that holds it.")
        return
    if not options.table:
        images, made = photographs(options.smoke), origin(options)
        options.output.parent.mkdir(parents=True, exist_ok=True)
        for name in options.only:
            if rows_of(options.output).get(name, {}).get("made") == made:
                continue
            row = {"name": name, "made": made} | measure(name, images, options.updates)
            with options.output.open("a") as lines:
                lines.write(json.dumps(row) + "\n")
    print(table(rows_of(options.output)))


if __name__ == "__main__":
    main()
