"""Which algorithm works with which backbone: one update of each, or the error before training.

python benchmarks/backbone_matrix.py [--only rotate_net byol] [--backbones resnet18]
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
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
    "Swin tiny": ("timm:swin_tiny_patch4_window7_224", 64),
    "ViT tiny, 64 px": ("timm:vit_tiny_patch16_224", 64),
    "ViT tiny, 224 px": ("timm:vit_tiny_patch16_224", 224),
    "transformers, ViT": ("transformers", 64),
}
"""Names of backbones and the side of the images in px, by column."""


def backbone_of(name: str) -> str | nn.Module:
    """A backbone by name, or a small vision transformer of Hugging Face."""
    if name != "transformers":
        return name
    from transformers import ViTConfig, ViTModel

    size: dict[str, Any] = {"hidden_size": 192, "num_hidden_layers": 4, "num_attention_heads": 3}
    return ViTModel(ViTConfig(image_size=224, patch_size=16, intermediate_size=768, **size))


def outcome(algorithm: str, name: str, side: int) -> str:
    """The loss after one update, or the message of the error."""
    torch.manual_seed(0)
    cls = all_supervisors()[algorithm]
    images = np.random.default_rng(0).integers(0, 256, (4, side, side, 3), np.uint8)
    try:
        supervisor = cls(images, backbone=backbone_of(name), resolution=side)
        before = [parameter.clone() for parameter in supervisor.backbones()[0].parameters()]
        with tempfile.TemporaryDirectory() as folder:
            supervisor.supervise(
                epochs=1, batch_size=4, checkpoint_every=0, watch=0, verbose=False, name=Path(folder, "one")
            )
    except SuperSelfishError as error:
        return f"{type(error).__name__}: {error}"
    after = supervisor.backbones()[0].parameters()
    changed = sum(not torch.equal(*pair) for pair in zip(before, after, strict=True))
    features = supervisor.get_backbone(output="pooled")(supervisor.preprocess(images))
    loss = supervisor.history[-1]["loss"]
    return f"works: loss {loss:.3f}, {changed} of {len(before)} tensors updated, {features.shape[1]} features"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=list(all_supervisors()), default=list(all_supervisors()))
    parser.add_argument("--backbones", nargs="+", choices=list(BACKBONES), default=list(BACKBONES))
    options = parser.parse_args()
    columns = []
    for column in options.backbones:
        package = BACKBONES[column][0].partition(":")[0]
        if package in ("timm", "transformers") and importlib.util.find_spec(package) is None:
            print(f"Skipped {column}: {package} is not installed.")
        else:
            columns.append(column)
    print(f"| algorithm | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    notes: list[str] = []
    for algorithm in options.only:
        cells = []
        for column in columns:
            begin = time.perf_counter()
            found = outcome(algorithm, *BACKBONES[column])
            cells.append("works" if found.startswith("works") else "refused")
            notes.append(f"{algorithm}, {column}: {found} ({time.perf_counter() - begin:.1f} s)")
            print(notes[-1], file=sys.stderr, flush=True)
        print(f"| `{algorithm}` | {' | '.join(cells)} |", flush=True)
    print("\n" + "\n".join(f"- {note}" for note in notes))


if __name__ == "__main__":
    main()
