"""Which algorithm works with which backbone: one update of each, or the error before training.

Each result is appended to a file as soon as it is measured. The same command continues, and --again repeats the cells
that did not work.

    python benchmarks/backbone_matrix.py [--only rotate_net byol] [--backbones resnet18] [--again]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from super_selfish.errors import SuperSelfishError
from super_selfish.supervisors import all_supervisors

BACKBONES: dict[str, tuple[str, int]] = {
    "resnet18": ("resnet18", 64),
    "mobilenet_v3_small": ("mobilenet_v3_small", 64),
    "ConvNeXt": ("timm:convnext_atto", 64),
    "ViT tiny, 64 px": ("timm:vit_tiny_patch16_224", 64),
    "transformers, ViT": ("transformers", 64),
    "Swin tiny": ("timm:swin_tiny_patch4_window7_224", 64),
    "ViT tiny, 224 px": ("timm:vit_tiny_patch16_224", 224),
}
"""Names of backbones and the side of the images in px, by column; the cheapest first."""

BATCH = 4


def backbone_of(name: str) -> str | nn.Module:
    """A backbone by name, or a small vision transformer of Hugging Face."""
    if name != "transformers":
        return name
    from transformers import ViTConfig, ViTModel

    size: dict[str, Any] = {"hidden_size": 192, "num_hidden_layers": 4, "num_attention_heads": 3}
    return ViTModel(ViTConfig(image_size=224, patch_size=16, intermediate_size=768, **size))


def outcome(algorithm: str, name: str, side: int) -> str:
    """The loss after one update, or the message of the error, and whether it came before training."""
    torch.manual_seed(0)
    cls = all_supervisors()[algorithm]
    images = np.random.default_rng(0).integers(0, 256, (BATCH, side, side, 3), np.uint8)
    try:
        supervisor = cls(images, backbone=backbone_of(name), resolution=side)
    except SuperSelfishError as error:
        return f"refused: {type(error).__name__}: {error}"
    try:
        before = [parameter.clone() for parameter in supervisor.backbones()[0].parameters()]
        with tempfile.TemporaryDirectory() as folder:
            supervisor.supervise(
                epochs=1, batch_size=BATCH, checkpoint_every=0, watch=0, verbose=False, name=Path(folder, "one")
            )
    except SuperSelfishError as error:
        when = "refused" if supervisor.train_state.step == 0 else "failed in training"
        return f"{when}: {type(error).__name__}: {error}"
    after = supervisor.backbones()[0].parameters()
    changed = sum(not torch.equal(*pair) for pair in zip(before, after, strict=True))
    features = supervisor.get_backbone(output="pooled")(supervisor.preprocess(images))
    loss = supervisor.history[-1]["loss"]
    return f"works: loss {loss:.3f}, {changed} of {len(before)} tensors updated, {features.shape[1]} features"


def page(found: dict[tuple[str, str], dict[str, Any]], columns: list[str], algorithms: list[str]) -> str:
    """The table, and one line for each cell."""
    lines = [f"| algorithm | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    for name in algorithms:
        cells = [
            found[name, column]["outcome"].partition(":")[0] if (name, column) in found else "" for column in columns
        ]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    notes = [f"- {name}, {column}: {cell['outcome']} ({cell['seconds']} s)" for (name, column), cell in found.items()]
    return "\n".join([*lines, "", *notes])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=list(all_supervisors()), default=list(all_supervisors()))
    parser.add_argument("--backbones", nargs="+", choices=list(BACKBONES), default=list(BACKBONES))
    parser.add_argument("--again", action="store_true", help="repeat the cells that did not work")
    parser.add_argument("--output", type=Path, default=Path("store/backbone_matrix.jsonl"), help="%(default)s")
    options = parser.parse_args()
    columns = []
    for column in options.backbones:
        package = BACKBONES[column][0].partition(":")[0]
        if package in ("timm", "transformers") and importlib.util.find_spec(package) is None:
            print(f"Skipped {column}: {package} is not installed.")
        else:
            columns.append(column)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    lines = options.output.read_text().splitlines() if options.output.is_file() else []
    found = {(cell["algorithm"], cell["column"]): cell for cell in map(json.loads, lines)}  # the last of each counts
    for column in columns:
        for algorithm in options.only:
            known = found.get((algorithm, column))
            if known is not None and not (options.again and not known["outcome"].startswith("works")):
                continue
            begin = time.perf_counter()
            cell = {"algorithm": algorithm, "column": column, "outcome": outcome(algorithm, *BACKBONES[column])}
            found[algorithm, column] = {**cell, "seconds": round(time.perf_counter() - begin, 1)}
            with options.output.open("a") as file:
                file.write(json.dumps(found[algorithm, column]) + "\n")
    print(page(found, columns, options.only))


if __name__ == "__main__":
    main()
