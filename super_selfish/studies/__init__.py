"""Whether pretraining helped on the user's own images, within a time budget; see :func:`super_selfish.study`."""
