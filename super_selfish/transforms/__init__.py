"""Augmentations: from an image and a key to a changed image."""
