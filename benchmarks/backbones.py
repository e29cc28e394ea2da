"""The default backbone, forward and backward, beside every other EfficientNet-B0 that is in use.

timm's, torchvision's and efficientnet_pytorch's come as their packages make them, without their classifiers, in both
memory formats; the better one counts. Ours is measured as it is trained, with the bottleneck behind it that the others
lack, and without. Images are in the network's format already, and the loss is the mean of the output. At 225 px the
paddings of timm and torchvision give maps of 8×8 positions, ours and efficientnet_pytorch's of 7×7.

    python benchmarks/backbones.py [--rounds 9] [--sizes 225 64]
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from peers import run_with

run_with("timm")

import timm  # noqa: E402
import torch  # noqa: E402
import torchvision  # noqa: E402
from efficientnet_pytorch import EfficientNet  # noqa: E402
from timing import Spread, introduce, parser, ratios, table, take_turns, write  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from super_selfish.models import EfficientFeatures  # noqa: E402
from super_selfish.models.backbones import default_backbone  # noqa: E402

BATCH = 8
OURS = "super_selfish"
FORMATS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}


class Features(nn.Module):
    """efficientnet_pytorch's network up to its last map."""

    def __init__(self) -> None:
        super().__init__()
        self.net = EfficientNet.from_name("efficientnet-b0")

    def forward(self, x: Tensor) -> Tensor:
        return self.net.extract_features(x)


PEERS: dict[str, Callable[[], nn.Module]] = {
    "timm": lambda: timm.create_model("efficientnet_b0", num_classes=0, global_pool=""),
    "torchvision": lambda: torchvision.models.efficientnet_b0().features,
    "efficientnet_pytorch": Features,
}
OWN: dict[str, Callable[[], nn.Module]] = {
    OURS: lambda: default_backbone(norm_type="batch"),
    f"{OURS}, without bottleneck": lambda: EfficientFeatures(norm_type="batch"),
    f"{OURS}, layer norm": lambda: default_backbone(norm_type="layer"),
}


def milliseconds(net: nn.Module, images: Tensor, repeats: int) -> float:
    """Of an image, forward and backward."""
    begin = time.perf_counter()
    for _ in range(repeats):
        net(images).mean().backward()
        net.zero_grad(set_to_none=True)
    return (time.perf_counter() - begin) / repeats / len(images) * 1e3


def contestants(size: int, repeats: int) -> dict[str, Callable[[], float]]:
    images = torch.rand(BATCH, 3, size, size)
    made = {name: partial(milliseconds, make().train(), images, repeats) for name, make in OWN.items()}
    for name, make in PEERS.items():
        for kind, memory_format in FORMATS.items():
            net: Any = make().train().to(memory_format=memory_format)
            laid = images.contiguous(memory_format=memory_format)
            made[f"{name}, {kind}"] = partial(milliseconds, net, laid, repeats)
    for step in made.values():
        step()
    return made


def main() -> None:
    options = parser(__doc__, 9)
    options.add_argument("--sizes", type=int, nargs="+", default=[225, 64])
    chosen = options.parse_args()
    introduce("timm", "efficientnet-pytorch")
    rows, figures, results = [], {}, []
    for size in chosen.sizes:
        times = take_turns(contestants(size, 1 if size > 128 else 4), chosen.rounds)
        medians = {name: Spread.of(values).median for name, values in times.items()}
        fastest = min((name for name in times if name not in OWN), key=lambda name: medians[name])
        for name, values in times.items():
            speed = ratios(times[fastest], values)
            rows.append((size, name, Spread.of(values).show(1), Spread.of(speed).show()))
        for name in OWN:
            figures[f"{name} {size} px"] = ratios(times[fastest], times[name])
        figures[f"layer norm over batch norm {size} px"] = ratios(times[f"{OURS}, layer norm"], times[OURS])
        results.append({"size": size, "fastest": fastest, "milliseconds": times})
    print(f"Batches of {BATCH}, {chosen.rounds} rounds.\n")
    print(table(("px", "network", "ms an image", "speed, the fastest other being 1"), rows))
    write("backbones", figures, results, "timm", "efficientnet-pytorch")


if __name__ == "__main__":
    main()
