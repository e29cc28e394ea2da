"""Import path of the release of 2020 for ``EfficientNet``."""

from efficientnet_pytorch import EfficientNet

__all__ = ["EfficientNet"]
