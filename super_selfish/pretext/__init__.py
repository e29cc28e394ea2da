"""What each algorithm is fed: one file per pretext task."""
