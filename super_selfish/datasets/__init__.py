"""Many images: where they come from, what size and scale they get, and what is kept on disk."""
