"""Import path of the release of 2020; the networks are those of the dependency ``efficientnet_pytorch``."""

from super_selfish.efficientnet_pytorch.model import EfficientNet

__all__ = ["EfficientNet"]


def __dir__() -> list[str]:
    return sorted(__all__)
