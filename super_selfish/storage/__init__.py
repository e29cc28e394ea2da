"""Everything that touches the formats on disk: weights files, checkpoints, locks."""
