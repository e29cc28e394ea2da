"""Image data sets: sources, preprocessing and caching."""
